//! What a pod is called, and whom it asks for names: `/etc/hosts` and `/etc/resolv.conf`.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;

use crate::network::DOMAIN;

/// A host's name is never longer.
const LONGEST_HOSTNAME: usize = 63;
/// As Kubernetes has it: names with fewer dots are looked for in the cluster first.
const DOTS: &str = "ndots:5";

/// The name that the pod's processes see.
pub(crate) fn hostname(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let own = short(pod);
    match full(pod).filter(|_| spec.and_then(|spec| spec.set_hostname_as_fqdn) == Some(true)) {
        Some(full) if full.len() <= LONGEST_HOSTNAME => full,
        _ => own,
    }
}

fn short(pod: &Pod) -> String {
    let named = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    let name = named
        .or_else(|| pod.metadata.name.clone())
        .unwrap_or_default();
    let name: String = name.chars().take(LONGEST_HOSTNAME).collect();
    name.trim_end_matches(['-', '.']).to_owned()
}

/// The pod's name in the cluster, if it is one of a subdomain.
fn full(pod: &Pod) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_ref()?;
    (!subdomain.is_empty())
        .then(|| format!("{}.{subdomain}.{}.svc.{DOMAIN}", short(pod), namespace(pod)))
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// The pod as Kubernetes names it in messages: `name_namespace(uid)`.
pub(crate) fn in_full(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    format!("{name}_{}({uid})", namespace(pod))
}

/// The pod's `/etc/hosts`.
pub(crate) fn hosts(pod: &Pod, ip: &str, hostname: &str) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    let mut own = vec![short(pod)];
    own.splice(0..0, full(pod));
    if !own.iter().any(|name| name == hostname) {
        own.push(hostname.to_owned());
    }
    text.push_str(&format!("{ip}\t{}\n", own.join("\t")));
    let aliases = pod
        .spec
        .iter()
        .flat_map(|spec| spec.host_aliases.iter().flatten());
    for alias in aliases {
        let names = alias.hostnames.clone().unwrap_or_default();
        text.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
    }
    text
}

/// The pod's `/etc/resolv.conf`: by its policy the cluster's resolver or the machine's own
/// servers, and what it asks for besides.
pub(crate) fn resolv(pod: &Pod, resolver: Ipv4Addr, machine: &str) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let on_host = spec.host_network == Some(true);
    let mut found = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => Resolv::default(),
        // On the machine's own network the machine's own servers are there.
        "Default" | "ClusterFirst" if on_host => Resolv::read(machine),
        // Elsewhere they may listen where only the machine reaches them; the resolver asks them.
        "Default" => Resolv {
            servers: vec![resolver.to_string()],
            ..Resolv::read(machine)
        },
        _ => Resolv {
            servers: vec![resolver.to_string()],
            searches: [
                format!("{}.svc.{DOMAIN}", namespace(pod)),
                format!("svc.{DOMAIN}"),
                DOMAIN.to_owned(),
            ]
            .into_iter()
            .chain(Resolv::read(machine).searches)
            .collect(),
            options: vec![DOTS.to_owned()],
        },
    };
    if let Some(asked) = spec.dns_config {
        found
            .servers
            .extend(asked.nameservers.into_iter().flatten());
        found.searches.extend(asked.searches.into_iter().flatten());
        for option in asked.options.into_iter().flatten() {
            let Some(name) = option.name else { continue };
            let written = match option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            };
            found
                .options
                .retain(|known| known.split(':').next() != Some(name.as_str()));
            found.options.push(written);
        }
    }
    found.write()
}

#[derive(Default)]
struct Resolv {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolv {
    fn read(text: &str) -> Resolv {
        let mut found = Resolv::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => found.servers.extend(words.next()),
                // The last line counts.
                Some("search" | "domain") => found.searches = words.collect(),
                Some("options") => found.options.extend(words),
                _ => {}
            }
        }
        found
    }

    fn write(&self) -> String {
        let mut text = String::new();
        let mut seen = std::collections::BTreeSet::new();
        for server in self.servers.iter().filter(|server| seen.insert(*server)) {
            text.push_str(&format!("nameserver {server}\n"));
        }
        let mut seen = std::collections::BTreeSet::new();
        let searches = self.searches.iter().filter(|name| seen.insert(*name));
        let searches: Vec<&str> = searches.map(String::as_str).collect();
        if !searches.is_empty() {
            text.push_str(&format!("search {}\n", searches.join(" ")));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
    const MACHINE: &str = "# generated\nnameserver 127.0.0.53\nsearch lan\noptions edns0\n";

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec}))
            .unwrap()
    }

    fn resolv_of(spec: Value) -> String {
        resolv(&pod(spec), RESOLVER, MACHINE)
    }

    #[test]
    fn pods_look_in_their_namespace_first() {
        assert_eq!(
            resolv_of(json!({"containers": []})),
            "nameserver 10.64.0.1\nsearch a.svc.cluster.local svc.cluster.local cluster.local lan\noptions ndots:5\n"
        );
    }

    #[test]
    fn the_policy_and_the_pod_s_own_wishes_count() {
        let own = json!({"nameservers": ["1.1.1.1"], "searches": ["x"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]});
        assert_eq!(
            resolv_of(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": own})),
            "nameserver 1.1.1.1\nsearch x\noptions ndots:2 rotate\n"
        );
        assert!(
            resolv_of(json!({"containers": [], "dnsConfig": own}))
                .ends_with("options ndots:2 rotate\n")
        );
        assert_eq!(
            resolv_of(json!({"containers": [], "dnsPolicy": "Default"})),
            "nameserver 10.64.0.1\nsearch lan\noptions edns0\n"
        );
        assert_eq!(
            resolv_of(json!({"containers": [], "hostNetwork": true})),
            "nameserver 127.0.0.53\nsearch lan\noptions edns0\n"
        );
    }

    #[test]
    fn a_pod_of_a_subdomain_knows_its_full_name() {
        let spec = json!({"containers": [], "hostname": "one", "subdomain": "db"});
        let one = pod(spec.clone());
        assert_eq!(hostname(&one), "one");
        assert!(
            hosts(&one, "10.64.0.2", "one")
                .ends_with("10.64.0.2\tone.db.a.svc.cluster.local\tone\n")
        );
        let mut whole = spec;
        whole["setHostnameAsFQDN"] = json!(true);
        assert_eq!(hostname(&pod(whole)), "one.db.a.svc.cluster.local");
    }
}
