//! Getting an image from its registry: the few documents, then the layers that are not here.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};

use super::layer::{LayerError, Wanted};
use super::manifest::{self, BadManifest, Configuration, Descriptor, Document, Manifest, Platform};
use super::reference::{Digest, Reference};
use super::registry::credentials::Credentials;
use super::registry::{Registries, RegistryError, Repository, manifest_with_any};
use super::store::{Facts, Hold, Layer, Origin, Packed, Part, Record, Store};

/// So many images at a time; the others wait their turn.
const PULLS_AT_ONCE: usize = 4;
/// And so many layers of each.
const LAYERS_AT_ONCE: usize = 3;
/// A layer that breaks off on the way is begun again so often.
const ATTEMPTS: u32 = 3;
/// Nothing is pulled for longer than this.
const LONGEST_PULL: Duration = Duration::from_secs(60 * 60);
/// Parts of a layer that wait to be unpacked.
const PARTS_WAITING: usize = 16;

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Manifest(#[from] BadManifest),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("the disk of the images cannot be written: {0}")]
    Disk(#[from] io::Error),
    #[error("it took longer than an hour")]
    TooLong,
}

impl PullError {
    /// Whether nobody was there to answer.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, PullError::Registry(RegistryError::Unreachable { .. }))
    }
}

/// How far a pull is, for whoever watches.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes that have come.
    pub(crate) done: AtomicU64,
    /// Bytes that are to come; 0 until that is known.
    pub(crate) all: AtomicU64,
}

/// An image that was pulled.
pub(crate) struct Pulled {
    pub(crate) record: Record,
    pub(crate) hold: Arc<Hold>,
    /// Bytes it took from the registry, if every layer had to come.
    pub(crate) packed: u64,
    pub(crate) took: Duration,
    pub(crate) with_waiting: Duration,
}

/// Pulls images into a store.
pub(crate) struct Puller {
    store: Arc<Store>,
    registries: Registries,
    turns: Semaphore,
}

impl Puller {
    pub(crate) fn new(store: Arc<Store>) -> Puller {
        Puller {
            store,
            registries: Registries::default(),
            turns: Semaphore::new(PULLS_AT_ONCE),
        }
    }

    pub(crate) fn registries(&self) -> &Registries {
        &self.registries
    }

    /// Pulls an image; what is here already is only checked against its manifest.
    pub(crate) async fn pull(
        &self,
        image: &Reference,
        logins: Vec<Credentials>,
        progress: &Progress,
    ) -> Result<Pulled, PullError> {
        let asked = Instant::now();
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.map_err(|_| PullError::TooLong)?;
        let begun = Instant::now();
        let pull = self.get(image, logins, progress);
        let (record, hold, packed) = tokio::time::timeout(LONGEST_PULL, pull)
            .await
            .map_err(|_| PullError::TooLong)??;
        Ok(Pulled {
            record,
            hold,
            packed,
            took: begun.elapsed(),
            with_waiting: asked.elapsed(),
        })
    }

    async fn get(
        &self,
        image: &Reference,
        logins: Vec<Credentials>,
        progress: &Progress,
    ) -> Result<(Record, Arc<Hold>, u64), PullError> {
        let (repository, bytes, digest) =
            manifest_with_any(&self.registries, image, logins).await?;
        let here = Platform::here();
        let manifest = match manifest::read(&bytes)? {
            Document::Image(manifest) => manifest,
            Document::Index(all) => {
                let chosen = manifest::choose(&all, &here)?;
                let (bytes, _) = repository.manifest(&chosen.digest.to_string()).await?;
                match manifest::read(&bytes)? {
                    Document::Image(manifest) => manifest,
                    Document::Index(_) => {
                        let odd = "an index within an index".to_owned();
                        return Err(BadManifest::Unreadable("manifest", odd).into());
                    }
                }
            }
        };
        let configuration = repository.document(&manifest.config.digest).await?;
        let configuration = Configuration::read(&configuration, manifest.layers.len(), &here)?;
        let diffs = configuration.rootfs.diff_ids.clone();
        let hold = self.store.hold(diffs.clone());
        let layers = self
            .layers(&repository, &manifest, &diffs, progress)
            .await?;
        let record = Record {
            name: image.to_string(),
            id: manifest.config.digest.clone(),
            manifest: Some(digest),
            config: configuration.image_config(),
            parts: vec![Part {
                at: "/".to_owned(),
                layers,
            }],
            over_host: false,
            origin: Origin::Registry,
            since: Timestamp::now(),
        };
        let (store, kept) = (self.store.clone(), record.clone());
        blocking(move || store.put(kept).map_err(PullError::from)).await?;
        // From here on it is held by its name.
        let (record, hold) = self.store.find(&record.name).unwrap_or((record, hold));
        let packed = manifest.layers.iter().map(|layer| layer.size).sum();
        Ok((record, hold, packed))
    }

