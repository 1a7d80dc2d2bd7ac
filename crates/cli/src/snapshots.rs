//! Saving paused sandboxes on this machine: the node does it, for the operator in this process.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use sandlot_node::{Node, SnapshotError};
use sandlot_operator::{Save, SaveError, SavedImage, Saver};

/// What the names of images begin with that are on this machine alone.
pub(crate) const HERE: &str = "sandlot.local/snapshots";
/// An image whose pod is just ending is tried again so often, so long after.
const TRIES: u32 = 150;
const BETWEEN_TRIES: Duration = Duration::from_secs(2);
/// How often a registry is asked to take an image.
const PUSHES: u32 = 3;

/// The node as the operator's saver.
pub(crate) struct NodeSaver {
    node: Arc<Node>,
    registry: String,
}

impl NodeSaver {
    /// Saves into a registry, or on this machine alone.
    pub(crate) fn new(node: Arc<Node>, registry: Option<&str>) -> Self {
        let registry = registry.unwrap_or(HERE).trim_end_matches('/').to_owned();
        Self { node, registry }
    }
}

impl fmt::Debug for NodeSaver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeSaver")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

impl Saver for NodeSaver {
    fn registry(&self) -> &str {
        &self.registry
    }

    fn save(&self, what: Save) -> BoxFuture<'static, Result<Vec<SavedImage>, SaveError>> {
        let (node, is_here) = (self.node.clone(), self.registry == HERE);
        Box::pin(async move {
            if !node.has_pod(&what.pod_uid) {
                return Err(SaveError::PodNotFound(what.pod));
            }
            let mut saved = Vec::new();
            for (container, image) in what.containers {
                let made = node
                    .snapshot(&what.namespace, &what.pod, &container, &image)
                    .await;
                made.map_err(|error| match error {
                    SnapshotError::NotHere { .. } => SaveError::PodNotFound(what.pod.clone()),
                    error => SaveError::Commit(error.to_string()),
                })?;
                saved.push(SavedImage {
                    container,
                    image,
                    digest: None,
                });
            }
            for one in saved.iter_mut().filter(|_| !is_here) {
                one.digest = Some(push(&node, &one.image).await?);
            }
            Ok(saved)
        })
    }

    fn forget(&self, images: Vec<String>) -> BoxFuture<'static, ()> {
        let node = self.node.clone();
        Box::pin(async move { forget(&node, images).await })
    }

    fn keep_only(&self, images: HashSet<String>) -> BoxFuture<'static, ()> {
        let node = self.node.clone();
        Box::pin(async move {
            for image in node.kept_images() {
                if !images.contains(&image) {
                    give_up(&node, &image).await;
                }
            }
        })
    }
}

async fn push(node: &Node, image: &str) -> Result<String, SaveError> {
    let mut tries = 1;
    loop {
        match node.push_image(image).await {
            Ok(digest) => return Ok(digest),
            Err(error) if tries == PUSHES => return Err(SaveError::Commit(error.to_string())),
            Err(error) => tracing::debug!(image, %error, "a registry did not take an image"),
        }
        tokio::time::sleep(Duration::from_secs(1) * tries).await;
        tries += 1;
    }
}

/// Removes images as soon as no pod uses them any more.
async fn forget(node: &Node, mut images: Vec<String>) {
    for _ in 0..TRIES {
        let mut left = Vec::new();
        for image in images {
            if !give_up(node, &image).await {
                left.push(image);
            }
        }
        if left.is_empty() {
            return;
        }
        images = left;
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
    tracing::debug!(
        ?images,
        "pods still use images that nothing names; the next start removes them"
    );
}

/// Whether nothing is left to do about an image.
async fn give_up(node: &Node, image: &str) -> bool {
    match node.give_up_image(image.to_owned()).await {
        Ok(gone) => gone,
        Err(error) => {
            tracing::warn!(image, %error, "what a sandbox was saved as cannot be removed");
            true
        }
    }
}
