//! What the tests play on: an API in memory, the controllers, a broker, the bridge.

use std::{fmt::Debug, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use sandlot_api::robot::{Job, Robot, RobotPhase, Task};
use sandlot_bridge::{
    Remote, Settings,
    broker::{BRIDGE, Broker, Keyring, Listen, Robots},
    simulated::Simulated,
};
use sandlot_cluster::{Cluster, Config};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The token that robots register with.
pub(crate) const TOKEN: &str = "fixed-token-123";
/// How long anything may take on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// All that runs for a test.
pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) broker: Broker,
    pub(crate) cancel: CancellationToken,
    bridge: CancellationToken,
    settings: Settings,
    tasks: Vec<JoinHandle<()>>,
}

impl Stage {
    /// Sets everything up, with what a test wants of the bridge.
    pub(crate) async fn set(change: impl FnOnce(&mut Settings)) -> Self {
        let cluster = Cluster::start(Config::default()).await.unwrap();
        let client = cluster.client();
        sandlot_operator::install_crds(client.clone())
            .await
            .unwrap();
        let robots = Robots::default();
        let keys = Keyring {
            bridge: "bridge".to_owned(),
            bootstrap: Some(TOKEN.to_owned()),
            anonymous: true,
            robots: robots.clone(),
        };
        let listen = Listen {
            address: ([127, 0, 0, 1], 0).into(),
            tls: None,
        };
        let broker = Broker::start(listen, keys).await.unwrap();
        let mut settings = Settings {
            broker: Remote {
                host: "127.0.0.1".to_owned(),
                port: broker.address.port(),
                user: Some(BRIDGE.to_owned()),
                password: "bridge".to_owned(),
                tls: None,
            },
            token: Some(TOKEN.to_owned()),
            check: Duration::from_millis(100),
            robots,
            door: Some(broker.door()),
            ..Settings::default()
        };
        change(&mut settings);
        let cancel = CancellationToken::new();
        let operator = sandlot_operator::run(
            client.clone(),
            sandlot_operator::Settings {
                agent: sandlot_operator::Agent {
                    proof: sandlot_operator::Proof::Nothing,
                    ..sandlot_operator::Settings::default().agent
                },
                ..sandlot_operator::Settings::default()
            },
            cancel.clone(),
        );
        let tasks = vec![tokio::spawn(async move {
            let _cluster = cluster;
            operator.await.unwrap();
        })];
        let mut stage = Self {
            client,
            broker,
            bridge: CancellationToken::new(),
            cancel,
            settings,
            tasks,
        };
        stage.start_bridge();
        stage
    }

    /// Starts a bridge, as after a restart.
    pub(crate) fn start_bridge(&mut self) {
        self.bridge = self.cancel.child_token();
        let run = sandlot_bridge::run(
            self.client.clone(),
            self.settings.clone(),
            self.bridge.clone(),
        );
        self.tasks
            .push(tokio::spawn(async move { run.await.unwrap() }));
    }

    /// Starts another beside it, of this name.
    pub(crate) fn start_another_bridge(&mut self, identity: &str) {
        let settings = Settings {
            identity: identity.to_owned(),
            ..self.settings.clone()
        };
        let run = sandlot_bridge::run(self.client.clone(), settings, self.cancel.child_token());
        let task = tokio::spawn(async move { run.await.unwrap() });
        self.tasks.insert(0, task);
    }

    /// Ends the bridge, and waits until it has ended.
    pub(crate) async fn stop_bridge(&mut self) {
        self.bridge.cancel();
        self.tasks.pop().unwrap().await.unwrap();
    }

    /// A simulated robot that lives until the stage is gone, or what is returned is cancelled.
    pub(crate) fn robot(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Simulated),
    ) -> CancellationToken {
        let mut robot = Simulated {
            id: id.to_owned(),
            broker: ("127.0.0.1".to_owned(), self.broker.address.port()),
            token: TOKEN.to_owned(),
            login: true,
            beat: Duration::from_secs(1),
            work: Duration::from_millis(10),
            labels: Vec::new(),
            fails: None,
        };
        change(&mut robot);
        let cancel = self.cancel.child_token();
        tokio::spawn(robot.live(cancel.clone()));
        cancel
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Makes an object of a manifest.
    pub(crate) async fn make<K>(&self, manifest: Value) -> K
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        let object = serde_json::from_value(manifest).unwrap();
        self.api::<K>()
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    /// Changes an object.
    pub(crate) async fn change<K>(&self, name: &str, patch: Value) -> K
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + Debug,
    {
        let params = PatchParams::default();
        self.api::<K>()
            .patch(name, &params, &Patch::Merge(patch))
            .await
            .unwrap()
    }

    /// Waits until an object is as it should be, and gives it.
    pub(crate) async fn until<K>(&self, name: &str, is: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + Debug
            + Send
            + 'static,
    {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut objects = watcher(self.api::<K>(), config)
            .default_backoff()
            .applied_objects()
            .boxed();
        let mut last = None;
        let waiting = async {
            while let Some(object) = objects.next().await {
                if let Ok(object) = object {
                    if is(&object) {
                        return object;
                    }
                    last = Some(object);
                }
            }
            unreachable!("a watch goes on for ever")
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(object) => object,
            Err(_) => panic!("{name} did not come to be as it should: {last:#?}"),
        }
    }

    /// Waits until an object is gone.
    pub(crate) async fn gone<K>(&self, name: &str)
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + Debug,
    {
        let started = tokio::time::Instant::now();
        while let Some(found) = self.api::<K>().get_opt(name).await.unwrap() {
            let patient = started.elapsed() < PATIENCE;
            assert!(patient, "{name} does not go: {found:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a robot has done something: then it has logged in as itself, and the
    /// controllers know it.
    pub(crate) async fn works(&self, robot: &str) {
        let name = format!("probe-{robot}");
        let mut manifest = job(&name, 1);
        let own = json!({ "lTarget": "${robot.name}", "operand": "=", "rTarget": robot });
        manifest["spec"]["constraints"] = json!([own]);
        let _: Job = self.make(manifest).await;
        self.until(&name, |job: &Job| state(job) == "Completed")
            .await;
    }

    /// Waits until a robot stands somewhere.
    pub(crate) async fn phase(&self, robot: &str, phase: RobotPhase) -> Robot {
        self.until(robot, |robot: &Robot| {
            robot.status.as_ref().and_then(|status| status.phase) == Some(phase)
        })
        .await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// A job of one group that runs `true` on so many robots.
pub(crate) fn job(name: &str, count: i32) -> Value {
    json!({
        "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "Job", "metadata": { "name": name },
        "spec": { "name": name, "type": "batch", "taskGroups": [{ "name": "main", "count": count, "tasks": [{
            "name": "run", "driver": "raw_exec", "config": { "execConfig": { "command": "true" } },
        }] }] },
    })
}

/// Where a job stands, in a word.
pub(crate) fn state(job: &Job) -> String {
    let state = job.status.as_ref().and_then(|status| status.state);
    state
        .map(|state| state.name().to_owned())
        .unwrap_or_default()
}

/// Where a task stands, in a word.
pub(crate) fn task_state(task: &Task) -> &'static str {
    let state = task.status.as_ref().and_then(|status| status.state);
    state.unwrap_or_default().name()
}
