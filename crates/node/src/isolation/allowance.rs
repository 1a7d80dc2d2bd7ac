//! What a pod may ask of the machine itself, beyond what every pod has.
//!
//! Whoever may make pods is trusted as far as Kubernetes trusts them, but a pod that has the
//! machine's own network, or sets what the whole machine shares, is no sandbox any more. So
//! that is for nodes which are started to allow it.

use k8s_openapi::api::core::v1::Pod;

use crate::pod::containers;

/// Settings of a pod's own that can do no harm, as Kubernetes has them.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Settings that the kernel keeps apart for each pod; all others are the whole machine's.
const OWN: [&str; 5] = [
    "kernel.shm",
    "kernel.msg",
    "kernel.sem",
    "fs.mqueue.",
    "net.",
];

/// Why a pod may not have what it asks for, if it may not; `trusted` on a node that allows
/// privileged pods.
pub(crate) fn refuses(pod: &Pod, trusted: bool) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if spec.host_pid == Some(true) || spec.host_ipc == Some(true) {
        return Some("hostPID and hostIPC are not allowed on this node".to_owned());
    }
    let on_host = spec.host_network == Some(true);
    if on_host && !trusted {
        return Some(
            "hostNetwork is not allowed on this node; `sandlot up --allow-privileged` allows it"
                .to_owned(),
        );
    }
    let security = spec.security_context.iter();
    let sysctls = security.flat_map(|security| security.sysctls.iter().flatten());
    sysctls
        .map(|sysctl| sysctl.name.as_str())
        .find_map(|name| forbidden(name, trusted, on_host))
}

/// What a pod asks for and does without, if there is such a thing: whoever relies on it is to
/// know.
pub(crate) fn leaves_out(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    // On the machine's own network its ports are the machine's.
    if spec.host_network == Some(true) {
        return None;
    }
    let mut ports = containers(spec).flat_map(|(_, one)| one.ports.iter().flatten());
    let port = ports.find_map(|port| port.host_port.filter(|port| *port != 0))?;
    Some(format!(
        "this node opens no ports of the machine for pods: hostPort {port} leads nowhere; a \
         Service of type NodePort or `kubectl port-forward` leads to the pod"
    ))
}

fn forbidden(name: &str, trusted: bool, on_host: bool) -> Option<String> {
    let plain = name.split('.').all(|step| {
        !step.is_empty()
            && step
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    });
    if !plain || !OWN.iter().any(|own| name.starts_with(own)) {
        return Some(format!(
            "forbidden sysctl: {name:?} is not a setting of a pod's own"
        ));
    }
    if on_host && name.starts_with("net.") {
        return Some(format!(
            "forbidden sysctl: {name:?} is the machine's where the network is"
        ));
    }
    (!trusted && !SAFE.contains(&name)).then(|| {
        format!(
            "forbidden sysctl: {name:?} is not known to be safe; \
             `sandlot up --allow-privileged` allows it"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    fn setting(name: &str) -> Pod {
        let sysctls = json!([{"name": name, "value": "1"}]);
        pod(json!({"containers": [], "securityContext": {"sysctls": sysctls}}))
    }

    #[test]
    fn only_settings_of_a_pod_s_own_are_ever_made() {
        for machine_wide in [
            "kernel.core_pattern",
            "kernel.modprobe",
            "vm.swappiness",
            "fs.file-max",
            "net..ipv4",
            "net./../kernel.core_pattern",
            "",
        ] {
            assert!(
                refuses(&setting(machine_wide), true).is_some(),
                "{machine_wide}"
            );
        }
        for safe in SAFE {
            assert_eq!(refuses(&setting(safe), false), None, "{safe}");
        }
        let unsafe_ones = setting("net.core.somaxconn");
        assert!(refuses(&unsafe_ones, false).is_some());
        assert_eq!(refuses(&unsafe_ones, true), None);
    }

    #[test]
    fn a_port_of_the_machine_that_is_not_opened_is_said() {
        let asks = |host_network: bool, host_port: Option<i32>| {
            let port = json!({"containerPort": 80, "hostPort": host_port});
            leaves_out(&pod(json!({"hostNetwork": host_network,
                "containers": [{"name": "c", "ports": [port]}]})))
        };
        assert!(asks(false, Some(8080)).unwrap().contains("8080"));
        assert_eq!((asks(false, None), asks(false, Some(0))), (None, None));
        assert_eq!(asks(true, Some(80)), None);
    }

    #[test]
    fn the_machine_s_network_is_for_nodes_that_allow_it_and_its_processes_for_none() {
        let network = pod(json!({"containers": [], "hostNetwork": true}));
        assert!(refuses(&network, false).is_some());
        assert_eq!(refuses(&network, true), None);
        let mut tuned = setting("net.ipv4.tcp_rmem");
        tuned.spec.as_mut().unwrap().host_network = Some(true);
        assert!(refuses(&tuned, true).is_some());
        for what in ["hostPID", "hostIPC"] {
            assert!(refuses(&pod(json!({"containers": [], what: true})), true).is_some());
        }
    }
}
