//! Pods whose containers an OCI runtime starts: the same lives, over each runtime that this
//! machine has.

use std::path::Path;
use std::time::Duration;

use sandlot_cluster::kubelet::{Kubelet as _, LogOptions, Streams, TerminalSize};
use sandlot_node::Runtime;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::Cluster;
use crate::harness::{PATIENCE, container, state};

/// The runtimes of Debian's packages, and gVisor's (`go install gvisor.dev/gvisor/runsc@go`), which
/// takes too long to build to be had for every run of the tests.
const RUNTIMES: [&str; 3] = ["runc", "crun", GVISOR];
const GVISOR: &str = "runsc";

/// The runtimes to test with; why one is left out is said.
fn runtimes() -> Vec<(&'static str, Runtime)> {
    let found = RUNTIMES
        .into_iter()
        .map(|name| (name, Runtime::named(name)));
    found
        .filter_map(|(name, found)| match found {
            Ok(runtime) => Some((name, runtime)),
            Err(error) => {
                println!("skipped for {name}: {error}");
                None
            }
        })
        .collect()
}

/// A cluster with a node for each runtime.
pub(crate) async fn clusters() -> Vec<Cluster> {
    clusters_over(runtimes()).await
}

/// The same without gVisor, whose containers' processes no other kernel than their own knows.
pub(crate) async fn clusters_on_this_kernel() -> Vec<Cluster> {
    let mut all = runtimes();
    all.retain(|(name, _)| *name != GVISOR);
    clusters_over(all).await
}

async fn clusters_over(runtimes: Vec<(&'static str, Runtime)>) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    for (name, runtime) in runtimes {
        println!("over {name}");
        clusters.push(
            Cluster::with(|config| {
                config.runtime = runtime;
                config.allow_privileged = true;
            })
            .await,
        );
    }
    clusters
}

fn once(name: &str, more: Value) -> Value {
    let mut container = json!({"name": "c", "image": "host"});
    for (key, value) in more.as_object().unwrap() {
        container[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5, "containers": [container]}})
}

fn script(script: &str) -> Value {
    json!({"command": ["sh", "-c", script]})
}

/// Whether a pod's containers meet another kernel than this machine's.
async fn has_own_kernel(cluster: &Cluster, pod: &str) -> bool {
    let (_, kernel) = cluster.exec(pod, "uname -r").await;
    kernel.contains("gvisor")
}

/// Everything of this machine that a sandbox's name is part of.
fn traces(sandbox: &str) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .filter(|line| line.contains(sandbox))
        .map(str::to_owned)
        .collect();
    let trees = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    for tree in trees.map(|tree| tree.path()) {
        let nodes = std::fs::read_dir(&tree).into_iter().flatten().flatten();
        let ours = nodes.filter(|node| node.file_name().to_string_lossy().starts_with("sandlot-"));
        for node in ours {
            let group = node.path().join(sandbox);
            if group.exists() {
                found.push(group.display().to_string());
            }
        }
    }
    found
}

