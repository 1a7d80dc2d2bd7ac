//! Saving what a container has written as an image, and giving images to a registry.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::Image;
use super::layer::{Rights, Wanted, pack};
use super::manifest::{self, Configuration, Descriptor, Manifest};
use super::pull::{Progress, PullError};
use super::reference::{Digest, Reference};
use super::registry::Registries;
use super::registry::credentials::Credentials;
use super::registry::{RegistryError, Repository};
use super::store::{Layer, Origin, Packed, Part, Record, Store};

/// Why an image was not saved or given away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    #[error("the container's files cannot be read: {0}")]
    Read(io::Error),
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error(
        "the image {0:?} lies over this machine's own programs, which belong to no image; only images made from images can be pushed"
    )]
    OverHost(String),
    #[error("nothing is noted of the image this container lies on")]
    NoNote,
    #[error("the image {0:?} is not here")]
    Unknown(String),
}

/// What a container wrote into one folder of its view.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The folder, as [`super::Tree::at`].
    pub(crate) at: String,
    /// Where it lies: the upper folder of the overlay.
    pub(crate) upper: PathBuf,
}

/// Saves what a container wrote over `base` as the image `name`. The container should rest
/// meanwhile; the folders are only read.
pub(crate) fn commit(
    store: &Arc<Store>,
    written: &[Written],
    base: &Image,
    name: &Reference,
) -> Result<Record, CommitError> {
    let mut parts = Vec::new();
    let mut over_host = false;
    let mut holds = Vec::new();
    for tree in &base.trees {
        let mut layers = Vec::new();
        // Those that are not of the store are the machine's.
        for folder in tree.layers.iter().rev() {
            match store.layer_of(folder) {
                Some(facts) => layers.push(Layer {
                    packed: store.packed(&facts.diff),
                    diff: facts.diff,
                    bytes: facts.bytes,
                }),
                None => over_host |= *folder != store.empty(),
            }
        }
        holds.push(store.hold(layers.iter().map(|layer| layer.diff.clone()).collect()));
        for one in written.iter().filter(|one| one.at == tree.at) {
            let facts = save(store, &one.upper)?;
            holds.push(store.hold(vec![facts.diff.clone()]));
            layers.push(facts);
        }
        if !layers.is_empty() {
            parts.push(Part {
                at: tree.at.clone(),
                layers,
            });
        }
    }
    let diffs = parts
        .iter()
        .flat_map(|part| part.layers.iter().map(|layer| layer.diff.clone()));
    let configuration = Configuration::of(&base.config, diffs.collect());
    let text =
        serde_json::to_vec(&configuration).map_err(|error| CommitError::Read(error.into()))?;
    let record = Record {
        name: name.to_string(),
        id: Digest::of(&text),
        manifest: None,
        config: base.config.clone(),
        parts,
        over_host,
        origin: Origin::Container,
        since: Timestamp::now(),
    };
    store.put(record.clone()).map_err(PullError::from)?;
    Ok(record)
}

/// A folder as a layer: packed and unpacked again at once, so that it is what anybody would
/// get who pulls it.
fn save(store: &Store, upper: &Path) -> Result<Layer, CommitError> {
    let (reader, writer) = io::pipe().map_err(CommitError::Read)?;
    let rights = store.rights();
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            pack(
                upper,
                io::BufWriter::with_capacity(64 << 10, writer),
                rights,
            )
        });
        // Our own files are no stranger's: their size is no secret to us.
        let wanted = Wanted {
            size: u64::MAX,
            digest: None,
            diff: None,
        };
        let added = store.add_layer(reader, &wanted);
        let packed = packing
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("packing failed")));
        // An end that came too early looks like an end.
        match (added, packed) {
            (Ok(facts), Ok(())) => Ok(Layer {
                diff: facts.diff,
                bytes: facts.bytes,
                packed: None,
            }),
            (Err(error), _) => Err(PullError::from(error).into()),
            (Ok(_), Err(error)) => Err(CommitError::Read(error)),
        }
    })
}