    async fn layers(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        diffs: &[Digest],
        progress: &Progress,
    ) -> Result<Vec<Layer>, PullError> {
        let missing = manifest
            .layers
            .iter()
            .zip(diffs)
            .filter(|(_, diff)| self.store.layer(diff).is_none());
        progress.all.store(
            missing.map(|(layer, _)| layer.size).sum(),
            Ordering::Relaxed,
        );
        // Boxed at once: the compiler cannot see that a stream of these may change threads.
        let layers: Vec<BoxFuture<'_, _>> = manifest
            .layers
            .iter()
            .zip(diffs)
            .map(|(descriptor, diff)| self.layer(repository, descriptor, diff, progress).boxed())
            .collect();
        let facts = futures::stream::iter(layers).buffered(LAYERS_AT_ONCE);
        let facts: Vec<Facts> = facts.try_collect().await?;
        let layers = facts
            .into_iter()
            .zip(&manifest.layers)
            .map(|(facts, descriptor)| Layer {
                diff: facts.diff,
                bytes: facts.bytes,
                packed: Some(Packed {
                    media_type: descriptor.media_type.clone(),
                    digest: descriptor.digest.clone(),
                    size: descriptor.size,
                }),
            });
        Ok(layers.collect())
    }

    /// One layer; whoever wants the same at the same time waits for it.
    async fn layer(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        diff: &Digest,
        progress: &Progress,
    ) -> Result<Facts, PullError> {
        let _turn = self.store.turn(diff.hex()).await;
        let mut attempt = 1;
        loop {
            if let Some(facts) = self.store.layer(diff) {
                return Ok(facts);
            }
            match self.fetch(repository, descriptor, diff, progress).await {
                Err(PullError::Registry(error)) if error.is_passing() && attempt < ATTEMPTS => {
                    tracing::info!(layer = %diff, %error, "a layer broke off; it is begun again");
                    tokio::time::sleep(Duration::from_millis(500) * attempt).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    async fn fetch(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        diff: &Digest,
        progress: &Progress,
    ) -> Result<Facts, PullError> {
        let mut blob = repository.blob(&descriptor.digest).await?;
        let wanted = Wanted {
            size: descriptor.size,
            digest: Some(descriptor.digest.clone()),
            diff: Some(diff.clone()),
        };
        let (parts, source) = Source::new();
        let store = self.store.clone();
        let unpacking = tokio::task::spawn_blocking(move || store.add_layer(source, &wanted));
        let mut broke_off = None;
        let mut came = 0;
        loop {
            let part = match blob.next().await {
                Some(Ok(bytes)) => Came::Bytes(bytes),
                Some(Err(error)) => {
                    broke_off = Some(error);
                    break;
                }
                None => Came::End,
            };
            let (is_end, length) = match &part {
                Came::Bytes(bytes) => (false, bytes.len() as u64),
                Came::End => (true, 0),
            };
            // One that has seen enough says why below.
            if parts.send(part).await.is_err() || is_end {
                break;
            }
            came += length;
            progress.done.fetch_add(length, Ordering::Relaxed);
        }
        drop(parts);
        let unpacked = joined(unpacking.await);
        if let (Some(error), Err(_)) = (broke_off, &unpacked) {
            progress.done.fetch_sub(came, Ordering::Relaxed);
            return Err(error.into());
        }
        unpacked?.map_err(PullError::from)
    }
}

/// Runs what waits for the disk where nobody else waits.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PullError> + Send + 'static,
) -> Result<T, PullError> {
    joined(tokio::task::spawn_blocking(work).await)?
}

fn joined<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, PullError> {
    result.map_err(|error| PullError::Disk(io::Error::other(error)))
}

/// What comes from elsewhere, for a thread that reads.
pub(crate) enum Came {
    Bytes(Bytes),
    /// All of it was there; without this it broke off.
    End,
}

/// The reading end.
pub(crate) struct Source {
    parts: mpsc::Receiver<Came>,
    rest: Bytes,
    ended: bool,
}

impl Source {
    pub(crate) fn new() -> (mpsc::Sender<Came>, Source) {
        let (sender, parts) = mpsc::channel(PARTS_WAITING);
        (
            sender,
            Source {
                parts,
                rest: Bytes::new(),
                ended: false,
            },
        )
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.ended {
            match self.parts.blocking_recv() {
                Some(Came::Bytes(bytes)) => self.rest = bytes,
                Some(Came::End) => self.ended = true,
                None => return Err(LayerError::Source("it broke off".to_owned()).carried()),
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest
            .split_to(count)
            .copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