fn sandboxes(cluster: &Cluster) -> Vec<String> {
    let folder = std::fs::read_dir(cluster.dir.join("sandboxes")).unwrap();
    folder
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

async fn until_gone(what: &str, left: impl Fn() -> Vec<String>) {
    let begun = std::time::Instant::now();
    while !left().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{what} left {:#?}", left());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_lives_as_it_does_without_a_runtime() {
    for cluster in clusters().await {
        cluster
            .create(once(
                "p",
                script("echo hello; echo trouble >&2; trap 'echo bye; exit 9' TERM; while :; do sleep 0.05; done"),
            ))
            .await;
        cluster.ready("p").await;
        let log = || cluster.logs("p", LogOptions::default());
        while !(log().await.contains("hello\n") && log().await.contains("trouble\n")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(
            cluster.exec("p", "echo $HOSTNAME $HOME; exit 3").await,
            (3, "p /root\n".into())
        );
        // It has its own processes, names and network, and no powers over them.
        let (_, seen) = cluster.exec("p", "cat /proc/1/comm; hostname").await;
        assert_eq!(seen, "sh\np\n");
        let (code, _) = cluster.exec("p", "mount -t tmpfs x /mnt").await;
        assert_ne!(code, 0, "mounted");
        let (_, status) = cluster.exec("p", "cat /proc/self/status").await;
        assert!(!status.contains("CapEff:\t000001ffffffffff"), "{status}");
        if !has_own_kernel(&cluster, "p").await {
            let (_, links) = cluster.exec("p", "echo $(ls /sys/class/net)").await;
            assert_eq!(links, "eth0 lo\n");
            assert!(
                status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"),
                "{status}"
            );
            let (_, users) = cluster.exec("p", "cat /proc/self/uid_map").await;
            assert!(
                !users.contains("4294967295"),
                "the machine's own users: {users}"
            );
        }

        let all = sandboxes(&cluster);
        cluster
            .pods()
            .delete("p", &Default::default())
            .await
            .unwrap();
        cluster.until("p", "gone", Value::is_null).await;
        let left = all.iter().filter(|id| !sandboxes(&cluster).contains(id));
        let removed: Vec<&String> = left.collect();
        assert_eq!(removed.len(), 1);
        until_gone("the pod", || traces(removed[0])).await;
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_told_with_codes_words_and_reasons() {
    for cluster in clusters().await {
        cluster
            .create(once(
                "coded",
                script("echo -n words > /dev/termination-log; exit 4"),
            ))
            .await;
        cluster
            .create(once("quick", json!({"command": ["true"]})))
            .await;
        cluster
            .create(once("missing", json!({"command": ["/no/such/thing"]})))
            .await;
        let coded = cluster.phase("coded", "Failed").await;
        assert_eq!(state(&coded)["terminated"]["exitCode"], 4);
        assert_eq!(state(&coded)["terminated"]["message"], "words");
        cluster.phase("quick", "Succeeded").await;
        let missing = cluster.phase("missing", "Failed").await;
        let ended = &state(&missing)["terminated"];
        assert_eq!(ended["reason"], "StartError", "{ended}");
        assert!(
            ended["message"]
                .as_str()
                .unwrap()
                .contains("/no/such/thing"),
            "{ended}"
        );
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_given_its_grace_and_the_last_of_its_output_is_kept() {
    for cluster in clusters().await {
        let mut pod = once(
            "p",
            script("trap 'echo bye; exit 7' TERM; echo set; while :; do sleep 0.05; done"),
        );
        pod["spec"]["restartPolicy"] = json!("Always");
        pod["spec"]["containers"][0]["livenessProbe"] = json!({"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 1});
        cluster.create(pod).await;
        cluster.ready("p").await;
        while cluster.logs("p", LogOptions::default()).await != "set\n" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(cluster.exec("p", "touch /tmp/sick").await.0, 0);
        let pod = cluster
            .until("p", "run again", |pod| {
                pod["status"]["containerStatuses"][0]["restartCount"] == 1
            })
            .await;
        let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!(last["exitCode"], 7, "{last}");
        let previous = LogOptions {
            previous: true,
            ..LogOptions::default()
        };
        assert_eq!(cluster.logs("p", previous).await, "set\nbye\n");
        cluster.delete("p").await;
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold() {
    for cluster in clusters().await {
        if cluster.lacks("SandlotMemoryLimits").await {
            println!("skipped: this machine has no memory limits to give");
            return cluster.stop().await;
        }
        let mut hungry = once(
            "hungry",
            json!({"command": ["python3", "-c", "x = bytearray(500 << 20); print(len(x))"]}),
        );
        hungry["spec"]["containers"][0]["resources"] =
            json!({"limits": {"memory": "160Mi", "cpu": "500m"}});
        cluster.create(hungry).await;
        let hungry = cluster.phase("hungry", "Failed").await;
        assert_eq!(state(&hungry)["terminated"]["reason"], "OOMKilled");
        assert_eq!(state(&hungry)["terminated"]["exitCode"], 137);
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_users_and_a_read_only_root_are_as_asked() {
    for cluster in clusters().await {
        cluster
            .make(
                "configmaps",
                json!({"metadata": {"name": "settings"}, "data": {"a": "one", "b": "two"}}),
            )
            .await;
        let mut pod = once("p", script("exec sleep 1000"));
        pod["spec"]["securityContext"] =
            json!({"runAsUser": 1234, "runAsGroup": 2345, "fsGroup": 3456});
        pod["spec"]["volumes"] = json!([
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "settings", "configMap": {"name": "settings"}},
        ]);
        pod["spec"]["containers"][0]["securityContext"] = json!({"readOnlyRootFilesystem": true});
        pod["spec"]["containers"][0]["volumeMounts"] = json!([
            {"name": "disk", "mountPath": "/data/deep"},
            {"name": "disk", "mountPath": "/part", "subPath": "below/it"},
            {"name": "memory", "mountPath": "/memory"},
            {"name": "settings", "mountPath": "/etc/settings"},
            {"name": "settings", "mountPath": "/etc/only-b", "subPath": "b"},
        ]);
        cluster.create(pod).await;
        cluster.ready("p").await;
        for (script, shown) in [
            ("id -u; id -g; id -G", "1234\n2345\n2345 3456\n"),
            ("echo x > /data/deep/x && cat /data/deep/x", "x\n"),
            ("cat /etc/settings/a; cat /etc/only-b", "onetwo"),
            (
                "touch /etc/settings/c 2>/dev/null || echo closed",
                "closed\n",
            ),
            ("touch /usr/c 2>/dev/null || echo closed", "closed\n"),
            ("touch /c 2>/dev/null || echo closed", "closed\n"),
            ("ls /data/deep | tr '\\n' ' '", "below x "),
            ("df --output=size /memory | tail -n1 | tr -d ' '", "1024\n"),
            (
                "grep -c . /etc/resolv.conf > /dev/null && cat /etc/hostname",
                "p\n",
            ),
            ("echo s > /dev/shm/s && cat /dev/shm/s", "s\n"),
            ("cat /proc/interrupts 2>/dev/null | wc -c", "0\n"),
        ] {
            assert_eq!(
                cluster.exec("p", script).await,
                (0, shown.to_owned()),
                "{script}"
            );
        }
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_a_terminal_has_its_size_and_its_end() {
    for cluster in clusters().await {
        let mut pod = once(
            "p",
            script("stty size; test -t 1 && echo terminal; exec sleep 1000"),
        );
        pod["spec"]["containers"][0]["tty"] = json!(true);
        cluster.create(pod).await;
        cluster.ready("p").await;
        while cluster.logs("p", LogOptions::default()).await != "24 80\r\nterminal\r\n" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (mut ours, theirs) = tokio::io::duplex(1 << 16);
        let (mut typing, keys) = tokio::io::duplex(1 << 16);
        let (sizes, resize) = mpsc::channel(1);
        let size = |width, height| TerminalSize { width, height };
        sizes.send(size(100, 30)).await.unwrap();
        let streams = Streams {
            stdin: Some(Box::new(keys)),
            stdout: Some(Box::new(theirs)),
            stderr: None,
            tty: true,
            resize,
        };
        let shell = "stty size; read line; stty size; echo $TERM; exit 5";
        let command = ["sh", "-c", shell].map(str::to_owned).to_vec();
        let talk = async {
            let mut text = String::new();
            let mut buffer = [0u8; 1024];
            while !text.contains("30 100") {
                let length = ours.read(&mut buffer).await.unwrap();
                text += &String::from_utf8_lossy(&buffer[..length]);
            }
            sizes.send(size(90, 20)).await.unwrap();
            // The size is told on another way than what is typed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            typing.write_all(b"go\n").await.unwrap();
            ours.read_to_string(&mut text).await.unwrap();
            text
        };
        let (exit, text) = tokio::join!(cluster.node.exec(container("p"), command, streams), talk);
        assert_eq!(exit.unwrap().code, 5, "{text}");
        assert!(text.contains("20 90") && text.contains("xterm"), "{text}");
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_again_finds_what_a_runtime_has_started() {
    for cluster in clusters().await {
        cluster
            .run("stays", "echo one; while :; do sleep 0.1; done")
            .await;
        cluster
            .create(once(
                "ends",
                script("while ! test -e /tmp/end; do sleep 0.05; done; echo bye; exit 9"),
            ))
            .await;
        let before = cluster.ready("stays").await;
        cluster.ready("ends").await;
        let later = "(sleep 1; touch /tmp/end) >/dev/null 2>&1 &";
        assert_eq!(cluster.exec("ends", later).await.0, 0);
        let cluster = cluster.restart_node().await;
        let ended = cluster.phase("ends", "Failed").await;
        assert_eq!(state(&ended)["terminated"]["exitCode"], 9);
        let after = cluster.ready("stays").await;
        let since = |pod: &Value| state(pod)["running"]["startedAt"].clone();
        assert_eq!(since(&before), since(&after));
        cluster
            .until_shows("stays", "echo still here", "still here")
            .await;
        cluster.delete("stays").await;
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_end_with_their_keeper() {
    for cluster in clusters_on_this_kernel().await {
        // Nobody else on this machine sleeps so long.
        let sleep = format!("{}", 1_000_000 + std::process::id());
        cluster
            .create(once("p", json!({"command": ["sleep", sleep]})))
            .await;
        cluster.ready("p").await;
        let keeper_of = |id: &String| {
            let record = cluster.dir.join("sandboxes").join(id).join("sandbox.json");
            let record: Value = serde_json::from_slice(&std::fs::read(record).ok()?).ok()?;
            let owned = record["owner"].is_object();
            owned.then(|| i32::try_from(record["keeper"].as_i64().unwrap()).unwrap())
        };
        let all = sandboxes(&cluster).into_iter();
        let mut owned = all.filter_map(|id| keeper_of(&id).map(|keeper| (id, keeper)));
        let (id, keeper) = owned.next().unwrap();
        assert_eq!(sleepers(&sleep).len(), 1);
        let keeper = nix::unistd::Pid::from_raw(keeper);
        nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGKILL).unwrap();
        let pod = cluster.phase("p", "Failed").await;
        assert_eq!(
            state(&pod)["terminated"]["reason"],
            "ContainerStatusUnknown"
        );
        until_gone("the lost pod", || sleepers(&sleep)).await;
        until_gone("the lost pod", || traces(&id)).await;
        cluster.delete("p").await;
        cluster.stop().await;
    }
}

/// Processes that sleep so long.
fn sleepers(seconds: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let command = format!("sleep\0{seconds}\0");
    all.map(|entry| entry.path().join("cmdline"))
        .filter(|file| std::fs::read_to_string(file).is_ok_and(|line| line == command))
        .map(|file| file.display().to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_containers_of_a_pod_share_is_shared_and_a_privileged_one_is_root() {
    for cluster in clusters_on_this_kernel().await {
        let mut pod = once("both", script("exec sleep 4712"));
        pod["spec"]["shareProcessNamespace"] = json!(true);
        pod["spec"]["containers"].as_array_mut().unwrap().push(
            json!({"name": "d", "image": "host", "command": ["sh", "-c", "exec sleep 4713"]}),
        );
        cluster.create(pod).await;
        cluster.ready("both").await;
        let (_, seen) = cluster
            .exec("both", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
            .await;
        assert!(
            seen.contains("sleep 4712") && seen.contains("sleep 4713"),
            "{seen}"
        );

        let mut host = once("host", script("exec sleep 1000"));
        host["spec"]["hostNetwork"] = json!(true);
        cluster.create(host).await;
        cluster.ready("host").await;
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        let (_, theirs) = cluster.exec("host", "readlink /proc/self/ns/net").await;
        assert_eq!(Path::new(theirs.trim()), ours);

        let mut root = once("root", script("exec sleep 1000"));
        root["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
        cluster.create(root).await;
        cluster.ready("root").await;
        let (code, text) = cluster.exec("root", "mount -t tmpfs x /mnt && id -u").await;
        assert_eq!((code, text.as_str()), (0, "0\n"));
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_chooses_its_runtime_by_its_class() {
    let here = runtimes();
    let cluster = Cluster::start().await;
    for (name, _) in &here {
        let mut pod = once(name, script("exec sleep 1000"));
        pod["spec"]["runtimeClassName"] = json!(name);
        cluster.create(pod).await;
        cluster.ready(name).await;
        let bundles = sandboxes(&cluster)
            .into_iter()
            .map(|id| {
                cluster
                    .dir
                    .join("sandboxes")
                    .join(id)
                    .join("c.0/bundle/config.json")
            })
            .filter(|path| path.exists())
            .count();
        assert_eq!(bundles, 1, "{name} did not start it");
        cluster.delete(name).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_with_a_kernel_each_share_the_pod_s_network_and_say_what_they_do_not_share() {
    let Some((_, runtime)) = runtimes().into_iter().find(|(name, _)| *name == GVISOR) else {
        return;
    };
    let cluster = Cluster::with(|config| config.runtime = runtime).await;
    let serve = "exec python3 -m http.server 8080";
    let mut pod = once("p", script(serve));
    pod["spec"]["shareProcessNamespace"] = json!(true);
    // One that came before must not have taken the network along.
    pod["spec"]["initContainers"] =
        json!([{"name": "before", "image": "host", "command": ["true"]}]);
    let beside = json!({"name": "d", "image": "host", "command": ["sleep", "1000"]});
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(beside);
    cluster.create(pod).await;
    let ip = cluster.ready("p").await["status"]["podIP"].clone();
    assert!(has_own_kernel(&cluster, "p").await);
    let said = cluster.event("p", "ProcessesNotShared").await;
    assert!(said.contains("shareProcessNamespace"), "{said}");
    for (container, host) in [
        ("c", "127.0.0.1"),
        ("d", "127.0.0.1"),
        ("d", ip.as_str().unwrap()),
    ] {
        let ask = format!(
            "until python3 -c 'import urllib.request as r; print(r.urlopen(\"http://{host}:8080/\", timeout=5).status)' 2>/dev/null; do sleep 0.1; done"
        );
        let of = sandlot_cluster::kubelet::ContainerRef {
            container: container.to_owned(),
            ..crate::harness::container("p")
        };
        assert_eq!(
            cluster.exec_in(of, &ask).await.unwrap(),
            (0, "200\n".to_owned())
        );
    }
    cluster.delete("p").await;
    cluster.stop().await;
}
