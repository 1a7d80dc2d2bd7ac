//! Ways to exhaust the machine: pods that try to take everything, and a neighbour that must
//! not notice.

use serde_json::json;

use crate::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_ends_in_its_own_pod() {
    let cluster = Cluster::start().await;
    cluster.run("neighbour", "exec sleep 1000").await;
    cluster.ready("neighbour").await;
    for (name, script, limits) in [
        (
            "memory",
            "python3 -c 'x=[]\nwhile 1: x.append(bytearray(1<<24))'",
            json!({"memory": "64Mi"}),
        ),
        (
            "output",
            "yes | head -c 100000000",
            json!({"memory": "64Mi"}),
        ),
        (
            "files",
            "python3 -c 'for i in range(100000): open(\"/tmp/%d\" % i, \"w\")'",
            json!({"memory": "128Mi"}),
        ),
        (
            "shared-memory",
            "head -c 200000000 /dev/zero > /dev/shm/big; test $(stat -c %s /dev/shm/big) -le 67108864",
            json!({"memory": "256Mi"}),
        ),
        (
            "forks",
            "for i in $(seq 20000); do sleep 100 & done 2>/dev/null; true",
            json!({"memory": "256Mi"}),
        ),
    ] {
        let container = json!({"name": "c", "image": "host", "command": ["sh", "-c", script], "resources": {"limits": limits}});
        cluster
            .create(json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                "activeDeadlineSeconds": 10, "containers": [container]}}))
            .await;
        cluster
            .until(name, "over", |pod| {
                matches!(
                    pod["status"]["phase"].as_str(),
                    Some("Succeeded" | "Failed")
                )
            })
            .await;
        assert_eq!(
            cluster.exec("neighbour", "echo fine").await,
            (0, "fine\n".into()),
            "{name}"
        );
        let logs = std::fs::read_dir(cluster.dir.join("logs"))
            .unwrap()
            .flatten();
        let files = logs.flat_map(|pod| std::fs::read_dir(pod.path()).unwrap().flatten());
        let kept: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
        assert!(kept <= 22 << 20, "{name} left {kept} bytes of logs");
        cluster.delete(name).await;
    }
    cluster.stop().await;
}
