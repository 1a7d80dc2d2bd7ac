//! Stands in for a node: pods are ready as soon as they are seen, unless their template's
//! annotation `pretend` says otherwise.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub async fn stand_in(client: Client, stop: CancellationToken) {
    let all: Api<Pod> = Api::all(client.clone());
    let mut events = watcher(all, watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    let mut work = JoinSet::new();
    loop {
        tokio::select! {
            next = events.try_next() => match next {
                Ok(Some(pod)) => drop(work.spawn(tend(client.clone(), pod))),
                Ok(None) => return,
                Err(error) => eprintln!("the stand-in's watch was interrupted: {error}"),
            },
            Some(_) = work.join_next() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Does what a node would about a pod, and as a node would tries again.
async fn tend(client: Client, pod: Pod) {
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap());
    let name = pod.name_any();
    let address = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_ref());
    let pretend = pod.annotations().get("pretend").map(String::as_str);
    loop {
        let done = if pod.metadata.deletion_timestamp.is_some() {
            let at_once = DeleteParams::default().grace_period(0);
            api.delete(&name, &at_once).await.map(drop)
        } else if address.is_none() {
            let status = Patch::Merge(json!({ "status": status(pretend) }));
            let params = PatchParams::default();
            api.patch_status(&name, &params, &status).await.map(drop)
        } else {
            return;
        };
        match done {
            Ok(()) => return,
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(error) => {
                eprintln!("the stand-in could not write pod {name}: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn status(pretend: Option<&str>) -> Value {
    let container = |state: Value, ready: bool| json!([{ "name": "executor", "image": "i", "imageID": "", "ready": ready, "restartCount": 0, "state": state }]);
    let now = Timestamp::from_second(Timestamp::now().as_second())
        .unwrap()
        .to_string();
    match pretend {
        Some("no image") => json!({ "phase": "Pending", "podIP": "127.0.0.1", "containerStatuses":
            container(json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such tag" } }), false) }),
        Some("starting") => json!({ "phase": "Pending", "podIP": "127.0.0.1" }),
        _ => json!({ "phase": "Running", "podIP": "127.0.0.1",
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": now }],
            "containerStatuses": container(json!({ "running": { "startedAt": now } }), true) }),
    }
}
