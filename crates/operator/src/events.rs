//! Kubernetes Events: what a user reads under `kubectl describe`.
//!
//! Events are told beside the work. If more happens than can be told, the surplus is dropped: an
//! event is a courtesy, and statuses say the same.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use sandlot_api::arl::names;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many events may wait to be told.
const BACKLOG: usize = 256;
/// The longest note that the API takes is 1 KiB.
const LONGEST_NOTE: usize = 1000;

/// Where events are handed in.
#[derive(Clone)]
pub(crate) struct Events(mpsc::Sender<(Event, ObjectReference)>);

impl Events {
    /// The place to hand in events, and the work of telling them.
    pub(crate) fn start(
        client: Client,
        instance: String,
        cancel: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (events, mut told) = mpsc::channel::<(Event, ObjectReference)>(BACKLOG);
        let reporter = Reporter {
            controller: names::FIELD_MANAGER.to_owned(),
            instance: Some(instance),
        };
        let recorder = Recorder::new(client, reporter);
        let telling = async move {
            loop {
                let next = tokio::select! {
                    next = told.recv() => next,
                    () = cancel.cancelled() => return,
                };
                let Some((event, about)) = next else { return };
                if let Err(error) = recorder.publish(&event, &about).await {
                    tracing::debug!(%error, "an event could not be told");
                }
            }
        };
        (Self(events), telling)
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
        let _ = self.0.try_send((event, about));
    }
}
