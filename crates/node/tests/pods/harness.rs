//! A cluster with a node, for one test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use sandlot_cluster::kubelet::{
    ContainerRef, Exit, Kubelet as _, KubeletError, LogOptions, Streams,
};
use sandlot_cluster::server::{Listen, Listening};
use sandlot_node::{MissingImages, Node, NodeConfig, StopMode};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

/// Whatever takes longer, on the most loaded of machines, does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster and its node; gone with the test.
pub(crate) struct Cluster {
    pub(crate) client: kube::Client,
    pub(crate) node: Arc<Node>,
    pub(crate) dir: PathBuf,
    _keep: Option<tempfile::TempDir>,
    cluster: sandlot_cluster::Cluster,
}

impl Cluster {
    /// A cluster with a node with the usual settings.
    pub(crate) async fn start() -> Cluster {
        Cluster::with(|_| {}).await
    }

    /// A cluster whose node is started as `change` wants it.
    pub(crate) async fn with(change: impl FnOnce(&mut NodeConfig)) -> Cluster {
        let keep = tempfile::tempdir().unwrap();
        let cluster = sandlot_cluster::Cluster::start(Default::default())
            .await
            .unwrap();
        let dir = keep.path().to_owned();
        let mut made = Cluster::on(cluster, &dir, change).await;
        made._keep = Some(keep);
        made
    }

    /// A cluster whose node keeps its files in this folder.
    pub(crate) async fn with_in(dir: &Path, change: impl FnOnce(&mut NodeConfig)) -> Cluster {
        let cluster = sandlot_cluster::Cluster::start(Default::default());
        Cluster::on(cluster.await.unwrap(), dir, change).await
    }

    async fn on(
        cluster: sandlot_cluster::Cluster,
        dir: &Path,
        change: impl FnOnce(&mut NodeConfig),
    ) -> Cluster {
        let client = cluster.client();
        let mut config = NodeConfig::new(dir.to_owned(), "node", client.clone());
        config.zygote = Some(env!("CARGO_BIN_EXE_sandlot-zygote").into());
        config.missing_images = MissingImages::Fail;
        config.sandboxes_ready = 1;
        change(&mut config);
        let node = Node::start(config).await.unwrap();
        cluster.set_kubelet(node.clone());
        Cluster {
            client,
            node,
            dir: dir.to_owned(),
            _keep: None,
            cluster,
        }
    }

    /// Lets clients in from outside this process.
    pub(crate) async fn listen(&self, at: Listen) -> Listening {
        self.cluster.listen(at).await.unwrap()
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates a pod of one container that runs a script.
    pub(crate) async fn run(&self, name: &str, script: &str) -> Pod {
        self.create(serde_json::json!({
            "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 1,
                "containers": [{"name": "c", "image": "host", "command": ["sh", "-c", script]}]}
        }))
        .await
    }

    pub(crate) async fn create(&self, pod: Value) -> Pod {
        self.try_create(pod).await.unwrap()
    }

    pub(crate) async fn try_create(&self, pod: Value) -> kube::Result<Pod> {
        let pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await
    }

    /// Creates any object of the core API in the default namespace.
    pub(crate) async fn make(&self, plural: &str, object: Value) {
        let path = format!("/api/v1/namespaces/default/{plural}");
        self.post(&path, object).await;
    }

