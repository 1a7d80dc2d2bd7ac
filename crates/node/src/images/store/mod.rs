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

mod folders;
mod hold;
mod layers;
pub(crate) mod record;
mod removal;
mod turns;
mod uses;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::layer::{Limits, Rights};
use super::reference::Digest;
pub(crate) use folders::Incoming;
use folders::{entries, remove_tree};
pub(crate) use hold::Hold;
pub(crate) use layers::Facts;
pub(crate) use record::{Layer, Origin, Packed, Part, Record};
pub(crate) use removal::NotRemoved;
pub use removal::Removed;
use turns::Turns;
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

    /// Waits until nobody else is at work on this thing, and keeps others waiting.
    pub(crate) async fn turn(&self, what: &str) -> tokio::sync::OwnedMutexGuard<()> {
        self.turns.take(what).await
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
