//! Saving what a container has written as an image, from which other pods can start.

use crate::images::Reference;
use crate::node::Node;

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
    /// The image could not be made.
    #[error("the container cannot be saved: {0}")]
    Save(String),
}

impl Node {
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
