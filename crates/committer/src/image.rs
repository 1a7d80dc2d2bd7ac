//! The documents of an image: those of the base, and with a layer more those of what is saved.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::wire::Part;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Docker allows 127, and a kernel some hundreds.
const MOST_LAYERS: usize = 127;

/// Documents that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadImage {
    /// It cannot be read.
    #[error("the {0} of the container's image cannot be read: {1}")]
    Unreadable(&'static str, String),
    /// An index without an image for this kind of machine.
    #[error("the container's image has nothing for {0} in its index")]
    Platform(String),
    /// Too many layers.
    #[error("the image has {0} layers already; start the sandbox from a smaller image")]
    Layers(usize),
}

/// What an image begins with.
#[derive(Debug, PartialEq)]
pub(crate) enum Document {
    /// One manifest for each kind of machine; that of this kind.
    Index(String),
    /// The manifest.
    Manifest(Manifest),
}

/// A manifest, as far as it matters.
#[derive(Debug, PartialEq)]
pub(crate) struct Manifest {
    /// The configuration's digest.
    pub(crate) config: String,
    pub(crate) layers: Vec<Part>,
}

/// The documents of an image that is to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) config: Bytes,
    pub(crate) config_digest: String,
    pub(crate) manifest: Bytes,
    pub(crate) manifest_digest: String,
}

impl Saved {
    pub(crate) const MANIFEST_TYPE: &str = MANIFEST;
}

/// Reads an index or a manifest, for machines of an architecture as images name it.
pub(crate) fn read(bytes: &[u8], architecture: &str) -> Result<Document, BadImage> {
    let whole = parse("manifest", bytes)?;
    if let Some(manifests) = whole["manifests"].as_array() {
        let fits = |one: &&Value| {
            let platform = &one["platform"];
            platform["os"] == "linux" && platform["architecture"] == architecture
        };
        let found = manifests.iter().find(fits);
        let digest = found.and_then(|one| one["digest"].as_str());
        let digest = digest.ok_or_else(|| BadImage::Platform(architecture.to_owned()))?;
        return Ok(Document::Index(digest.to_owned()));
    }
    let missing = |what: &str| BadImage::Unreadable("manifest", format!("it has no {what}"));
    let config = whole["config"]["digest"].as_str();
    let layers = whole["layers"]
        .as_array()
        .ok_or_else(|| missing("layers"))?;
    let layers = layers.iter().map(|layer| {
        Some(Part {
            media_type: layer["mediaType"].as_str()?.to_owned(),
            digest: layer["digest"].as_str()?.to_owned(),
            size: layer["size"].as_i64()?,
        })
    });
    let layers: Option<Vec<Part>> = layers.collect();
    Ok(Document::Manifest(Manifest {
        config: config.ok_or_else(|| missing("configuration"))?.to_owned(),
        layers: layers.ok_or_else(|| missing("digests"))?,
    }))
}

/// The documents of an image that is the base and one layer more.
pub(crate) fn with_layer(
    base: &Manifest,
    config: &[u8],
    layer: &Part,
    unpacked: &str,
    now: Timestamp,
) -> Result<Saved, BadImage> {
    if base.layers.len() >= MOST_LAYERS {
        return Err(BadImage::Layers(base.layers.len()));
    }
    let mut config = parse("configuration", config)?;
    let unreadable = || BadImage::Unreadable("configuration", "it names no layers".to_owned());
    let diffs = config["rootfs"]["diff_ids"].as_array_mut();
    diffs.ok_or_else(unreadable)?.push(json!(unpacked));
    let created = json!(now.to_string());
    let step = json!({ "created": created, "created_by": "sandlot", "comment": "a saved sandbox" });
    match config["history"].as_array_mut() {
        Some(history) => history.push(step),
        // Without a history each layer would want an entry.
        None => drop(
            config
                .as_object_mut()
                .map(|config| config.remove("history")),
        ),
    }
    config["created"] = created;
    let config = Bytes::from(config.to_string());
    let config_digest = digest(&config);
    let layers: Vec<Value> = base.layers.iter().chain([layer]).map(described).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": config_digest, "size": config.len() },
        "layers": layers,
    });
    let manifest = Bytes::from(manifest.to_string());
    Ok(Saved {
        manifest_digest: digest(&manifest),
        manifest,
        config_digest,
        config,
    })
}

