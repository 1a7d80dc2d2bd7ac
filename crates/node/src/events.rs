//! Events: what happened to a pod or a service, for whoever asks `kubectl describe`.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::pod::field_path;

/// Events waiting to be written; in a storm the rest is dropped, as Kubernetes does.
const MOST_WAITING: usize = 1024;
/// Repetitions of so many different events are counted instead of written anew.
const MOST_REMEMBERED: usize = 4096;

/// Who speaks of pods that have a node.
const KUBELET: &str = "kubelet";

/// Writes events in the background.
#[derive(Clone)]
pub(crate) struct Events {
    outbox: mpsc::Sender<Event>,
}

impl Events {
    /// Starts writing until `stop`.
    pub(crate) fn start(
        client: kube::Client,
        node: String,
        stop: CancellationToken,
    ) -> (Events, tokio::task::JoinHandle<()>) {
        let (outbox, inbox) = mpsc::channel(MOST_WAITING);
        (
            Events { outbox },
            tokio::spawn(async move {
                stop.run_until_cancelled(write_all(client, node, inbox))
                    .await
                    .unwrap_or(())
            }),
        )
    }

    /// Something that should be so.
    pub(crate) fn normal(&self, pod: &Pod, container: Option<&str>, reason: &str, message: &str) {
        self.send(of_pod(pod, container), "Normal", reason, message);
    }

    /// Something that should not be so.
    pub(crate) fn warning(&self, pod: &Pod, container: Option<&str>, reason: &str, message: &str) {
        self.send(of_pod(pod, container), "Warning", reason, message);
    }

    /// Something about a service that should not be so.
    pub(crate) fn of_service(&self, service: &Service, reason: &str, message: &str) {
        let object = reference("Service", &service.metadata);
        self.send(object, "Warning", reason, message);
    }

    fn send(&self, object: ObjectReference, kind: &str, reason: &str, message: &str) {
        let now = Time(Timestamp::now());
        let event = Event {
            metadata: ObjectMeta {
                namespace: object.namespace.clone(),
                ..ObjectMeta::default()
            },
            involved_object: object,
            type_: Some(kind.to_owned()),
            reason: Some(reason.to_owned()),
            // Messages are bounded by the API.
            message: Some(message.chars().take(1000).collect()),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Event::default()
        };
        // A full outbox loses an event, never holds up a pod.
        let _ = self.outbox.try_send(event);
    }
}

fn of_pod(pod: &Pod, container: Option<&str>) -> ObjectReference {
    ObjectReference {
        field_path: container.map(|name| field_path(pod, name)),
        ..reference("Pod", &pod.metadata)
    }
}

fn reference(kind: &str, meta: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// Which part of Kubernetes says such a thing. Here one node is all of them.
fn component(event: &Event) -> &'static str {
    let kind = event.involved_object.kind.as_deref();
    match (kind, event.reason.as_deref()) {
        (_, Some("Scheduled" | "FailedScheduling")) => "default-scheduler",
        (Some("Service"), _) => "kube-proxy",
        _ => KUBELET,
    }
}

/// As Kubernetes names events. They are told to whole seconds, and lists come in the order of names:
/// so the events of one second are read in the order in which they came about.
fn name(subject: &str, nanosecond: i128) -> String {
    format!("{subject}.{nanosecond:016x}")
}

type Key = (
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

async fn write_all(client: kube::Client, node: String, mut inbox: mpsc::Receiver<Event>) {
    let mut seen: HashMap<Key, (String, i32)> = HashMap::new();
    let mut last = 0;
    while let Some(mut event) = inbox.recv().await {
        let object = &event.involved_object;
        let key = (
            object.uid.clone(),
            object.field_path.clone(),
            event.reason.clone(),
            event.message.clone(),
        );
        let namespace = object
            .namespace
            .clone()
            .unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        if seen.len() >= MOST_REMEMBERED {
            seen.clear();
        }
        if let Some((name, count)) = seen.get_mut(&key) {
            *count += 1;
            let patch =
                Patch::Merge(json!({"count": *count, "lastTimestamp": event.last_timestamp}));
            let params = PatchParams::default();
            let patched = api.patch(name, &params, &patch);
            if matches!(
                tokio::time::timeout(Duration::from_secs(10), patched).await,
                Ok(Ok(_))
            ) {
                continue;
            }
        }
        let subject = object.name.clone().unwrap_or_default();
        let began = event.first_timestamp.as_ref();
        let began = began.map_or(0, |time| time.0.as_nanosecond());
        last = began.max(last + 1);
        let name = name(&subject, last);
        event.metadata.name = Some(name.clone());
        let component = component(&event);
        event.source = Some(EventSource {
            component: Some(component.to_owned()),
            host: (component != "default-scheduler").then(|| node.clone()),
        });
        event.reporting_component = Some(component.to_owned());
        event.reporting_instance = Some(node.clone());
        match tokio::time::timeout(
            Duration::from_secs(10),
            api.create(&PostParams::default(), &event),
        )
        .await
        {
            Ok(Ok(_)) => {
                seen.insert(key, (name, 1));
            }
            Ok(Err(error)) => tracing::debug!(%error, "an event was not written"),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_time() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_nanosecond();
        let before = name("p", at("2026-01-01T00:00:00.999999999Z"));
        let after = name("p", at("2026-01-01T00:00:01Z"));
        assert!(before < after, "{before} {after}");
        assert_eq!(name("p", 0).len(), "p.".len() + 16);
    }
}
