//! A task as the index keeps it. What ran and what it printed is dropped once it has ended.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sandlot_api::arl::{Task, TaskSpec, TaskState};
use sandlot_decide::Seniority;

use super::{
    Key, Uid,
    key::{made, revision},
};

/// A task, and what the operator remembers of it.
pub(crate) struct TaskEntry {
    pub(crate) uid: Uid,
    pub(crate) revision: u64,
    pub(crate) resource_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) seniority: Seniority,
    pub(crate) sandbox: Key,
    pub(crate) sandbox_name: Arc<str>,
    /// What to run; absent once it has ended.
    pub(crate) spec: Option<Arc<TaskSpec>>,
    pub(crate) state: Option<TaskState>,
    pub(crate) message: Option<Arc<str>>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) leaving: bool,
    pub(crate) writing: bool,
}

impl TaskEntry {
    /// Reads a task; nothing if a newer one is known already.
    pub(super) fn read(key: &Key, task: &Task, old: Option<&Self>) -> Option<Self> {
        let uid: Uid = Arc::from(task.metadata.uid.as_deref()?);
        let revision = revision(&task.metadata);
        let old = old.filter(|old| old.uid == uid);
        if old.is_some_and(|old| old.revision > revision) {
            return None;
        }
        let status = task.status.as_ref();
        let state = status.and_then(|status| status.state);
        let finished = state.is_some_and(TaskState::is_terminal);
        let ended = status
            .and_then(|status| {
                status
                    .completion_time
                    .as_ref()
                    .or(status.completed_at.as_ref())
            })
            .map(|time| time.0);
        Some(Self {
            uid,
            revision,
            resource_version: task.metadata.resource_version.clone().unwrap_or_default(),
            generation: task.metadata.generation,
            seniority: old.map_or(
                Seniority {
                    at: made(&task.metadata),
                    revision,
                },
                |old| old.seniority,
            ),
            sandbox: key.beside(&task.spec.sandbox_ref),
            sandbox_name: Arc::from(task.spec.sandbox_ref.as_str()),
            spec: match old.and_then(|old| old.spec.clone()) {
                _ if finished => None,
                // A task that has started runs what it started with.
                Some(spec) if state == Some(TaskState::Running) => Some(spec),
                Some(spec) if *spec == task.spec => Some(spec),
                _ => Some(Arc::new(task.spec.clone())),
            },
            state,
            message: status
                .and_then(|status| status.message.as_deref())
                .map(Arc::from),
            started: status
                .and_then(|status| status.start_time.as_ref().or(status.started_at.as_ref()))
                .map(|time| time.0),
            ended: old.and_then(|old| old.ended).or(ended),
            ttl: task
                .spec
                .ttl_seconds_after_finished
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map(Duration::from_secs),
            leaving: task.metadata.deletion_timestamp.is_some(),
            writing: old.is_some_and(|old| old.writing),
        })
    }

    /// Whether nothing more will happen to it.
    pub(crate) fn is_finished(&self) -> bool {
        self.state.is_some_and(TaskState::is_terminal)
    }
}