/// Gives an image to a registry under a name there; the digest is that of its manifest.
pub(crate) async fn push(
    store: &Arc<Store>,
    registries: &Registries,
    image: &str,
    to: &Reference,
    login: Option<Credentials>,
    progress: &Progress,
) -> Result<Digest, CommitError> {
    let (record, _hold) = store
        .find(image)
        .ok_or_else(|| CommitError::Unknown(image.to_owned()))?;
    let root = match record.parts.as_slice() {
        [] if !record.over_host => &[],
        [root] if root.at == "/" && !record.over_host => root.layers.as_slice(),
        _ => return Err(CommitError::OverHost(record.name)),
    };
    let repository = registries.repository(to, login).map_err(PullError::from)?;
    progress.all.store(
        root.iter().map(|layer| layer.bytes).sum(),
        Ordering::Relaxed,
    );
    let mut layers = Vec::new();
    let mut diffs = Vec::new();
    for layer in root {
        let (descriptor, diff) = give(store, &repository, layer).await?;
        progress.done.fetch_add(layer.bytes, Ordering::Relaxed);
        layers.push(descriptor);
        diffs.push(diff);
    }
    let text = serde_json::to_vec(&Configuration::of(&record.config, diffs))
        .map_err(|error| CommitError::Read(error.into()))?;
    let config = Descriptor {
        media_type: manifest::CONFIG.to_owned(),
        digest: Digest::of(&text),
        size: text.len() as u64,
        platform: None,
        annotations: None,
    };
    give_bytes(&repository, &config.digest, text).await?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: manifest::MANIFEST.to_owned(),
        config,
        layers,
    };
    let text = serde_json::to_vec(&manifest).map_err(|error| CommitError::Read(error.into()))?;
    let digest = Digest::of(&text);
    repository
        .put_manifest(manifest::MANIFEST, text.into())
        .await
        .map_err(PullError::from)?;
    Ok(digest)
}

async fn give_bytes(
    repository: &Repository,
    digest: &Digest,
    bytes: Vec<u8>,
) -> Result<(), CommitError> {
    if repository.has(digest).await.map_err(PullError::from)? {
        return Ok(());
    }
    let size = bytes.len() as u64;
    let bytes = futures::stream::iter([Ok(Bytes::from(bytes))]);
    repository
        .put_blob(digest, size, bytes)
        .await
        .map_err(PullError::from)?;
    Ok(())
}

/// Gives one layer. One the registry has stays as it is; any other is packed anew, and then its
/// archive may differ from the one it once came in.
async fn give(
    store: &Arc<Store>,
    repository: &Repository,
    layer: &Layer,
) -> Result<(Descriptor, Digest), CommitError> {
    if let Some(Packed {
        media_type,
        digest,
        size,
    }) = &layer.packed
        && repository.has(digest).await.map_err(PullError::from)?
    {
        let descriptor = Descriptor {
            media_type: media_type.clone(),
            digest: digest.clone(),
            size: *size,
            platform: None,
            annotations: None,
        };
        return Ok((descriptor, layer.diff.clone()));
    }
    let incoming = store.incoming().map_err(CommitError::Read)?;
    let path = incoming.path().join("layer.tar.gz");
    let (tree, rights, file) = (store.tree(&layer.diff), store.rights(), path.clone());
    let (digest, size, diff) =
        super::pull::blocking(move || pack_to(&tree, &file, rights).map_err(PullError::from))
            .await?;
    let descriptor = Descriptor {
        media_type: manifest::LAYER_GZIP.to_owned(),
        digest: digest.clone(),
        size,
        platform: None,
        annotations: None,
    };
    if !repository.has(&digest).await.map_err(PullError::from)? {
        let file = tokio::fs::File::open(&path)
            .await
            .map_err(CommitError::Read)?;
        let bytes = tokio_util::io::ReaderStream::with_capacity(file, 256 << 10);
        let given = repository.put_blob(&digest, size, bytes).await;
        given.map_err(|error: RegistryError| PullError::from(error))?;
    }
    Ok((descriptor, diff))
}

/// Packs a layer's folder into a file: the file's digest and size, and the archive's digest.
fn pack_to(tree: &Path, file: &Path, rights: Rights) -> io::Result<(Digest, u64, Digest)> {
    let outer = Hashing::new(std::fs::File::create(file)?);
    let mut inner = Hashing::new(GzEncoder::new(outer, Compression::fast()));
    pack(tree, &mut inner, rights)?;
    let diff = inner.digest();
    let outer = inner.to.finish()?;
    Ok((outer.digest(), outer.bytes, diff))
}

struct Hashing<W> {
    to: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    fn new(to: W) -> Hashing<W> {
        Hashing {
            to,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    fn digest(&self) -> Digest {
        Digest::from_hash(&self.hash.clone().finalize())
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
