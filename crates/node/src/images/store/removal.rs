//! Removing images, and the layers that nothing needs any more.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::folders::{Incoming, entries, remove_tree};
use super::{Record, Store, Uses, record};
use crate::images::reference::Digest;

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
    pub(super) fn sweep(&self, uses: &Uses) -> io::Result<u64> {
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