    /// Creates an object of any kind.
    pub(crate) async fn post(&self, path: &str, object: Value) {
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(&object).unwrap()).unwrap();
        self.client.request::<Value>(request).await.unwrap();
    }

    /// What the node says of itself under this name.
    pub(crate) async fn node_condition(&self, name: &str) -> Value {
        let request = http::Request::get("/api/v1/nodes/node").body(Vec::new());
        let node: Value = self.client.request(request.unwrap()).await.unwrap();
        let conditions = node["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|one| one["type"] == name);
        found
            .unwrap_or_else(|| panic!("no {name} in {conditions:#?}"))
            .clone()
    }

    /// Whether the node says of itself that it has not what a condition is named after.
    pub(crate) async fn lacks(&self, condition: &str) -> bool {
        let node = self.find("nodes/node").await;
        let conditions = node["status"]["conditions"].as_array().unwrap();
        conditions
            .iter()
            .any(|one| one["type"] == condition && one["status"] == "False")
    }

    /// Waits for an event of a pod, and returns what it says.
    pub(crate) async fn event(&self, pod: &str, reason: &str) -> String {
        self.until_event(pod, reason, "").await;
        self.events(pod, reason).await.remove(0)
    }

    /// Creates any object of the core API that belongs to no namespace.
    pub(crate) async fn make_anywhere(&self, plural: &str, object: Value) {
        let request = http::Request::post(format!("/api/v1/{plural}"))
            .header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(&object).unwrap()).unwrap();
        self.client.request::<Value>(request).await.unwrap();
    }

    /// Deletes any object of the core API in the default namespace; it may stay a while.
    pub(crate) async fn remove(&self, plural: &str, name: &str) {
        let path = format!("/api/v1/namespaces/default/{plural}/{name}");
        let request = http::Request::delete(path).body(Vec::new()).unwrap();
        self.client.request::<Value>(request).await.unwrap();
    }

    /// Changes any object of the core API in the default namespace.
    pub(crate) async fn change(&self, plural: &str, name: &str, patch: Value) {
        let path = format!("/api/v1/namespaces/default/{plural}/{name}");
        let request =
            http::Request::patch(path).header("content-type", "application/merge-patch+json");
        let request = request.body(serde_json::to_vec(&patch).unwrap()).unwrap();
        self.client.request::<Value>(request).await.unwrap();
    }

    /// Any object of the core API by its path; nothing when there is none.
    pub(crate) async fn find(&self, path: &str) -> Value {
        let request = http::Request::get(format!("/api/v1/{path}"));
        let found = self
            .client
            .request::<Value>(request.body(Vec::new()).unwrap());
        match found.await {
            Err(kube::Error::Api(error)) if error.code == 404 => Value::Null,
            found => found.unwrap(),
        }
    }

    /// The messages of a pod's or a service's events of this reason.
    pub(crate) async fn events(&self, pod: &str, reason: &str) -> Vec<String> {
        let all = self.find("namespaces/default/events").await;
        let all = all["items"].as_array().cloned().unwrap_or_default();
        all.iter()
            .filter(|event| event["involvedObject"]["name"] == pod && event["reason"] == reason)
            .map(|event| event["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Waits until a pod has an event of this reason whose message contains a text.
    pub(crate) async fn until_event(&self, pod: &str, reason: &str, text: &str) {
        let begun = Instant::now();
        while !self
            .events(pod, reason)
            .await
            .iter()
            .any(|message| message.contains(text))
        {
            let there = self.events(pod, reason).await;
            assert!(
                begun.elapsed() < PATIENCE,
                "{pod} {reason} {text:?}: {there:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs a script in a pod until it writes this.
    pub(crate) async fn until_shows(&self, pod: &str, script: &str, wanted: &str) {
        let begun = Instant::now();
        loop {
            // After a restart of the node, its containers are found again a moment later.
            let shown = self.exec_in(container(pod), script).await;
            let text = shown.map_or_else(|error| error.to_string(), |(_, text)| text);
            if text.trim_end() == wanted {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{pod} shows {text:?}, not {wanted:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the pod is as wanted; says what it is if that takes too long.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let begun = Instant::now();
        loop {
            let pod = self.pods().get_opt(name).await.unwrap();
            let pod = pod.map_or(Value::Null, |pod| serde_json::to_value(pod).unwrap());
            if wanted(&pod) {
                return pod;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{name} never became {what}: {:#}",
                pod["status"]
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn ready(&self, name: &str) -> Value {
        self.until(name, "ready", |pod| condition(pod, "Ready") == "True")
            .await
    }

    pub(crate) async fn phase(&self, name: &str, phase: &str) -> Value {
        self.until(name, phase, |pod| pod["status"]["phase"] == phase)
            .await
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.pods()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
        self.until(name, "gone", Value::is_null).await;
    }

    pub(crate) async fn logs(&self, name: &str, options: LogOptions) -> String {
        self.logs_of(container(name), options).await
    }

    /// What a certain container has said.
    pub(crate) async fn logs_of(&self, of: ContainerRef, options: LogOptions) -> String {
        use futures::StreamExt as _;
        let chunks: Vec<_> = self.node.logs(of, options).await.unwrap().collect().await;
        chunks
            .into_iter()
            .map(|chunk| String::from_utf8_lossy(&chunk.unwrap()).into_owned())
            .collect()
    }

    /// Runs a script in a container: its code, and what it wrote.
    pub(crate) async fn exec(&self, name: &str, script: &str) -> (i32, String) {
        self.exec_in(container(name), script).await.unwrap()
    }

    /// The same in a certain container, which may not be there.
    pub(crate) async fn exec_in(
        &self,
        of: ContainerRef,
        script: &str,
    ) -> Result<(i32, String), KubeletError> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (err_ours, err_theirs) = tokio::io::duplex(1 << 16);
        let (_sizes, resize) = mpsc::channel(1);
        let streams = Streams {
            stdin: None,
            stdout: Some(Box::new(theirs)),
            stderr: Some(Box::new(err_theirs)),
            tty: false,
            resize,
        };
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let (mut ours, mut err_ours) = (ours, err_ours);
        let (mut text, mut errors) = (String::new(), String::new());
        let (exit, _, _) = tokio::join!(
            self.node.exec(of, command, streams),
            ours.read_to_string(&mut text),
            err_ours.read_to_string(&mut errors),
        );
        let Exit { code } = exit?;
        Ok((code, text + &errors))
    }

    /// The node is replaced by a new one on the same folder; pods are left as they are.
    pub(crate) async fn restart_node(self) -> Cluster {
        self.restart_after(StopMode::LeavePods).await
    }

    /// The same, with a node that is started as `change` wants it.
    pub(crate) async fn restart_node_as(self, change: impl FnOnce(&mut NodeConfig)) -> Cluster {
        self.restart(StopMode::LeavePods, change).await
    }

    /// The node is replaced by a new one on the same folder.
    pub(crate) async fn restart_after(self, mode: StopMode) -> Cluster {
        self.restart(mode, |_| {}).await
    }

    async fn restart(self, mode: StopMode, change: impl FnOnce(&mut NodeConfig)) -> Cluster {
        self.node.stop(mode).await;
        let cluster = self.cluster.clone();
        let mut new = Cluster::on(cluster, &self.dir, change).await;
        new._keep = self._keep;
        new
    }

    /// Ends everything.
    pub(crate) async fn stop(self) {
        self.node.stop(StopMode::StopPods).await;
        drop(self.cluster);
    }
}

pub(crate) fn container(pod: &str) -> ContainerRef {
    ContainerRef {
        namespace: "default".into(),
        pod: pod.into(),
        container: "c".into(),
    }
}

/// The status of a condition.
pub(crate) fn condition<'a>(pod: &'a Value, name: &str) -> &'a str {
    let conditions = pod["status"]["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == name);
    found
        .and_then(|condition| condition["status"].as_str())
        .unwrap_or("Unknown")
}

/// The state of the first container.
pub(crate) fn state(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]
}
