//! Kubernetes Events: what a user reads under `kubectl describe`.
//!
//! Events are told beside the work, in the name of the system whose object they are about. If
//! more happens than can be told, the surplus is dropped: an event is a courtesy, and statuses say
//! the same.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many events may wait to be told.
const BACKLOG: usize = 256;
/// The longest note that the API takes is 1 KiB.
const LONGEST_NOTE: usize = 1000;

/// Where events are handed in.
#[derive(Clone)]
pub(crate) struct Events {
    told: mpsc::Sender<Told>,
    controller: &'static str,
}

/// An event on its way.
struct Told {
    controller: &'static str,
    event: Event,
    about: ObjectReference,
}

impl Events {
    /// The place to hand in events in the name of a controller, and the work of telling them.
    pub(crate) fn start(
        client: Client,
        controller: &'static str,
        instance: String,
        cancel: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (told, mut next) = mpsc::channel(BACKLOG);
        let recorder = move |controller: &str| {
            let reporter = Reporter {
                controller: controller.to_owned(),
                instance: Some(instance.clone()),
            };
            Recorder::new(client.clone(), reporter)
        };
        let telling = async move {
            let mut recorders = HashMap::new();
            loop {
                let next = tokio::select! {
                    next = next.recv() => next,
                    () = cancel.cancelled() => return,
                };
                let Some(Told {
                    controller,
                    event,
                    about,
                }) = next
                else {
                    return;
                };
                let recorder = recorders
                    .entry(controller)
                    .or_insert_with(|| recorder(controller));
                if let Err(error) = recorder.publish(&event, &about).await {
                    tracing::debug!(%error, "an event could not be told");
                }
            }
        };
        (Self { told, controller }, telling)
    }

    /// The same place for events that are told in the name of another controller.
    pub(crate) fn by(&self, controller: &'static str) -> Self {
        let told = self.told.clone();
        Self { told, controller }
    }

    /// Something went as it should.
    pub(crate) fn tell(&self, about: ObjectReference, reason: &str, action: &str, note: String) {
        self.hand_in(EventType::Normal, about, reason, action, note);
    }

    /// Something is wrong.
    pub(crate) fn warn(&self, about: ObjectReference, reason: &str, action: &str, note: String) {
        self.hand_in(EventType::Warning, about, reason, action, note);
    }

    fn hand_in(
        &self,
        kind: EventType,
        about: ObjectReference,
        reason: &str,
        action: &str,
        mut note: String,
    ) {
        if note.len() > LONGEST_NOTE {
            let mut end = LONGEST_NOTE;
            while !note.is_char_boundary(end) {
                end -= 1;
            }
            note.truncate(end);
        }
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        // A full backlog drops the event, as said above.
        let _ = self.told.try_send(Told {
            controller: self.controller,
            event,
            about,
        });
    }
}
