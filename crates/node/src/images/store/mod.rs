//! The images on this disk.
//!
//! ```text
//! layers/<digest>/tree      a layer's files; the digest is that of its unpacked archive
//! layers/<digest>/facts     what is known of it
//! names/<hash>.json         one image under one name: configuration and layers
//! incoming/                 what is being unpacked; emptied at the start
//! ```
//!
//! A layer appears by a rename when it is whole, and an image when its record is written after
//! its layers have reached the disk. So a crash at any moment leaves nothing half there; layers
//! that no record names are removed at the next start. The node is the only one who writes
//! here; `sandlot image` asks it.

pub(crate) mod record;
mod uses;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use super::layer::{LayerError, Limits, Rights, Wanted, unpack};
use super::reference::Digest;
pub(crate) use record::{Layer, Origin, Packed, Part, Record};
pub(crate) use uses::{Uses, note, noted};

/// The images on this disk.
pub(crate) struct Store {
    folder: PathBuf,
    rights: Rights,
    limits: Limits,
    state: Mutex<State>,
    /// Counts changes, so that others notice them.
    changes: AtomicU64,
    turns: Turns,
}

#[derive(Default)]
struct State {
    images: BTreeMap<String, Record>,
    /// Layers that someone uses or is about to.
    held: HashMap<Digest, usize>,
    /// Images by name that someone uses or is about to.
    held_names: HashMap<String, usize>,
}

/// Keeps layers from being removed for as long as it lives.
#[derive(Debug)]
pub(crate) struct Hold {
    store: Weak<Store>,
    name: Option<String>,
    layers: Vec<Digest>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(store) = self.store.upgrade() else {
            return;
        };
        let mut state = store.state();
        for layer in &self.layers {
            let_go(&mut state.held, layer);
        }
        if let Some(name) = &self.name {
            let_go(&mut state.held_names, name);
        }
    }
}

fn let_go<K: std::hash::Hash + Eq>(held: &mut HashMap<K, usize>, what: &K) {
    if let Some(count) = held.get_mut(what) {
        *count -= 1;
        if *count == 0 {
            held.remove(what);
        }
    }
}

/// What is known of a layer that is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) diff: Digest,
    pub(crate) bytes: u64,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Names of images that are no more.
    pub images: Vec<String>,
    /// Bytes of files that only they had.
    pub bytes: u64,
}

/// Why an image was not removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRemoved {
    #[error("there is no image {0:?} here; `sandlot image list` shows those that are")]
    Unknown(String),
    #[error("the image {image} is used by {by}; delete them first")]
    InUse { image: String, by: String },
    #[error("the image cannot be removed: {0}")]
    Io(#[from] io::Error),
}