/// A layer as our manifest names it: Docker's names become those that fit the manifest's own.
fn described(layer: &Part) -> Value {
    let packed = match layer.media_type.as_str() {
        kind if kind.ends_with("gzip") => "+gzip",
        kind if kind.ends_with("zstd") => "+zstd",
        _ => "",
    };
    json!({ "mediaType": format!("{LAYER}{packed}"), "digest": layer.digest, "size": layer.size })
}

fn parse(what: &'static str, bytes: &[u8]) -> Result<Value, BadImage> {
    serde_json::from_slice(bytes).map_err(|error| BadImage::Unreadable(what, error.to_string()))
}

/// What identifies bytes in a registry.
fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(kind: &str, name: &str) -> Part {
        Part {
            media_type: kind.to_owned(),
            digest: format!("sha256:{name}"),
            size: 7,
        }
    }

    fn base() -> Manifest {
        let text = json!({ "config": { "digest": "sha256:c" }, "layers": [
            { "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": "sha256:one", "size": 7 }] });
        match read(text.to_string().as_bytes(), "amd64").unwrap() {
            Document::Manifest(manifest) => manifest,
            Document::Index(_) => panic!("an index"),
        }
    }

    #[test]
    fn of_an_index_the_machines_own_image_is_meant() {
        let index = json!({ "manifests": [
            { "digest": "sha256:arm", "platform": { "os": "linux", "architecture": "arm64" } },
            { "digest": "sha256:amd", "platform": { "os": "linux", "architecture": "amd64" } } ] });
        let index = index.to_string();
        let found = read(index.as_bytes(), "amd64").unwrap();
        assert_eq!(found, Document::Index("sha256:amd".to_owned()));
        let none = read(index.as_bytes(), "s390x");
        assert_eq!(none, Err(BadImage::Platform("s390x".to_owned())));
    }

    #[test]
    fn what_was_written_lies_over_the_base_and_nothing_else_changes() {
        let config = json!({ "architecture": "amd64", "os": "linux", "config": { "Cmd": ["x"] },
            "rootfs": { "type": "layers", "diff_ids": ["sha256:a"] }, "history": [{ "created_by": "base" }] });
        let new = layer("application/vnd.oci.image.layer.v1.tar+gzip", "two");
        let bytes = config.to_string();
        let now = Timestamp::UNIX_EPOCH;
        let saved = with_layer(&base(), bytes.as_bytes(), &new, "sha256:b", now).unwrap();
        let config: Value = serde_json::from_slice(&saved.config).unwrap();
        assert_eq!(config["config"], json!({ "Cmd": ["x"] }));
        assert_eq!(
            config["rootfs"]["diff_ids"],
            json!(["sha256:a", "sha256:b"])
        );
        assert_eq!(config["history"].as_array().unwrap().len(), 2);
        let manifest: Value = serde_json::from_slice(&saved.manifest).unwrap();
        assert_eq!(manifest["config"]["digest"], saved.config_digest);
        let layers = manifest["layers"].as_array().unwrap();
        let kinds: Vec<_> = layers
            .iter()
            .map(|layer| layer["mediaType"].clone())
            .collect();
        let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
        assert_eq!(kinds, [gzip, gzip]);
        assert!(saved.manifest_digest.starts_with("sha256:") && saved.manifest_digest.len() == 71);
    }

    #[test]
    fn an_image_of_too_many_layers_is_not_made() {
        let mut base = base();
        base.layers = vec![base.layers[0].clone(); 127];
        let config = json!({ "rootfs": { "diff_ids": [] } }).to_string();
        let new = layer("", "two");
        let made = with_layer(&base, config.as_bytes(), &new, "", Timestamp::UNIX_EPOCH);
        assert_eq!(made, Err(BadImage::Layers(127)));
    }
}
