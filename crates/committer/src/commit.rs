//! The steps: let the containers rest, have packed what they have written, let them go on, and
//! give the images away.

use std::{collections::HashSet, io};

use futures::StreamExt as _;
use jiff::Timestamp;
use sandlot_node::registry::{Place, PlaceError};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    containerd::{Containerd, ContainerdError},
    image::{self, BadImage, Document, Manifest, Saved},
    order::{BadOrder, Pod, Surroundings},
    wire::{Container, Part, Process},
};

/// No image is an index of indexes of indexes.
const DEEPEST: usize = 3;

/// Why containers were not saved.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The arguments make no sense.
    #[error(transparent)]
    Order(BadOrder),
    /// This program could not begin.
    #[error("this program cannot begin: {0}")]
    Start(io::Error),
    /// Containerd did not do it.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// There is no such container.
    #[error("container {container} of pod {namespace}/{pod} is not on this node")]
    NotHere {
        /// The container.
        container: String,
        /// Its pod's namespace.
        namespace: String,
        /// Its pod.
        pod: String,
    },
    /// The image it lies on cannot be used.
    #[error(transparent)]
    Image(#[from] BadImage),
    /// The registry did not take it.
    #[error("{image} cannot be given to its registry: {error}")]
    Push {
        /// The image.
        image: String,
        /// What the registry said.
        error: PlaceError,
    },
    /// It was told to stop.
    #[error("it was told to stop")]
    Stopped,
    /// Nobody can be told what was saved.
    #[error("what was saved cannot be told: {0}")]
    Report(io::Error),
}

/// A container that was saved, as it is reported.
#[derive(Debug, Serialize)]
pub(crate) struct Done {
    name: String,
    image: String,
    digest: String,
}

/// A container whose new layer lies in containerd's store.
struct Packed {
    name: String,
    image: String,
    base: String,
    layer: Part,
    unpacked: String,
}

/// Saves containers of a pod, each as an image.
pub(crate) async fn save(
    containerd: &Containerd,
    around: &Surroundings,
    pod: &Pod,
    wanted: &[(String, String)],
) -> Result<Vec<Done>, CommitError> {
    let mut containers = Vec::new();
    for (name, image) in wanted {
        let container = find(containerd, pod, name).await?;
        containers.push((name.clone(), image.clone(), container));
    }
    let lease = format!("sandlot-commit-{}", uuid::Uuid::new_v4());
    let containerd = containerd.with_lease(&lease).await?;
    let saved = tokio::select! {
        saved = rest_and_give(&containerd, around, &containers) => saved,
        () = told_to_stop() => Err(CommitError::Stopped),
    };
    // Whatever came of it: nothing stays frozen, and nothing is kept for us.
    let woken = wake_all(&containerd, containers.iter().map(|(_, _, one)| one)).await;
    let _ = containerd.end_lease(&lease).await;
    let saved = saved?;
    woken?;
    Ok(saved)
}

async fn rest_and_give(
    containerd: &Containerd,
    around: &Surroundings,
    containers: &[(String, String, Container)],
) -> Result<Vec<Done>, CommitError> {
    for (_, _, container) in containers {
        rest(containerd, container).await?;
    }
    let mut packed = Vec::new();
    for (name, image, container) in containers {
        let view = format!("sandlot-commit-{}", uuid::Uuid::new_v4());
        let (layer, unpacked) = containerd.pack(container, &view).await?;
        packed.push(Packed {
            name: name.clone(),
            image: image.clone(),
            base: container.image.clone(),
            layer,
            unpacked,
        });
    }
    // They need not rest while the registry is spoken to.
    wake_all(containerd, containers.iter().map(|(_, _, one)| one)).await?;
    let mut done = Vec::new();
    for one in packed {
        done.push(give(containerd, around, one).await?);
    }
    Ok(done)
}

/// Lets containers of a pod go on that a committer before may have left frozen.
pub(crate) async fn thaw(
    containerd: &Containerd,
    pod: &Pod,
    containers: &[String],
) -> Result<(), CommitError> {
    let (mut found, mut all) = (Vec::new(), Ok(()));
    for name in containers {
        match find(containerd, pod, name).await {
            Ok(container) => found.push(container),
            Err(error) => all = all.and(Err(error)),
        }
    }
    wake_all(containerd, &found).await?;
    all
}

