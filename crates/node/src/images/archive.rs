//! Taking in an image from an archive: an OCI layout or what `docker save` writes.
//!
//! An archive's files come in any order, so they are laid down first, flat and under names of
//! our own; then the documents in them are followed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::layer::{BETWEEN_LOOKS, HEADERS, LayerError, Wanted, plain, room};
use super::manifest::{self, BadManifest, Configuration, Descriptor, Document, Manifest, Platform};
use super::pull::PullError;
use super::reference::{BadReference, Digest, Reference};
use super::store::{Incoming, Layer, Origin, Packed, Part, Record, Store};

/// Files and folders in an archive of an image: documents and layers.
const MOST_FILES: usize = 10_000;
const LONGEST_DOCUMENT: u64 = 4 << 20;
/// Where names are found in an OCI layout.
const NAME_ANNOTATIONS: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];
/// A layer that a link leads to is found within so many steps.
const MOST_LINKS: usize = 8;

/// Why an archive was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error("the archive cannot be read: {0}")]
    Archive(io::Error),
    #[error("the archive has more than {MOST_FILES} files; it is no image")]
    TooMany,
    #[error(
        "this is no image archive: it has neither index.json (OCI layout) nor manifest.json (docker save)"
    )]
    Neither,
    #[error("the archive names {0:?}, which is not in it")]
    Missing(String),
    #[error("the archive's image has no name; give it one with --name")]
    Nameless,
    #[error("the archive has {0} images; --name can be given to one only")]
    OneName(usize),
    #[error("{0:?} is no image's name: {1}")]
    BadName(String, BadReference),
}

impl From<BadManifest> for ImportError {
    fn from(error: BadManifest) -> ImportError {
        ImportError::Pull(error.into())
    }
}

impl From<LayerError> for ImportError {
    fn from(error: LayerError) -> ImportError {
        ImportError::Pull(error.into())
    }
}

/// `manifest.json` of docker's archives.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// `index.json` of an OCI layout.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// Takes in all images of an archive; `name` is for one that brings none, or another.
pub(crate) fn import(
    store: &Arc<Store>,
    archive: impl Read,
    name: Option<&str>,
) -> Result<Vec<Record>, ImportError> {
    let laid = Laid::down(store, archive)?;
    let found = match (laid.has("index.json"), laid.has("manifest.json")) {
        // Newer archives are both; docker's part knows the names better.
        (_, true) => laid.docker()?,
        (true, false) => laid.oci()?,
        (false, false) => return Err(ImportError::Neither),
    };
    if name.is_some() && found.len() != 1 {
        return Err(ImportError::OneName(found.len()));
    }
    let mut records = Vec::new();
    for image in found {
        let names = match name {
            Some(name) => vec![name.to_owned()],
            None => image.names.clone(),
        };
        if names.is_empty() {
            return Err(ImportError::Nameless);
        }
        let names = names
            .into_iter()
            .map(|name| match name.parse::<Reference>() {
                Ok(reference) => Ok(reference),
                Err(error) => Err(ImportError::BadName(name, error)),
            });
        let names: Vec<Reference> = names.collect::<Result<_, _>>()?;
        records.extend(laid.take(store, &image, &names)?);
    }
    Ok(records)
}

/// An image as the archive describes it.
struct Found {
    names: Vec<String>,
    config: Vec<u8>,
    config_digest: Digest,
    manifest: Option<Digest>,
    /// The files of its layers, and what they are to be, as far as the archive says.
    layers: Vec<(String, Option<Descriptor>)>,
}

/// An archive's files, laid down.
struct Laid {
    /// Goes when this does, with all that is in it.
    _folder: Incoming,
    /// By their names in the archive.
    files: BTreeMap<String, Entry>,
}

enum Entry {
    File { path: PathBuf, size: u64 },
    Link(String),
}

