//! What every stage stands on: a real API in memory, stand-ins for nodes, and the operator, which
//! can be killed and started again.

#![allow(dead_code)]

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
use sandlot_cluster::{Cluster, Config, Cue};
use sandlot_operator::{Ahead, Proof, Settings, install_crds};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(300);

pub struct Floor {
    pub client: Client,
    settings: Settings,
    operator: Option<(JoinHandle<()>, CancellationToken)>,
    started: usize,
    _nodes: DropGuard,
    cluster: Cluster,
}

impl Floor {
    /// A floor on which the operator works, and these nodes.
    pub async fn lay<N>(
        config: Config,
        settings: Settings,
        nodes: impl FnOnce(Client, CancellationToken) -> N,
    ) -> Self
    where
        N: Future<Output = ()> + Send + 'static,
    {
        let cluster = Cluster::start(config).await.unwrap();
        let client = cluster.client();
        install_crds(client.clone()).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(nodes(client.clone(), stop.clone()));
        let mut floor = Self {
            client,
            settings,
            operator: None,
            started: 0,
            _nodes: stop.drop_guard(),
            cluster,
        };
        floor.start_operator();
        floor
    }

    /// What the operator is told; another may be told the same.
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// Starts it as it runs beside its API, ahead of the disk, and after every second crash as it
    /// runs on a cluster.
    pub fn start_operator(&mut self) {
        let cancel = CancellationToken::new();
        let (client, mut settings, token) =
            (self.client.clone(), self.settings.clone(), cancel.clone());
        let cluster = self.cluster.clone();
        settings.ahead = self.started.is_multiple_of(2).then(|| Ahead {
            client: cluster.client_ahead(),
            on_cue: Arc::new(|marks, given| {
                marks.insert(Cue::new(given));
            }),
            settled: Arc::new(move || Box::pin(cluster.settled())),
        });
        self.started += 1;
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
