//! Pods come and go and leave nothing: no process, mount, control group, link or file.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sandlot_node::StopMode;

use crate::Cluster;

/// Cycles of create, run a command, delete.
const CYCLES: usize = 40;

/// What the machine holds that names this node's folder or belongs to its bridge.
fn held(cluster: &Cluster) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    let folder = cluster.dir.display().to_string();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let mounts = std::fs::read_to_string(path.join("mountinfo")).unwrap_or_default();
        if mounts.contains(&folder)
            && path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .parse::<u32>()
                .is_ok()
        {
            held.insert(format!("mounts of {}", path.display()));
        }
    }
    for entry in std::fs::read_dir(cluster.dir.join("sandboxes"))
        .unwrap()
        .flatten()
    {
        held.insert(entry.path().display().to_string());
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_come_and_go_leave_nothing() {
    let cluster = Cluster::with(|config| config.sandboxes_ready = 2).await;
    let (mut starts, mut execs) = (Vec::new(), Vec::new());
    for cycle in 0..CYCLES {
        let name = format!("p{cycle}");
        let begun = Instant::now();
        cluster.run(&name, "exec sleep 1000").await;
        cluster.ready(&name).await;
        starts.push(begun.elapsed());
        let begun = Instant::now();
        assert_eq!(cluster.exec(&name, "true").await.0, 0);
        execs.push(begun.elapsed());
        cluster
            .pods()
            .delete(&name, &kube::api::DeleteParams::default().grace_period(0))
            .await
            .unwrap();
        cluster
            .until(&name, "gone", serde_json::Value::is_null)
            .await;
    }
    for (what, mut times) in [("create to Ready", starts), ("exec", execs)] {
        times.sort();
        eprintln!(
            "{what}: p50 {:?}, p99 {:?}",
            times[CYCLES / 2],
            times[CYCLES * 99 / 100]
        );
    }
    // What is kept ready for the next pods: two folders, and the mounts of two keepers.
    becomes(&cluster, 4).await;
    cluster.node.stop(StopMode::StopPods).await;
    becomes(&cluster, 0).await;
}

async fn becomes(cluster: &Cluster, most: usize) {
    let begun = Instant::now();
    while held(cluster).len() > most {
        let left = held(cluster);
        assert!(begun.elapsed() < Duration::from_secs(10), "left: {left:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
