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

/// What kubectl printed when it was content, and its complaint otherwise. An answer of `no`
/// is printed like a contented one.
pub(crate) fn said(output: &Output) -> String {
    let complains = !output.status.success() && !output.stderr.is_empty();
    let text = if complains {
        &output.stderr
    } else {
        &output.stdout
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
        (
            "auth whoami -o jsonpath={.status.userInfo.username}",
            "kubernetes-admin",
        ),
        ("auth can-i delete nodes", "yes"),
        ("auth can-i get pods --as ann", "no"),
        ("create serviceaccount till -o name", "serviceaccount/till"),
        (
            "auth whoami --as system:serviceaccount:default:till -o jsonpath={.status.userInfo.groups}",
            "[\"system:serviceaccounts\",\"system:serviceaccounts:default\",\"system:authenticated\"]",
        ),
        (
            "create rolebinding till --clusterrole=view --serviceaccount=default:till -o name",
            "rolebinding.rbac.authorization.k8s.io/till",
        ),
        (
            "auth can-i list pods --as system:serviceaccount:default:till",
            "yes",
        ),
        (
            "auth can-i list secrets --as system:serviceaccount:default:till",
            "no",
        ),
        (
            "delete namespace default",
            "Error from server (Forbidden): namespaces \"default\" is forbidden: this namespace may not be deleted",
        ),
        (
            "create configmap x -n nowhere",
            "error: failed to create configmap: namespaces \"nowhere\" not found",
        ),
    ] {
        let output = reachable.kubectl(words).await;
        let said = said(&output);
        assert_eq!(said, expected, "kubectl {words}");
    }
    reachable.stop().await;
}

#[tokio::test]
async fn a_token_that_kubectl_made_gets_its_account_in() {
    let reachable = Reachable::start().await;
    reachable.kubectl("create serviceaccount till").await;
    reachable
        .kubectl("create rolebinding till --clusterrole=edit --serviceaccount=default:till")
        .await;
    let token = said(&reachable.kubectl("create token till --duration=10m").await);
    assert_eq!(token.split('.').count(), 3, "{token}");
    let path = reachable.folder.path().join("kubeconfig");
    let kubeconfig = std::fs::read_to_string(&path).unwrap();
    let mut config: serde_json::Value = serde_saphyr::from_str(&kubeconfig).unwrap();
    config["users"][0]["user"] = serde_json::json!({"token": token});
    std::fs::write(&path, config.to_string()).unwrap();
    for (words, expected) in [
        (
            "auth whoami -o jsonpath={.status.userInfo.username}",
            "system:serviceaccount:default:till",
        ),
        (
            "create configmap prices --from-literal=tea=1 -o name",
            "configmap/prices",
        ),
        (
            "get nodes",
            "Error from server (Forbidden): nodes is forbidden: User \"system:serviceaccount:default:till\" cannot list resource \"nodes\" in API group \"\" at the cluster scope",
        ),
    ] {
        assert_eq!(
            said(&reachable.kubectl(words).await),
            expected,
            "kubectl {words}"
        );
    }
    reachable.stop().await;
}
