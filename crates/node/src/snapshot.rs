//! Saving what a container has written as an image, from which other pods can start.

use crate::images::Reference;
use crate::node::{Node, lock};

/// An image that a container was saved as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The image's full name, as pods of this node can use it.
    pub image: String,
    /// What identifies its content.
    pub id: String,
    /// The size of all its layers.
    pub bytes: u64,
}

/// Why a container was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is nothing to save.
    #[error("container {container} of pod {namespace}/{pod} is not on this node or has never run")]
    NotHere {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
        /// The container's name.
        container: String,
    },
    /// The image cannot be called that.
    #[error("{0:?} is no name for an image")]
    Name(String),
    /// The container could not be made to rest.
    #[error("the container cannot be made to rest while it is saved: {0}")]
    Rest(std::io::Error),
    /// The registry did not take it.
    #[error("the image cannot be given to its registry: {0}")]
    Push(String),
    /// The image could not be removed.
    #[error("the image cannot be removed: {0}")]
    Remove(std::io::Error),
    /// The image could not be made.
    #[error("the container cannot be saved: {0}")]
    Save(String),
}

impl Node {
    /// Whether this very pod runs here.
    pub fn has_pod(&self, uid: &str) -> bool {
        let workers = lock(&self.shared.workers);
        workers
            .get(uid)
            .is_some_and(|worker| !worker.task.is_finished())
    }

    /// Gives an image to the registry that its name names; what identifies it there.
    pub async fn push_image(&self, name: &str) -> Result<String, SnapshotError> {
        let reference: Reference = name
            .parse()
            .map_err(|_| SnapshotError::Name(name.to_owned()))?;
        let given = self.shared.images.give(&reference).await;
        given
            .map(|digest| digest.to_string())
            .map_err(|error| SnapshotError::Push(error.to_string()))
    }

    /// The images that somebody else keeps track of (see [`crate::NodeConfig::kept_images`]).
    pub fn kept_images(&self) -> Vec<String> {
        self.shared.images.kept()
    }

    /// Removes one of those; whether it is gone. One that a pod uses stays.
    pub async fn give_up_image(&self, name: String) -> Result<bool, SnapshotError> {
        let shared = self.shared.clone();
        let removed = tokio::task::spawn_blocking(move || shared.images.give_up(&name)).await;
        removed
            .map_err(std::io::Error::other)
            .and_then(|removed| removed)
            .map_err(SnapshotError::Remove)
    }

    /// Saves what a container has written over its image as the image `name`. Its processes
    /// rest meanwhile, so that the image shows one moment; volumes are not part of it.
    pub async fn snapshot(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        name: &str,
    ) -> Result<Snapshot, SnapshotError> {
        let not_here = || SnapshotError::NotHere {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            container: container.to_owned(),
        };
        let reference: Reference = name
            .parse()
            .map_err(|_| SnapshotError::Name(name.to_owned()))?;
        let view = self.shared.view_of(namespace, pod).ok_or_else(not_here)?;
        let run = view
            .containers
            .get(container)
            .cloned()
            .ok_or_else(not_here)?;
        let sandbox = view.sandbox.ok_or_else(not_here)?;
        let shared = self.shared.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let resting = run.running.then(|| run.group.rest()).transpose();
            let _resting = resting.map_err(SnapshotError::Rest)?;
            let folder = sandbox.container_dir(&run.id);
            let saved = shared.images.commit(&folder, &reference);
            saved.map_err(|error| SnapshotError::Save(error.to_string()))
        });
        let record = saved
            .await
            .map_err(|error| SnapshotError::Save(error.to_string()))??;
        Ok(Snapshot {
            id: record.image_id(),
            bytes: record.bytes(),
            image: record.name,
        })
    }
}
