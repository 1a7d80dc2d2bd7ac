//! The layers on this disk: each is there as a whole or not at all.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folders::{Incoming, set_mode};
use super::{Store, uses};
use crate::images::layer::{LayerError, Wanted, unpack};
use crate::images::reference::Digest;

/// What is known of a layer that is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) diff: Digest,
    pub(crate) bytes: u64,
}

impl Store {
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
        let tree = incoming.path().join("tree");
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
        fs::write(incoming.path().join("facts"), text).map_err(failed)?;
        let to = self.layer_dir(&facts.diff);
        match fs::rename(incoming.path(), &to) {
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

    /// A folder to write into that goes away by itself unless it is used.
    pub(crate) fn incoming(&self) -> io::Result<Incoming> {
        Incoming::make(&self.folder.join("incoming"))
    }
}
