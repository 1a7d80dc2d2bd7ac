//! A stage for the operator: a real API in memory, pods that a stand-in declares ready, and an
//! agent that only pretends to run things, but keeps the agent's promise about keys.

#![allow(dead_code, unreachable_pub)]

mod agent;
mod node;

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Namespace, Pod},
        events::v1::Event,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, wait::await_condition, watcher},
};
use sandlot_api::arl::{Sandbox, Task, TaskState, WarmPool};
use sandlot_cluster::{Cluster, Config};
use sandlot_operator::{Agent, Delivery, Proof, Settings, install_crds};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use agent::PretendAgent;

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Stage {
    pub client: Client,
    pub agent: Arc<PretendAgent>,
    settings: Settings,
    operator: Option<(JoinHandle<()>, CancellationToken)>,
    _node: DropGuard,
    _cluster: Cluster,
}

impl Stage {
    /// A stage on which the operator works.
    pub async fn set() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with some settings changed.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::over(Config::default(), change).await
    }

    /// The same over an API that was configured otherwise.
    pub async fn over(config: Config, change: impl FnOnce(&mut Settings)) -> Self {
        let cluster = Cluster::start(config).await.unwrap();
        let client = cluster.client();
        install_crds(client.clone()).await.unwrap();
        let (agent, port) = PretendAgent::serve().await;
        let mut settings = Settings {
            agent: Agent {
                delivery: Delivery::ImageVolume {
                    image: "sandlot/agent".into(),
                },
                work_dir: "/workspace".into(),
                port,
                // The pretended agents speak in the open.
                proof: Proof::Nothing,
            },
            ..Settings::default()
        };
        change(&mut settings);
        let stop = CancellationToken::new();
        tokio::spawn(node::stand_in(client.clone(), stop.clone()));
        let mut stage = Self {
            client,
            agent,
            settings,
            operator: None,
            _node: stop.drop_guard(),
            _cluster: cluster,
        };
        stage.start_operator();
        stage
    }

    /// What the operator is told; another may be told the same.
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    pub fn start_operator(&mut self) {
        let cancel = CancellationToken::new();
        let (client, settings, token) =
            (self.client.clone(), self.settings.clone(), cancel.clone());
        let work = tokio::spawn(async move {
            sandlot_operator::run(client, settings, token)
                .await
                .unwrap();
        });
        self.operator = Some((work, cancel));
    }

    /// Ends the operator as a power cut would.
    pub async fn kill_operator(&mut self) {
        if let Some((work, _)) = self.operator.take() {
            work.abort();
            let _ = work.await;
        }
    }

    /// Tells the operator to leave and waits until it has.
    pub async fn stop_operator(&mut self) {
        if let Some((work, cancel)) = self.operator.take() {
            cancel.cancel();
            work.await.unwrap();
        }
    }

    /// What the next operator proves itself with.
    pub fn set_proof(&mut self, proof: Proof) {
        self.settings.agent.proof = proof;
    }

    /// Makes a namespace.
    pub async fn namespace(&self, name: &str) {
        let all: Api<Namespace> = Api::all(self.client.clone());
        let object = json!({ "metadata": { "name": name } });
        let object = serde_json::from_value(object).unwrap();
        all.create(&PostParams::default(), &object).await.unwrap();
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Makes an object as a user would.
    pub async fn make<K>(&self, name: &str, spec: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + serde::Serialize
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": { "name": name }, "spec": spec,
        });
        let object = serde_json::from_value(object).unwrap();
        self.api::<K>()
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    pub async fn pool(&self, name: &str, replicas: u32) -> WarmPool {
        self.make(
            name,
            json!({ "replicas": replicas, "template": template() }),
        )
        .await
    }

    pub async fn sandbox(&self, name: &str, pool: &str) -> Sandbox {
        self.make(name, json!({ "poolRef": pool, "keepAlive": true }))
            .await
    }

    /// A task that runs one pretended command.
    pub async fn task(&self, name: &str, sandbox: &str, command: &[&str]) -> Task {
        let step = json!({ "name": "run", "type": "Command", "command": command });
        self.make(name, json!({ "sandboxRef": sandbox, "steps": [step] }))
            .await
    }

    pub async fn change<K>(&self, name: &str, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let patch = Patch::Merge(patch);
        self.api::<K>()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    pub async fn delete<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        self.api::<K>()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Waits until an object is as wanted, and returns it.
    pub async fn until<K>(&self, name: &str, wanted: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let condition = |object: Option<&K>| object.is_some_and(&wanted);
        let waited =
            tokio::time::timeout(PATIENCE, await_condition(self.api::<K>(), name, condition)).await;
        match waited {
            Ok(found) => found.unwrap().unwrap(),
            Err(_) => panic!(
                "{name} is not as wanted: {:#?}",
                self.api::<K>().get_opt(name).await
            ),
        }
    }

    /// Waits until an object is gone.
    pub async fn until_gone<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let condition = |object: Option<&K>| object.is_none();
        let gone =
            tokio::time::timeout(PATIENCE, await_condition(self.api::<K>(), name, condition)).await;
        assert!(
            gone.is_ok(),
            "{name} is still there: {:#?}",
            self.api::<K>().get_opt(name).await
        );
    }

    pub async fn until_phase(&self, name: &str, phase: &str) -> Sandbox {
        self.until::<Sandbox>(name, |sandbox| phase_of(sandbox) == phase)
            .await
    }

    pub async fn until_ended(&self, name: &str) -> Task {
        self.until::<Task>(name, |task| {
            state_of(task).is_some_and(TaskState::is_terminal)
        })
        .await
    }

    pub async fn until_ready(&self, pool: &str, ready: i32) -> WarmPool {
        let wanted = |pool: &WarmPool| {
            pool.status
                .as_ref()
                .is_some_and(|status| status.ready_replicas == ready && status.total >= ready)
        };
        self.until::<WarmPool>(pool, wanted).await
    }

    /// Waits until an event has this reason, and returns its words.
    pub async fn until_event(&self, reason: &str) -> String {
        let is_it = |event: &Event| event.reason.as_deref() == Some(reason);
        let mut events = watcher(self.api::<Event>(), watcher::Config::default())
            .applied_objects()
            .boxed();
        let waiting = async {
            loop {
                match events.try_next().await {
                    Ok(Some(event)) if is_it(&event) => return event.note.unwrap_or_default(),
                    Ok(None) => panic!("the watch of events has ended"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("no event {reason}"))
    }

    pub async fn pods(&self) -> Vec<Pod> {
        let all = self
            .api::<Pod>()
            .list(&ListParams::default())
            .await
            .unwrap();
        all.items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect()
    }

    /// Waits until the pods are as wanted, looking again after each change of a pool's status.
    pub async fn until_pods(&self, wanted: impl Fn(&[Pod]) -> bool) -> Vec<Pod> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let pods = self.pods().await;
            if wanted(&pods) {
                return pods;
            }
            let names: Vec<_> = pods
                .iter()
                .map(|pod| (pod.name_any(), pod.labels().clone()))
                .collect();
            assert!(
                tokio::time::Instant::now() < deadline,
                "the pods are not as wanted: {names:#?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What a pool says of its pods' trouble: the reason and the words, once it has some.
pub fn trouble_of(pool: &WarmPool) -> Option<(String, String)> {
    let conditions = pool
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let failing = conditions
        .into_iter()
        .find(|condition| condition.type_ == "PodsFailing" && condition.status == "True")?;
    Some((failing.reason.clone(), failing.message.clone()))
}

pub fn template() -> Value {
    json!({ "spec": { "containers": [
        { "name": "executor", "image": "python:3.9-slim", "command": ["sleep", "infinity"] } ] } })
}

pub fn phase_of(sandbox: &Sandbox) -> String {
    let phase = sandbox.status.as_ref().and_then(|status| status.phase);
    phase.map_or_else(String::new, |phase| format!("{phase:?}"))
}

pub fn pod_of(sandbox: &Sandbox) -> String {
    sandbox
        .status
        .as_ref()
        .and_then(|status| status.pod_name.clone())
        .unwrap_or_default()
}

pub fn state_of(task: &Task) -> Option<TaskState> {
    task.status.as_ref().and_then(|status| status.state)
}

pub fn reason_of(sandbox: &Sandbox) -> (String, String) {
    let conditions = sandbox
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready")
        .unwrap();
    (ready.reason.clone(), ready.message.clone())
}
