//! What is written down about an image: one small file for each name.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::images::ImageConfig;
use crate::images::reference::Digest;

/// An image under one of its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The full name.
    pub(crate) name: String,
    /// The digest of its configuration.
    pub(crate) id: Digest,
    /// The digest its registry knows it by.
    pub(crate) manifest: Option<Digest>,
    pub(crate) config: ImageConfig,
    /// Folders of the container and the layers that make them; the root first.
    pub(crate) parts: Vec<Part>,
    /// It lies over this machine's own programs.
    pub(crate) over_host: bool,
    pub(crate) origin: Origin,
    pub(crate) since: Timestamp,
}

/// Where an image came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    Registry,
    Archive,
    /// A container that was saved.
    Container,
}

/// Layers that make one folder of the container, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) at: String,
    pub(crate) layers: Vec<Layer>,
}

/// A layer on this disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// What its archive hashes to; also its folder's name.
    pub(crate) diff: Digest,
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// As a registry has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) packed: Option<Packed>,
}

/// A layer as a registry has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Packed {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Record {
    /// All layers, each once for every place it is used at.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.parts.iter().flat_map(|part| &part.layers)
    }

    /// Bytes of all its files; what it shares with others counts in full.
    pub(crate) fn bytes(&self) -> u64 {
        self.layers().map(|layer| layer.bytes).sum()
    }

    /// As a container's status gives it: by the registry's digest where there is one.
    pub(crate) fn image_id(&self) -> String {
        match &self.manifest {
            Some(manifest) => format!("{}@{manifest}", repository_of(&self.name)),
            None => self.id.to_string(),
        }
    }
}

/// A full name without tag and digest.
pub(crate) fn repository_of(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => path,
        _ => name,
    }
}

fn file_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
}

/// Reads all records; one that is not readable is named and left.
pub(super) fn read_all(folder: &Path) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            // A record that was being written when the node was killed.
            fs::remove_file(&path)?;
            continue;
        }
        match serde_json::from_slice(&fs::read(&path)?) {
            Ok(record) => records.push(record),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "an image's record is not readable; the image is pulled again when it is needed");
            }
        }
    }
    Ok(records)
}

/// Writes a record so that after a crash it is there whole or not at all.
pub(super) fn write(folder: &Path, record: &Record) -> io::Result<()> {
    let path = file_of(folder, &record.name);
    let fresh = path.with_extension("new");
    let mut file = fs::File::create(&fresh)?;
    file.write_all(&serde_json::to_vec_pretty(record)?)?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    fs::File::open(folder)?.sync_all()
}

/// Forgets a name.
pub(super) fn remove(folder: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(file_of(folder, name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
