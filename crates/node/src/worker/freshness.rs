//! Keeping up to date what volumes show of the API: config maps and secrets as they change,
//! the pod's own fields, and tokens before they expire.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::surroundings::sources;
use super::volumes::{self, Tokens};
use super::{Event, Making, Tending};

/// What could not be brought up to date is tried again after so long.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// How up to date the volumes are.
#[derive(Default)]
pub(super) struct Freshness {
    pub(super) tokens: Arc<Tokens>,
    /// They are being written.
    running: bool,
    /// Something has changed that may not have been seen yet.
    stale: bool,
    /// Not before this.
    not_before: Option<Timestamp>,
}

impl Freshness {
    /// When something is to be written anew without anybody saying so.
    fn due(&self) -> Option<Timestamp> {
        if self.running {
            return None;
        }
        let due = match self.stale {
            true => Some(Timestamp::MIN),
            false => self.tokens.renew_at(),
        };
        due.map(|at| at.max(self.not_before.unwrap_or(Timestamp::MIN)))
    }

    /// Something that volumes show has changed.
    pub(super) fn soil(&mut self) {
        self.stale = true;
    }

    /// The volumes were written, or could not be.
    pub(super) fn on_refreshed(&mut self, went_well: bool, now: Timestamp) {
        self.running = false;
        self.not_before = (!went_well).then(|| now + AGAIN);
        self.stale |= !went_well;
    }
}

impl Tending {
    /// Writes volumes anew when that is due; the result is when to look again.
    pub(super) fn refresh(&mut self, now: Timestamp) -> Option<Timestamp> {
        // While they are being made they will show what is new, or be looked at afterwards.
        if self.making != Making::Ready || self.facts.is_ending() {
            return None;
        }
        let due = self.freshness.due()?;
        let Some(sandbox) = self.sandbox.clone().filter(|_| due <= now) else {
            return Some(due);
        };
        (self.freshness.running, self.freshness.stale) = (true, false);
        let (shared, pod) = (self.shared.clone(), self.facts.pod.clone());
        let tokens = self.freshness.tokens.clone();
        self.tasks.spawn(async move {
            let making = volumes::Making {
                shared: &shared,
                pod: &pod,
                sandbox: &sandbox,
                tokens: &tokens,
            };
            let written = match sources(&shared, &pod, &sandbox, volumes::of_volumes(&pod)).await {
                Ok(sources) => volumes::refresh(&making, &sources).await,
                Err(error) => Err(error),
            };
            Event::Refreshed(written)
        });
        None
    }
}

/// Whether what a pod's volumes show of its own fields has changed. Nearly every pod shows
/// its namespace; labels and annotations are what changes.
pub(super) fn shows_change(old: &Pod, new: &Pod) -> bool {
    let volumes = new
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let items = volumes.flat_map(|volume| {
        let own = volume
            .downward_api
            .iter()
            .flat_map(|own| own.items.iter().flatten());
        let projected = volume
            .projected
            .iter()
            .flat_map(|all| all.sources.iter().flatten());
        let projected = projected.filter_map(|source| source.downward_api.as_ref());
        own.chain(projected.flat_map(|one| one.items.iter().flatten()))
    });
    let mut paths = items.filter_map(|item| Some(&item.field_ref.as_ref()?.field_path));
    let (old, new) = (&old.metadata, &new.metadata);
    paths.any(|path| {
        path.starts_with("metadata.labels") && old.labels != new.labels
            || path.starts_with("metadata.annotations") && old.annotations != new.annotations
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_pods_that_show_what_changed_are_written_anew() {
        let pod = |path: &str, label: &str, note: &str| -> Pod {
            let item = json!({"path": "x", "fieldRef": {"fieldPath": path}});
            let sources = json!([{"downwardAPI": {"items": [item]}}]);
            serde_json::from_value(json!({
                "metadata": {"labels": {"a": label}, "annotations": {"b": note}},
                "spec": {"containers": [], "volumes": [{"name": "v", "projected": {"sources": sources}}]}}))
            .unwrap()
        };
        for (path, label, note) in [
            ("metadata.namespace", false, false),
            ("metadata.labels['a']", true, false),
            ("metadata.annotations", false, true),
        ] {
            let old = pod(path, "1", "1");
            assert_eq!(shows_change(&old, &pod(path, "2", "1")), label, "{path}");
            assert_eq!(shows_change(&old, &pod(path, "1", "2")), note, "{path}");
        }
    }
}
