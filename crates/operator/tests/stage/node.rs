//! Stands in for a node: pods are ready as soon as they are seen, unless their template's
//! annotation `pretend` says otherwise.

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub async fn stand_in(client: Client, stop: CancellationToken) {
    let all: Api<Pod> = Api::all(client.clone());
    let mut events = watcher(all, watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    loop {
        let pod = tokio::select! {
            next = events.try_next() => match next {
                Ok(Some(pod)) => pod,
                Ok(None) => return,
                Err(_) => continue,
            },
            () = stop.cancelled() => return,
        };
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
        let name = pod.name_any();
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = api
                .delete(&name, &DeleteParams::default().grace_period(0))
                .await;
        } else if pod
            .status
            .as_ref()
            .is_none_or(|status| status.pod_ip.is_none())
        {
            let pretend = pod.annotations().get("pretend").map(String::as_str);
            let status = json!({ "status": status(pretend) });
            let _ = api
                .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                .await;
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
