//! The node's own object: made at the start, kept alive by a lease, marked when it stops.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::doctor;
use crate::node::Shared;
use crate::schedule::Seat;

/// As Kubernetes renews leases; watchers call a node dead after four of them.
const BETWEEN_BEATS: Duration = Duration::from_secs(10);
/// How often conditions are looked at again.
const BEATS_PER_LOOK: u32 = 6;
const MOST_PODS: usize = 2000;

/// What the machine has to give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) cpu_milli: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) pods: usize,
}

impl Capacity {
    /// Looks at the machine.
    pub(crate) fn of_machine() -> Capacity {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Capacity {
            cpu_milli: cores as u64 * 1000,
            memory_bytes: machine_memory(),
            pods: MOST_PODS,
        }
    }
}

fn machine_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<u64>()
            .ok()
    });
    kib.unwrap_or(0) * 1024
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The labels every node has.
pub(crate) fn labels(node: &str) -> BTreeMap<String, String> {
    [
        ("kubernetes.io/hostname", node),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
        ("node-role.kubernetes.io/control-plane", ""),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

fn bytes_free(dir: &Path) -> (u64, u64) {
    match nix::sys::statvfs::statvfs(dir) {
        Ok(found) => (
            found.fragment_size() * found.blocks(),
            found.fragment_size() * found.blocks_available(),
        ),
        Err(_) => (0, 0),
    }
}

fn conditions(shared: &Shared, ready: bool) -> Vec<Value> {
    let now = Timestamp::now();
    let machine = doctor::machine();
    let (total, free) = bytes_free(&shared.data_dir);
    let full = total > 0 && free < total / 20;
    let one = |kind: &str, holds: bool, reason: &str, message: String| {
        json!({"type": kind, "status": if holds { "True" } else { "False" }, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let mut all = vec![
        one(
            "MemoryPressure",
            false,
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available".into(),
        ),
        one(
            "DiskPressure",
            full,
            if full {
                "KubeletHasDiskPressure"
            } else {
                "KubeletHasNoDiskPressure"
            },
            if full {
                format!("only {free} bytes are free")
            } else {
                "kubelet has no disk pressure".into()
            },
        ),
        one(
            "PIDPressure",
            false,
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available".into(),
        ),
        one(
            "Ready",
            ready,
            if ready { "KubeletReady" } else { "NodeStopped" },
            if ready {
                "the node runs pods".into()
            } else {
                "the node was stopped".into()
            },
        ),
    ];
    for standing in shared.network.standing() {
        all.push(one(
            &standing.condition,
            standing.holds,
            standing.reason,
            standing.message.clone(),
        ));
    }
    if let Some(trouble) = shared.traffic.trouble().clone() {
        all.push(one("NetworkUnavailable", true, "RulesRefused", trouble));
    }
    for shortcoming in machine.shortcomings() {
        all.push(one(
            &shortcoming.condition,
            false,
            "NotOffered",
            shortcoming.message,
        ));
    }
    all
}

fn status(shared: &Shared, ready: bool) -> Value {
    let capacity = &shared.capacity;
    let (disk, _) = bytes_free(&shared.data_dir);
    let resources = json!({
        "cpu": format!("{}m", capacity.cpu_milli),
        "memory": format!("{}Ki", capacity.memory_bytes / 1024),
        "ephemeral-storage": format!("{}Ki", disk / 1024),
        "pods": capacity.pods.to_string(),
    });
    let system = nix::sys::utsname::uname().ok();
    let kernel = system
        .map(|system| system.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let release = read("/etc/os-release");
    let os = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or("Linux")
        .trim_matches('"')
        .to_owned();
    json!({
        "capacity": resources, "allocatable": resources, "conditions": conditions(shared, ready),
        "addresses": [
            {"type": "InternalIP", "address": shared.host_ip},
            {"type": "Hostname", "address": shared.node_name},
        ],
        "images": shared.images.status(),
        "nodeInfo": {
            "architecture": architecture(), "operatingSystem": "linux", "osImage": os, "kernelVersion": kernel,
            "containerRuntimeVersion": concat!("sandlot://", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": concat!("v1.33.0+sandlot.", env!("CARGO_PKG_VERSION")), "kubeProxyVersion": "",
            "machineID": "", "systemUUID": "", "bootID": read("/proc/sys/kernel/random/boot_id"),
        },
    })
}

/// Makes the node's object, or takes over the one from before.
pub(crate) async fn register(shared: &Arc<Shared>) -> kube::Result<()> {
    let api: Api<Node> = Api::all(shared.client.clone());
    let name = shared.node_name.as_str();
    let wanted = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels(name)}});
    let node = if api.get_opt(name).await?.is_none() {
        let node: Node = serde_json::from_value(wanted.clone()).map_err(kube::Error::SerdeError)?;
        api.create(&PostParams::default(), &node).await?
    } else {
        api.patch(name, &PatchParams::default(), &Patch::Merge(&wanted))
            .await?
    };
    // Known before the first pod is judged.
    shared
        .seat
        .send_modify(|seat| *seat = Seat::of(&node, seat, Timestamp::now()));
    let patch = json!({"status": status(shared, true)});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    beat(shared).await
}

/// Renews the lease, and now and then the conditions, until the node stops.
pub(crate) async fn keep_up(shared: Arc<Shared>) {
    let mut beats = 0u32;
    let mut images = shared.images.changes();
    loop {
        tokio::select! {
            () = shared.stopped().cancelled() => return,
            () = tokio::time::sleep(BETWEEN_BEATS) => {}
        }
        beats = beats.wrapping_add(1);
        let kept = async {
            beat(&shared).await?;
            let images_now = shared.images.changes();
            if beats.is_multiple_of(BEATS_PER_LOOK) || images_now != images {
                tell(&shared, true).await?;
                images = images_now;
            }
            Ok::<_, kube::Error>(())
        };
        match tokio::time::timeout(BETWEEN_BEATS, kept).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot renew the node's lease"),
            Err(_) => tracing::warn!("the API does not answer the node"),
        }
    }
}

/// Writes the node's status.
pub(crate) async fn tell(shared: &Shared, ready: bool) -> kube::Result<()> {
    let api: Api<Node> = Api::all(shared.client.clone());
    let patch = json!({"status": status(shared, ready)});
    api.patch_status(
        &shared.node_name,
        &PatchParams::default(),
        &Patch::Merge(patch),
    )
    .await
    .map(|_| ())
}

async fn beat(shared: &Shared) -> kube::Result<()> {
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), "kube-node-lease");
    let name = shared.node_name.as_str();
    let spec = json!({"holderIdentity": name, "leaseDurationSeconds": 40,
        "renewTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(Timestamp::now())});
    let patch = api
        .patch(
            name,
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": spec})),
        )
        .await;
    match patch {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(error)) if error.code == 404 => {
            let whole = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": spec});
            let lease: Lease = serde_json::from_value(whole).map_err(kube::Error::SerdeError)?;
            api.create(&PostParams::default(), &lease).await.map(|_| ())
        }
        Err(error) => Err(error),
    }
}