impl Laid {
    fn down(store: &Store, archive: impl Read) -> Result<Laid, ImportError> {
        let folder = store.incoming().map_err(ImportError::Archive)?;
        let mut files = BTreeMap::new();
        let reader = plain(archive).map_err(ImportError::Archive)?;
        let mut archive = tar::Archive::new(reader.reader);
        for entry in archive.entries().map_err(ImportError::Archive)? {
            let mut entry = entry.map_err(ImportError::Archive)?;
            reader.ration.set(u64::MAX);
            if files.len() >= MOST_FILES {
                return Err(ImportError::TooMany);
            }
            let name = clean(&entry.path_bytes());
            let kind = entry.header().entry_type();
            if kind.is_file() {
                let path = folder.path().join(files.len().to_string());
                let mut file = fs::File::create(&path).map_err(ImportError::Archive)?;
                let size = lay_down(&mut entry, &mut file, folder.path())?;
                files.insert(name, Entry::File { path, size });
            } else if kind.is_symlink() || kind.is_hard_link() {
                let target = String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default())
                    .into_owned();
                let target = match kind.is_symlink() {
                    true => joined(&name, &target),
                    false => clean(target.as_bytes()),
                };
                files.insert(name, Entry::Link(target));
            }
            io::copy(&mut entry, &mut io::sink()).map_err(ImportError::Archive)?;
            reader.ration.set(HEADERS);
        }
        Ok(Laid {
            _folder: folder,
            files,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// A file, by way of the links that older archives have in place of repeated layers.
    fn file(&self, name: &str) -> Result<(&PathBuf, u64), ImportError> {
        let mut name = name;
        for _ in 0..MOST_LINKS {
            match self.files.get(name) {
                Some(Entry::File { path, size }) => return Ok((path, *size)),
                Some(Entry::Link(target)) => name = target,
                None => break,
            }
        }
        Err(ImportError::Missing(name.to_owned()))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, ImportError> {
        let (path, size) = self.file(name)?;
        if size > LONGEST_DOCUMENT {
            let long = io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{name} is too long for what it is"),
            );
            return Err(ImportError::Archive(long));
        }
        fs::read(path).map_err(ImportError::Archive)
    }

    /// A document of an OCI layout, which is named by what it hashes to.
    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, ImportError> {
        let bytes = self.document(&blob_name(digest))?;
        let sent = Digest::of(&bytes);
        if sent == *digest {
            return Ok(bytes);
        }
        Err(LayerError::WrongDigest {
            wanted: digest.to_string(),
            sent: sent.to_string(),
        }
        .into())
    }

    fn docker(&self) -> Result<Vec<Found>, ImportError> {
        let saved: Vec<Saved> = read("manifest.json", &self.document("manifest.json")?)?;
        let found = saved.into_iter().map(|saved| {
            let config = self.document(&clean(saved.config.as_bytes()))?;
            Ok(Found {
                names: saved.repo_tags.unwrap_or_default(),
                config_digest: Digest::of(&config),
                config,
                manifest: None,
                layers: saved
                    .layers
                    .iter()
                    .map(|layer| (clean(layer.as_bytes()), None))
                    .collect(),
            })
        });
        found.collect()
    }

    fn oci(&self) -> Result<Vec<Found>, ImportError> {
        let index: Index = read("index.json", &self.document("index.json")?)?;
        let mut found = Vec::new();
        for descriptor in &index.manifests {
            let (digest, manifest) = self.resolve(descriptor)?;
            let config = self.blob(&manifest.config.digest)?;
            let annotations = descriptor.annotations.clone().unwrap_or_default();
            let name = NAME_ANNOTATIONS
                .iter()
                .find_map(|key| annotations.get(*key))
                .cloned();
            found.push(Found {
                // A bare tag is only a part of a name.
                names: name
                    .filter(|name| name.contains(['/', ':']))
                    .into_iter()
                    .collect(),
                config_digest: manifest.config.digest.clone(),
                config,
                manifest: Some(digest),
                layers: manifest
                    .layers
                    .into_iter()
                    .map(|layer| (blob_name(&layer.digest), Some(layer)))
                    .collect(),
            });
        }
        Ok(found)
    }

    /// Follows indexes to the image for this machine.
    fn resolve(&self, descriptor: &Descriptor) -> Result<(Digest, Manifest), ImportError> {
        let mut digest = descriptor.digest.clone();
        for _ in 0..MOST_LINKS {
            match manifest::read(&self.blob(&digest)?)? {
                Document::Image(manifest) => return Ok((descriptor.digest.clone(), manifest)),
                Document::Index(all) => digest = manifest::choose(&all, &Platform::here())?.digest,
            }
        }
        Err(BadManifest::Unreadable("index", "it leads in a circle".to_owned()).into())
    }

    /// Unpacks an image's layers and makes it known under its names.
    fn take(
        &self,
        store: &Arc<Store>,
        image: &Found,
        names: &[Reference],
    ) -> Result<Vec<Record>, ImportError> {
        let configuration =
            Configuration::read(&image.config, image.layers.len(), &Platform::here())?;
        let diffs = &configuration.rootfs.diff_ids;
        let _hold = store.hold(diffs.clone());
        let mut layers = Vec::new();
        for ((file, descriptor), diff) in image.layers.iter().zip(diffs) {
            let facts = match store.layer(diff) {
                Some(facts) => facts,
                None => {
                    let (path, size) = self.file(file)?;
                    let wanted = Wanted {
                        size,
                        digest: descriptor
                            .as_ref()
                            .map(|descriptor| descriptor.digest.clone()),
                        diff: Some(diff.clone()),
                    };
                    store.add_layer(fs::File::open(path).map_err(ImportError::Archive)?, &wanted)?
                }
            };
            let packed = descriptor.as_ref().map(|descriptor| Packed {
                media_type: descriptor.media_type.clone(),
                digest: descriptor.digest.clone(),
                size: descriptor.size,
            });
            layers.push(Layer {
                diff: facts.diff,
                bytes: facts.bytes,
                packed,
            });
        }
        let mut records = Vec::new();
        for name in names {
            let record = Record {
                name: name.to_string(),
                id: image.config_digest.clone(),
                manifest: image.manifest.clone(),
                config: configuration.image_config(),
                parts: vec![Part {
                    at: "/".to_owned(),
                    layers: layers.clone(),
                }],
                over_host: false,
                origin: Origin::Archive,
                since: Timestamp::now(),
            };
            store.put(record.clone()).map_err(PullError::from)?;
            records.push(record);
        }
        Ok(records)
    }
}

/// Copies a file for as long as the disk has room.
fn lay_down(from: &mut impl Read, to: &mut fs::File, folder: &Path) -> Result<u64, ImportError> {
    let mut size = 0;
    loop {
        room(folder)?;
        let count =
            io::copy(&mut from.by_ref().take(BETWEEN_LOOKS), to).map_err(ImportError::Archive)?;
        size += count;
        if count < BETWEEN_LOOKS {
            return Ok(size);
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, ImportError> {
    serde_json::from_slice(bytes)
        .map_err(|error| BadManifest::Unreadable(what, error.to_string()).into())
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A name without steps that lead nowhere. It is only ever a key, never a path on the disk.
fn clean(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let mut steps: Vec<&str> = Vec::new();
    for step in name.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                steps.pop();
            }
            step => steps.push(step),
        }
    }
    steps.join("/")
}

/// Where a symbolic link leads.
fn joined(link: &str, target: &str) -> String {
    let folder = link.rsplit_once('/').map_or("", |(folder, _)| folder);
    clean(format!("{folder}/{target}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_older_archives_lead_to_the_layer_they_repeat() {
        assert_eq!(joined("abc/layer.tar", "../def/layer.tar"), "def/layer.tar");
        assert_eq!(joined("a", "b"), "b");
        assert_eq!(clean(b"./blobs//sha256/../sha256/x"), "blobs/sha256/x");
        assert_eq!(clean(b"../../etc/passwd"), "etc/passwd");
    }
}
