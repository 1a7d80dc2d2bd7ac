//! Who saves a sandbox's containers as images: the node itself where it can be asked, a job on
//! the pod's node elsewhere.

mod job;

use std::{collections::HashSet, fmt::Debug, sync::Arc, time::Duration};

use futures::future::BoxFuture;

pub use job::CommitJobs;
pub(crate) use job::JobSaver;

/// Where sandboxes are saved.
#[derive(Clone, Debug, Default)]
pub enum Snapshots {
    /// Nowhere: snapshots fail and say so.
    #[default]
    Nowhere,
    /// By jobs on the pods' nodes, into a registry.
    Jobs(CommitJobs),
    /// By whoever is given.
    By(Arc<dyn Saver>),
}

/// Saves containers as images.
pub trait Saver: Debug + Send + Sync {
    /// What the names of its images begin with: a registry, perhaps with a path.
    fn registry(&self) -> &str;

    /// Saves containers of a pod. Asking again for the same is harmless.
    fn save(&self, what: Save) -> BoxFuture<'static, Result<Vec<SavedImage>, SaveError>>;

    /// Nothing refers to these images any more.
    fn forget(&self, images: Vec<String>) -> BoxFuture<'static, ()>;

    /// Only these images are named by anything, at a moment when nothing is being saved.
    fn keep_only(&self, images: HashSet<String>) -> BoxFuture<'static, ()> {
        drop(images);
        Box::pin(async {})
    }

    /// The Secret that pods need to pull its images, if any.
    fn pull_secret(&self) -> Option<&str> {
        None
    }

    /// Whether a Job does the work, which its users may look at.
    fn uses_jobs(&self) -> bool {
        false
    }

    /// A pod that is not saved by then is given up.
    fn longest(&self) -> Duration {
        Duration::from_secs(11 * 60)
    }
}

/// What is to be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Save {
    /// The namespace of the snapshot and the pod.
    pub namespace: String,
    /// The SandboxSnapshot.
    pub snapshot: String,
    /// Its uid.
    pub snapshot_uid: String,
    /// The pod.
    pub pod: String,
    /// Its uid: a pod that came later under the same name is another.
    pub pod_uid: String,
    /// The node it is on.
    pub node: String,
    /// Its containers, each with the name of the image to make.
    pub containers: Vec<(String, String)>,
}

/// A container that was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedImage {
    /// The container.
    pub container: String,
    /// The image.
    pub image: String,
    /// What identifies it in its registry, if it is in one.
    pub digest: Option<String>,
}

/// Why a pod was not saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaveError {
    /// The pod is not there any more.
    #[error("pod {0} is not there any more")]
    PodNotFound(String),
    /// It could not be done.
    #[error("{0}")]
    Commit(String),
}

impl SaveError {
    /// Why, as a word for programs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::PodNotFound(_) => "PodNotFound",
            Self::Commit(_) => "CommitFailed",
        }
    }
}
