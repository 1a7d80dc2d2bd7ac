//! The kubeconfig in the hands of the real `kubectl`.

use std::path::Path;
use std::process::Output;

use sandlot_cluster::server::{Limits, Listen, Listening};
use sandlot_cluster::{Cluster, Config};
use tokio::process::Command;

/// A cluster that listens, and the folder with its kubeconfig.
pub(crate) struct Reachable {
    pub(crate) cluster: Cluster,
    listening: Listening,
    pub(crate) folder: tempfile::TempDir,
}

impl Reachable {
    pub(crate) async fn start() -> Reachable {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        let config = Config {
            keys: Some(keys.clone()),
            ..Config::default()
        };
        let cluster = Cluster::start(config).await.unwrap();
        let listening = cluster
            .listen(Listen {
                address: "127.0.0.1:0".parse().unwrap(),
                keys,
                kubeconfig: Some(folder.path().join("kubeconfig")),
                name: "sandlot".to_owned(),
                limits: Limits::default(),
            })
            .await
            .unwrap();
        Reachable {
            cluster,
            listening,
            folder,
        }
    }

    pub(crate) async fn kubectl(&self, words: &str) -> Output {
        let words: Vec<&str> = words.split_whitespace().collect();
        kubectl(self.folder.path(), &words).await
    }

    pub(crate) async fn stop(self) {
        self.listening.stop().await;
        self.cluster.stop().await;
    }
}

async fn kubectl(folder: &Path, words: &[&str]) -> Output {
    Command::new("kubectl")
        .env("KUBECONFIG", folder.join("kubeconfig"))
        .env("HOME", folder)
        .args(words)
        .output()
        .await
        .expect("kubectl 1.32 or newer must be in PATH for this test")
}

/// What kubectl printed when it was content; its complaint otherwise.
pub(crate) fn said(output: &Output) -> String {
    let text = if output.status.success() {
        &output.stdout
    } else {
        &output.stderr
    };
    String::from_utf8_lossy(text).trim().to_owned()
}

#[tokio::test]
async fn kubectl_takes_the_kubeconfig_as_it_is() {
    let reachable = Reachable::start().await;
    for (words, expected) in [
        ("get --raw /livez", "ok"),
        ("get --raw /readyz", "ok"),
        ("get namespace default -o name", "namespace/default"),
        (
            "get pods --as ann",
            "Error from server (Forbidden): pods is forbidden: User \"ann\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
        ),
        ("get pods --as ann --as-group system:masters -o name", ""),
        (
            "get clusterrole view -o jsonpath={.rules[0].verbs}",
            "[\"get\",\"list\",\"watch\"]",
        ),
    ] {
        let output = reachable.kubectl(words).await;
        let said = said(&output);
        assert_eq!(said, expected, "kubectl {words}");
    }
    reachable.stop().await;
}
