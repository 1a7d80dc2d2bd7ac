//! Ways to exhaust the machine. Each is a script that writes `burst` when it has taken more
//! than a pod may have; each is also run outside, on the machine itself, to prove that it
//! would. A neighbour must not notice.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::Cluster;
use crate::harness::{PATIENCE, state};

/// What stops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It does not get what it wants.
    Refused,
    /// The pod is ended for what it took.
    Evicted,
}

use End::{Evicted, Refused};

/// Its name, what stops it, the limits of its container, and the script; `$T` is a folder to
/// fill.
const BOMBS: &[(&str, End, &str, &str)] = &[
    (
        "memory",
        Refused,
        r#"{"memory": "64Mi"}"#,
        "python3 -c 'x=bytearray(128<<20); print(\"burst\")'",
    ),
    (
        "processes",
        Refused,
        r#"{"memory": "512Mi"}"#,
        "python3 -c '
import os, threading
threading.stack_size(1 << 16); wait = threading.Event(); n = 0
try:
    while n < 5000: threading.Thread(target=wait.wait, daemon=True).start(); n += 1
except RuntimeError: pass
print(\"burst\" if n == 5000 else n, flush=True); os._exit(0)'",
    ),
    (
        "shared-memory",
        Refused,
        r#"{"memory": "256Mi"}"#,
        "f=/dev/shm/$$; head -c 100000000 /dev/zero > $f; test $(stat -c %s $f) -gt 67108864 && echo burst; rm $f",
    ),
    (
        "devices",
        Refused,
        r#"{"memory": "256Mi"}"#,
        "f=/dev/bomb-$$; head -c 1000000 /dev/zero > $f; test $(stat -c %s $f) -gt 100000 && echo burst; rm $f",
    ),
    (
        "disk",
        Evicted,
        r#"{"ephemeral-storage": "16Mi"}"#,
        "head -c 50000000 /dev/zero > $T/big && echo burst",
    ),
    (
        "empty-files",
        Evicted,
        r#"{"ephemeral-storage": "16Mi"}"#,
        "python3 -c 'import os
for n in range(10000): open(os.environ[\"T\"] + \"/%d\" % n, \"w\").close()
print(\"burst\")'",
    ),
    (
        "deep-folders",
        Evicted,
        r#"{"ephemeral-storage": "16Mi"}"#,
        "python3 -c 'import os
os.chdir(os.environ[\"T\"])
for n in range(100): os.mkdir(\"n\" * 200); os.chdir(\"n\" * 200)
open(\"hidden\", \"wb\").write(bytes(1000000)); print(\"burst\")'",
    ),
    (
        "names-of-hosts",
        Evicted,
        r#"{"ephemeral-storage": "16Mi"}"#,
        "f=/etc/hosts; test -w /root/. -a -d /var/lib/dpkg/info && f=$T/hosts; head -c 50000000 /dev/zero >> $f && echo burst",
    ),
];

fn burst_outside(script: &str) -> bool {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let ran = Command::new("sh")
        .args(["-c", script])
        .env("T", folder.path())
        .output()
        .unwrap();
    String::from_utf8_lossy(&ran.stdout).contains("burst")
}

fn pod(name: &str, limits: &str, script: &str) -> Value {
    let limits: Value = serde_json::from_str(limits).unwrap();
    let script = format!("T=/var/tmp; export T; {script}\nexec sleep 1000");
    json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "host",
        "command": ["sh", "-c", script], "resources": {"limits": limits}}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_ends_in_its_own_pod() {
    let cluster = Cluster::start().await;
    cluster.run("neighbour", "exec sleep 1000").await;
    cluster.ready("neighbour").await;
    for (name, end, limits, script) in BOMBS {
        assert!(burst_outside(script), "{name} is no bomb");
        cluster.create(pod(name, limits, script)).await;
        match end {
            Evicted => {
                let over = cluster.phase(name, "Failed").await;
                assert_eq!(over["status"]["reason"], "Evicted", "{name}");
            }
            Refused => {
                // It is over for it when it sleeps, or when it was killed.
                let slept = async {
                    let asleep = "grep -l '^sleep' /proc/[0-9]*/cmdline | wc -l; true";
                    cluster.until_shows(name, asleep, "1").await;
                };
                let killed =
                    cluster.until(name, "over", |pod| state(pod)["terminated"].is_object());
                tokio::select! {
                    () = slept => {}
                    _ = killed => {}
                }
                let said = cluster.logs(name, Default::default()).await;
                assert!(!said.contains("burst"), "{name}: {said}");
            }
        }
        assert_eq!(
            cluster.exec("neighbour", "echo fine").await,
            (0, "fine\n".into()),
            "{name}"
        );
        cluster.delete(name).await;
        gone(&cluster.dir, name).await;
    }
    cluster.stop().await;
}

/// Waits until nothing of a pod is left on the disk.
async fn gone(dir: &Path, pod: &str) {
    let begun = Instant::now();
    let sandboxes = || std::fs::read_dir(dir.join("sandboxes")).unwrap().flatten();
    let whose = format!("\"name\":\"{pod}\"");
    let is_its = |sandbox: std::fs::DirEntry| {
        let record = std::fs::read_to_string(sandbox.path().join("sandbox.json"));
        record.is_ok_and(|record| record.replace(' ', "").contains(&whose))
    };
    while sandboxes().any(is_its) {
        assert!(begun.elapsed() < PATIENCE, "something of {pod} is left");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_flood_of_output_the_end_is_kept() {
    let flood = "head -c 100000000 /dev/zero | tr '\\0' x";
    let outside = Command::new("sh").args(["-c", flood]).output().unwrap();
    assert_eq!(outside.stdout.len(), 100_000_000);
    let cluster = Cluster::start().await;
    cluster.run("neighbour", "exec sleep 1000").await;
    cluster.ready("neighbour").await;
    let script = format!("{flood}; echo; echo last words");
    let container = json!({"name": "c", "image": "host", "command": ["sh", "-c", script],
        "resources": {"limits": {"memory": "64Mi"}}});
    cluster
        .create(json!({"metadata": {"name": "flood"},
            "spec": {"restartPolicy": "Never", "containers": [container]}}))
        .await;
    cluster.phase("flood", "Succeeded").await;
    let logs = std::fs::read_dir(cluster.dir.join("logs"))
        .unwrap()
        .flatten();
    let files = logs.flat_map(|pod| std::fs::read_dir(pod.path()).unwrap().flatten());
    let kept: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
    assert!(kept <= 22 << 20, "{kept} bytes of logs are kept");
    let said = cluster.logs("flood", Default::default()).await;
    assert!(said.ends_with("last words\n"));
    assert_eq!(
        cluster.exec("neighbour", "echo fine").await,
        (0, "fine\n".into())
    );
    cluster.stop().await;
}
