//! Pods come and go and leave nothing: no process, mount, namespace, control group, link,
//! open file or file on disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::runtime::conditions::{is_deleted, is_pod_running};
use kube::runtime::wait::await_condition;
use sandlot_node::StopMode;
use sha2::Digest as _;

use crate::Cluster;

/// Cycles of create, run a command, delete.
const CYCLES: usize = 1000;
/// So many at a time.
const AT_A_TIME: usize = 8;
/// Sandboxes that the node keeps ready, which come and go too.
const READY: usize = 2;

/// What the machine holds of a node, counted by kind.
type Held = BTreeMap<&'static str, usize>;

fn held(cluster: &Cluster) -> Held {
    let folder = cluster.dir.display().to_string();
    let mark = mark(&cluster.dir);
    let mut held = Held::new();
    let mut namespaces = std::collections::BTreeSet::new();
    for entry in entries(Path::new("/proc")) {
        let process = Path::new("/proc").join(&entry);
        if !entry.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let mounts = std::fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        let ours = mounts.lines().filter(|line| line.contains(&folder)).count();
        if ours > 0 {
            *held.entry("processes").or_default() += 1;
            *held.entry("mounts").or_default() += ours;
            for kind in ["net", "mnt", "ipc", "uts", "user", "pid"] {
                let name = std::fs::read_link(process.join("ns").join(kind));
                namespaces.extend(name.ok());
            }
        }
    }
    held.insert("namespaces", namespaces.len());
    let links = entries(Path::new("/sys/class/net"));
    let links = links
        .iter()
        .filter(|link| link.starts_with(&format!("sl{}-", &mark[..4])));
    held.insert("links", links.count());
    held.insert(
        "control groups",
        groups(Path::new("/sys/fs/cgroup"), &mark, 0),
    );
    for kind in ["sandboxes", "logs"] {
        held.insert(kind, entries(&cluster.dir.join(kind)).len());
    }
    held
}

/// What the names of all that a node makes begin with.
fn mark(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap();
    let digest = sha2::Sha256::digest(dir.as_os_str().as_encoded_bytes());
    digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Groups below those of the node, in every tree of them.
fn groups(dir: &Path, mark: &str, depth: usize) -> usize {
    let name = dir
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let below = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    if name == format!("sandlot-{mark}") {
        return folders
            .map(|entry| entry.path())
            .map(|path| 1 + entries_below(&path))
            .sum();
    }
    if depth > 4 {
        return 0;
    }
    folders
        .map(|entry| groups(&entry.path(), mark, depth + 1))
        .sum()
}

fn entries_below(dir: &Path) -> usize {
    let below = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| 1 + entries_below(&entry.path())).sum()
}

fn open_files() -> usize {
    entries(Path::new("/proc/self/fd")).len()
}

/// Creates a pod, runs a command in it and deletes it.
async fn cycle(cluster: &Cluster, number: usize) -> (Duration, Duration) {
    let name = format!("p{number}");
    let pods = cluster.pods();
    let begun = Instant::now();
    cluster.run(&name, "exec sleep 1000").await;
    await_condition(pods.clone(), &name, is_pod_running())
        .await
        .unwrap();
    let started = begun.elapsed();
    let begun = Instant::now();
    assert_eq!(cluster.exec(&name, "true").await.0, 0);
    let run = begun.elapsed();
    let at_once = DeleteParams::default().grace_period(0);
    let uid = match pods.delete(&name, &at_once).await.unwrap().left() {
        Some(Pod { metadata, .. }) => metadata.uid.unwrap_or_default(),
        None => return (started, run),
    };
    await_condition(pods, &name, is_deleted(&uid))
        .await
        .unwrap();
    (started, run)
}

async fn cycles(cluster: &Cluster, numbers: std::ops::Range<usize>) -> Vec<(Duration, Duration)> {
    let all = futures::stream::iter(numbers).map(|number| cycle(cluster, number));
    all.buffer_unordered(AT_A_TIME).collect().await
}

/// Waits until the machine holds no more than it should.
async fn becomes(cluster: &Cluster, most: &Held) {
    let begun = Instant::now();
    loop {
        let held = held(cluster);
        let over = held
            .iter()
            .any(|(kind, count)| *count > most.get(kind).copied().unwrap_or(0));
        if !over {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "held: {held:#?}, not {most:#?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the machine holds when nothing changes any more.
async fn at_rest(cluster: &Cluster) -> Held {
    let mut before = held(cluster);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = held(cluster);
        if now == before && now["sandboxes"] == READY {
            return now;
        }
        before = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pods_come_and_go_and_leave_nothing() {
    let cluster = Cluster::with(|config| config.sandboxes_ready = READY).await;
    cycles(&cluster, 0..2 * AT_A_TIME).await;
    let (before, files) = (at_rest(&cluster).await, open_files());
    let begun = Instant::now();
    let times = cycles(&cluster, 100..100 + CYCLES).await;
    eprintln!("{CYCLES} cycles in {:?}", begun.elapsed());
    let (mut starts, mut runs): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    for (what, times) in [("create to Running", &mut starts), ("exec", &mut runs)] {
        times.sort();
        let at = |percent: usize| times[CYCLES * percent / 100];
        eprintln!(
            "{what}, {AT_A_TIME} at a time: p50 {:?}, p99 {:?}",
            at(50),
            at(99)
        );
    }
    becomes(&cluster, &before).await;
    // Other tests of this program have files open too, but not one for each of our cycles.
    let now = open_files();
    assert!(now < files + CYCLES / 5, "{files} open files became {now}");
    cluster.node.stop(StopMode::StopPods).await;
    becomes(&cluster, &Held::new()).await;
}
