//! Watching the API for pods, and binding those that nobody has bound.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::watcher::{self, Event as Watched};

use crate::node::{Shared, lock};
use crate::schedule::{self, Verdict};

/// How often pods that did not fit are looked at again.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Runs until the node takes on no more.
pub(crate) async fn run(shared: Arc<Shared>) {
    let stop = shared.closed().clone();
    stop.run_until_cancelled(follow(shared)).await;
}

async fn follow(shared: Arc<Shared>) {
    let api: Api<Pod> = Api::all(shared.client.clone());
    let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    let mut listed = HashSet::new();
    let mut waiting = schedule::Waiting::default();
    loop {
        let event = match tokio::time::timeout(TRY_AGAIN, stream.next()).await {
            Err(_) => {
                for pod in waiting.take() {
                    take_on(&shared, pod, &mut waiting).await;
                }
                continue;
            }
            Ok(None) => return,
            Ok(Some(Err(error))) => {
                tracing::warn!(%error, "the watch on pods broke; it is taken up again");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            Ok(Some(Ok(event))) => event,
        };
        match event {
            Watched::Init => listed.clear(),
            Watched::InitApply(pod) => {
                listed.extend(pod.metadata.uid.clone());
                take_on(&shared, pod, &mut waiting).await;
            }
            Watched::InitDone => {
                shared.traffic.all_seen();
                settle(&shared, &listed).await;
            }
            Watched::Apply(pod) => take_on(&shared, pod, &mut waiting).await,
            Watched::Delete(pod) => {
                let uid = pod.metadata.uid.unwrap_or_default();
                waiting.forget(&uid);
                shared.on_gone(&uid).await;
            }
        }
    }
}

/// After a list: pods that were deleted while nobody watched are ended, sandboxes of
/// pods that are gone are removed.
async fn settle(shared: &Arc<Shared>, listed: &HashSet<String>) {
    let gone: Vec<String> = lock(&shared.workers)
        .keys()
        .filter(|uid| !listed.contains(*uid))
        .cloned()
        .collect();
    for uid in gone {
        shared.on_gone(&uid).await;
    }
    shared.logs.keep_only(listed);
    let orphans: Vec<_> = lock(&shared.found)
        .drain()
        .map(|(_, sandbox)| sandbox)
        .collect();
    for sandbox in orphans {
        shared.forget_sandbox(&sandbox).await;
    }
}

async fn take_on(shared: &Arc<Shared>, mut pod: Pod, waiting: &mut schedule::Waiting) {
    let bound_to = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    match bound_to.as_deref() {
        Some(name) if name == shared.node_name => return shared.on_pod(pod).await,
        Some(_) => return,
        None => {}
    }
    let ours = pod.spec.as_ref().is_none_or(|spec| {
        spec.scheduler_name
            .as_deref()
            .is_none_or(|name| name == "default-scheduler")
            && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
    });
    if !ours || pod.metadata.deletion_timestamp.is_some() {
        return;
    }
    let seat = shared.seat.borrow().clone();
    let here = || schedule::neighbours(shared);
    let used = schedule::used(shared);
    match schedule::judge(&pod, &shared.capacity, &used, &seat, here) {
        Verdict::Fits => match bind(shared, &pod).await {
            Ok(()) => {
                waiting.forget(pod.metadata.uid.as_deref().unwrap_or_default());
                if let Some(spec) = &mut pod.spec {
                    spec.node_name = Some(shared.node_name.clone());
                }
                shared.on_pod(pod).await;
            }
            // Bound or deleted by somebody else meanwhile: the watch will say so.
            Err(kube::Error::Api(error)) if error.code == 409 || error.code == 404 => {}
            Err(error) => {
                tracing::warn!(%error, "cannot bind a pod; it is tried again");
                waiting.add(pod);
            }
        },
        Verdict::DoesNotFit(why) => {
            if waiting.add(pod.clone()) {
                schedule::tell(shared, &pod, &why).await;
            }
        }
    }
}

async fn bind(shared: &Shared, pod: &Pod) -> kube::Result<()> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(shared.node_name.clone()),
            ..ObjectReference::default()
        },
    };
    let _: serde_json::Value = api
        .create_subresource("binding", name, &PostParams::default(), &binding)
        .await?;
    shared.events.normal(
        pod,
        None,
        "Scheduled",
        &format!(
            "Successfully assigned {namespace}/{name} to {}",
            shared.node_name
        ),
    );
    Ok(())
}