/// The container of this name that runs, or else the newest.
async fn find(containerd: &Containerd, pod: &Pod, name: &str) -> Result<Container, CommitError> {
    let mut labels = vec![
        ("io.kubernetes.pod.name", pod.name.as_str()),
        ("io.kubernetes.pod.namespace", pod.namespace.as_str()),
        ("io.kubernetes.container.name", name),
    ];
    if let Some(uid) = &pod.uid {
        labels.push(("io.kubernetes.pod.uid", uid));
    }
    let mut found = Vec::new();
    for container in containerd.containers(&labels).await? {
        let process = containerd.process(&container.id).await?;
        let lives = process
            .is_some_and(|process| matches!(process.status, Process::RUNNING | Process::PAUSED));
        let made = container.created_at.clone().unwrap_or_default();
        found.push(((lives, made.seconds, made.nanos), container));
    }
    let newest = found.into_iter().max_by_key(|(age, _)| *age);
    let (_, container) = newest.ok_or_else(|| CommitError::NotHere {
        container: name.to_owned(),
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
    })?;
    Ok(container)
}

async fn rest(containerd: &Containerd, container: &Container) -> Result<(), ContainerdError> {
    match containerd.process(&container.id).await? {
        Some(process) if process.status == Process::RUNNING => {
            containerd.pause(&container.id).await
        }
        // It rests already, or has ended: its files do not change.
        _ => Ok(()),
    }
}

/// Lets all go on; one that cannot keeps nobody else from it. Says why the first could not.
async fn wake_all(
    containerd: &Containerd,
    containers: impl IntoIterator<Item = &Container>,
) -> Result<(), ContainerdError> {
    let mut all = Ok(());
    for container in containers {
        all = all.and(wake(containerd, container).await);
    }
    all
}

async fn wake(containerd: &Containerd, container: &Container) -> Result<(), ContainerdError> {
    match containerd.process(&container.id).await? {
        Some(process) if process.status == Process::PAUSED => {
            containerd.resume(&container.id).await
        }
        _ => Ok(()),
    }
}

/// Gives the base's layers, the new one and the documents to the registry.
async fn give(
    containerd: &Containerd,
    around: &Surroundings,
    one: Packed,
) -> Result<Done, CommitError> {
    let base = manifest_of(containerd, &one.base).await?;
    let config = containerd.document(&base.config).await?;
    let saved = image::with_layer(&base, &config, &one.layer, &one.unpacked, Timestamp::now())?;
    let refused = |error| CommitError::Push {
        image: one.image.clone(),
        error,
    };
    let logins = std::fs::read(&around.logins).ok();
    let place = Place::find(&one.image, logins.as_deref(), around.plain).map_err(refused)?;
    let mut given = HashSet::new();
    for layer in base.layers.iter().chain([&one.layer]) {
        // An image may have a layer twice.
        if !given.insert(&layer.digest) || place.has(&layer.digest).await.map_err(refused)? {
            continue;
        }
        let size = u64::try_from(layer.size).unwrap_or_default();
        let bytes = containerd.read(&layer.digest).await?;
        place
            .put(&layer.digest, size, bytes)
            .await
            .map_err(refused)?;
    }
    give_documents(&place, &saved).await.map_err(refused)?;
    Ok(Done {
        name: one.name,
        image: one.image,
        digest: saved.manifest_digest,
    })
}

async fn give_documents(place: &Place, saved: &Saved) -> Result<(), PlaceError> {
    let config = futures::stream::iter([Ok(saved.config.clone())]).boxed();
    let size = saved.config.len() as u64;
    place.put(&saved.config_digest, size, config).await?;
    let manifest = saved.manifest.clone();
    place.finish(Saved::MANIFEST_TYPE, manifest).await
}

/// The manifest of an image, for machines like this one.
async fn manifest_of(containerd: &Containerd, image: &str) -> Result<Manifest, CommitError> {
    let mut digest = containerd.image(image).await?.digest;
    for _ in 0..DEEPEST {
        let bytes = containerd.document(&digest).await?;
        match image::read(&bytes, architecture())? {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(deeper) => digest = deeper,
        }
    }
    Err(ContainerdError::Nonsense(format!("image {image:?} is an index without an end")).into())
}

/// This machine's architecture, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Waits until somebody wants this to end: a Job's deadline, or a user.
async fn told_to_stop() {
    let ends = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [Ok(mut terminate), Ok(mut interrupt)] = ends else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