impl Store {
    /// Opens the images of a folder and removes what a crash left over. `sandboxes` is where
    /// the node's containers note what they use.
    pub(crate) fn open(folder: &Path, sandboxes: &Path, limits: Limits) -> io::Result<Arc<Store>> {
        for name in ["layers", "names", "incoming", "empty"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let records = record::read_all(&folder.join("names"))?;
        let whole = |record: &Record| {
            record
                .layers()
                .all(|layer| folder.join("layers").join(layer.diff.hex()).is_dir())
        };
        let images = records
            .into_iter()
            .filter(whole)
            .map(|record| (record.name.clone(), record));
        let store = Arc::new(Store {
            folder: folder.to_owned(),
            rights: Rights::here(),
            limits,
            state: Mutex::new(State {
                images: images.collect(),
                ..State::default()
            }),
            changes: AtomicU64::new(1),
            turns: Turns::default(),
        });
        for left in entries(&folder.join("incoming"))? {
            remove_tree(&left)?;
        }
        store.sweep(&Uses::read(sandboxes))?;
        Ok(store)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this process may do to files.
    pub(crate) fn rights(&self) -> Rights {
        self.rights
    }

    /// How often the images have changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// All images, by name.
    pub(crate) fn list(&self) -> Vec<Record> {
        self.state().images.values().cloned().collect()
    }

    /// An image by its full name, held so that nobody removes it.
    pub(crate) fn find(self: &Arc<Self>, name: &str) -> Option<(Record, Arc<Hold>)> {
        let mut state = self.state();
        let record = state.images.get(name)?.clone();
        let layers = record.layers().map(|layer| layer.diff.clone()).collect();
        let hold = self.hold_in(&mut state, Some(name.to_owned()), layers);
        Some((record, hold))
    }

    /// Holds layers, whether they are here yet or not.
    pub(crate) fn hold(self: &Arc<Self>, layers: Vec<Digest>) -> Arc<Hold> {
        self.hold_in(&mut self.state(), None, layers)
    }

    fn hold_in(
        self: &Arc<Self>,
        state: &mut State,
        name: Option<String>,
        layers: Vec<Digest>,
    ) -> Arc<Hold> {
        for layer in &layers {
            *state.held.entry(layer.clone()).or_default() += 1;
        }
        if let Some(name) = &name {
            *state.held_names.entry(name.clone()).or_default() += 1;
        }
        Arc::new(Hold {
            store: Arc::downgrade(self),
            name,
            layers,
        })
    }

    /// Waits until nobody else is at work on this thing, and keeps others waiting.
    pub(crate) async fn turn(&self, what: &str) -> tokio::sync::OwnedMutexGuard<()> {
        self.turns.take(what).await
    }

    /// Where a layer's files are.
    pub(crate) fn tree(&self, layer: &Digest) -> PathBuf {
        self.layer_dir(layer).join("tree")
    }

    fn layer_dir(&self, layer: &Digest) -> PathBuf {
        self.folder.join("layers").join(layer.hex())
    }

    /// A layer that is here.
    pub(crate) fn layer(&self, diff: &Digest) -> Option<Facts> {
        let text = fs::read(self.layer_dir(diff).join("facts")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Unpacks a layer; it is here when this returns, and not at all before.
    pub(crate) fn add_layer(
        &self,
        packed: impl Read,
        wanted: &Wanted,
    ) -> Result<Facts, LayerError> {
        let failed = |error| LayerError::File {
            path: "/".to_owned(),
            error,
        };
        let incoming = Incoming::make(&self.folder.join("incoming")).map_err(failed)?;
        let tree = incoming.0.join("tree");
        fs::create_dir(&tree).map_err(failed)?;
        set_mode(&tree, 0o755).map_err(failed)?;
        let unpacked = unpack(packed, &tree, wanted, &self.limits, self.rights)?;
        if unpacked.devices > 0 {
            tracing::debug!(layer = %unpacked.diff, devices = unpacked.devices, "a layer's devices were left out");
        }
        let facts = Facts {
            diff: unpacked.diff,
            bytes: unpacked.bytes,
        };
        let text = serde_json::to_vec(&facts).map_err(|error| failed(error.into()))?;
        fs::write(incoming.0.join("facts"), text).map_err(failed)?;
        let to = self.layer_dir(&facts.diff);
        match fs::rename(&incoming.0, &to) {
            // Somebody else was as quick with the very same.
            Err(_) if self.layer(&facts.diff).is_some() => {}
            other => other.map_err(failed)?,
        }
        Ok(facts)
    }

    /// The layer whose files are in this folder, if it is one of ours.
    pub(crate) fn layer_of(&self, tree: &Path) -> Option<Facts> {
        let digest = uses::digest_of(tree)?;
        if self.tree(&digest) == tree {
            self.layer(&digest)
        } else {
            None
        }
    }

    /// What an image without layers lies on.
    pub(crate) fn empty(&self) -> PathBuf {
        self.folder.join("empty")
    }

    /// How a registry has a layer, if it came from one.
    pub(crate) fn packed(&self, diff: &Digest) -> Option<Packed> {
        let state = self.state();
        let mut layers = state.images.values().flat_map(Record::layers);
        layers
            .find(|layer| layer.diff == *diff && layer.packed.is_some())?
            .packed
            .clone()
    }

    /// A folder to write into that goes away by itself unless it is used.
    pub(crate) fn incoming(&self) -> io::Result<Incoming> {
        Incoming::make(&self.folder.join("incoming"))
    }

    /// Makes an image known, once its layers are safely on the disk.
    pub(crate) fn put(&self, record: Record) -> io::Result<()> {
        sync_disk(&self.folder.join("layers"))?;
        let mut state = self.state();
        record::write(&self.folder.join("names"), &record)?;
        state.images.insert(record.name.clone(), record);
        drop(state);
        self.changes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Removes a name, and what nothing else needs, unless a container uses it.
    pub(crate) fn remove(&self, name: &str, uses: &Uses) -> Result<Removed, NotRemoved> {
        let record = self.state().images.get(name).cloned();
        let record = record.ok_or_else(|| NotRemoved::Unknown(name.to_owned()))?;
        let others_have_it = self
            .state()
            .images
            .values()
            .any(|other| other.name != name && other.parts == record.parts);
        let users = self.users(&record, uses);
        if !others_have_it && !users.is_empty() {
            return Err(NotRemoved::InUse {
                image: name.to_owned(),
                by: users.join(", "),
            });
        }
        let bytes = self.forget(&[name.to_owned()], uses)?;
        Ok(Removed {
            images: vec![name.to_owned()],
            bytes,
        })
    }

    /// Removes all images that no container uses and nobody keeps.
    pub(crate) fn prune(&self, uses: &Uses, is_kept: impl Fn(&str) -> bool) -> io::Result<Removed> {
        let idle = self
            .list()
            .into_iter()
            .filter(|record| !is_kept(&record.name) && self.users(record, uses).is_empty());
        let names: Vec<String> = idle.map(|record| record.name).collect();
        let bytes = self.forget(&names, uses)?;
        Ok(Removed {
            images: names,
            bytes,
        })
    }

    /// Who uses an image: pods, or somebody who is about to.
    pub(crate) fn users(&self, record: &Record, uses: &Uses) -> Vec<String> {
        let layers: BTreeSet<&Digest> = record.layers().map(|layer| &layer.diff).collect();
        let mut users = uses.of(&layers);
        if users.is_empty() && self.state().held_names.contains_key(&record.name) {
            users.push("a pod that is being started".to_owned());
        }
        users
    }

    fn forget(&self, names: &[String], uses: &Uses) -> io::Result<u64> {
        let mut state = self.state();
        for name in names {
            record::remove(&self.folder.join("names"), name)?;
            state.images.remove(name);
        }
        drop(state);
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.sweep(uses)
    }

    /// Removes layers that nothing needs; how many bytes of files went.
    fn sweep(&self, uses: &Uses) -> io::Result<u64> {
        let mut bytes = 0;
        let mut dead = Vec::new();
        {
            // Nobody can take hold of a layer between the look and the move.
            let state = self.state();
            let named: BTreeSet<&Digest> = state
                .images
                .values()
                .flat_map(|record| record.layers().map(|layer| &layer.diff))
                .collect();
            for path in entries(&self.folder.join("layers"))? {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let digest: Option<Digest> = format!("sha256:{name}").parse().ok();
                let needed = digest.as_ref().is_some_and(|digest| {
                    named.contains(digest)
                        || state.held.contains_key(digest)
                        || uses.layers.contains(digest)
                });
                if needed {
                    continue;
                }
                bytes += digest
                    .and_then(|digest| self.layer(&digest))
                    .map_or(0, |facts| facts.bytes);
                let aside = Incoming::name(&self.folder.join("incoming"));
                fs::rename(&path, &aside)?;
                dead.push(aside);
            }
        }
        for path in dead {
            remove_tree(&path)?;
        }
        Ok(bytes)
    }
}

/// A folder that is removed when it is dropped, unless it was moved away.
pub(crate) struct Incoming(PathBuf);

impl Incoming {
    fn name(folder: &Path) -> PathBuf {
        folder.join(uuid::Uuid::new_v4().simple().to_string())
    }

    fn make(folder: &Path) -> io::Result<Incoming> {
        let path = Incoming::name(folder);
        fs::create_dir(&path)?;
        Ok(Incoming(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "what was unpacked cannot be removed; it goes at the next start");
        }
    }
}

/// One at a time for each thing.
#[derive(Default)]
struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    async fn take(&self, what: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(what).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let fresh = Arc::new(tokio::sync::Mutex::new(()));
                turns.insert(what.to_owned(), Arc::downgrade(&fresh));
                fresh
            })
        };
        turn.lock_owned().await
    }
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Has everything that was written to this disk reach it.
fn sync_disk(folder: &Path) -> io::Result<()> {
    let folder = fs::File::open(folder)?;
    // SAFETY: the descriptor is open, and no pointer is passed.
    match unsafe { libc::syncfs(folder.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Removes a folder also where its owner has taken the right to do so from itself.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let mut folders = vec![path.to_owned()];
            while let Some(folder) = folders.pop() {
                set_mode(&folder, 0o700)?;
                for entry in fs::read_dir(&folder)? {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() {
                        folders.push(entry.path());
                    }
                }
            }
            fs::remove_dir_all(path)
        }
        other => other,
    }
}
