//! Making images: layers written by hand, so that they can also be wrong.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};
use sha2::Digest as _;
use tar::{EntryType, Header};

/// How a layer is packed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A layer being written.
pub(crate) struct Layer {
    archive: tar::Builder<Vec<u8>>,
    pub(crate) packing: Packing,
}

impl Layer {
    pub(crate) fn new() -> Layer {
        Layer {
            archive: tar::Builder::new(Vec::new()),
            packing: Packing::Gzip,
        }
    }

    pub(crate) fn packed(mut self, packing: Packing) -> Layer {
        self.packing = packing;
        self
    }

    fn header(kind: EntryType, mode: u32, owner: (u64, u64), size: usize) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_mtime(1_600_000_000);
        header.set_size(size as u64);
        header
    }

    pub(crate) fn owned(
        mut self,
        path: &str,
        content: &[u8],
        mode: u32,
        owner: (u64, u64),
    ) -> Layer {
        let mut header = Self::header(EntryType::Regular, mode, owner, content.len());
        self.archive
            .append_data(&mut header, path, content)
            .unwrap();
        self
    }

    pub(crate) fn file(self, path: &str, content: &[u8], mode: u32) -> Layer {
        self.owned(path, content, mode, (0, 0))
    }

    pub(crate) fn folder(mut self, path: &str, mode: u32, owner: (u64, u64)) -> Layer {
        let mut header = Self::header(EntryType::Directory, mode, owner, 0);
        self.archive
            .append_data(&mut header, path, std::io::empty())
            .unwrap();
        self
    }

    pub(crate) fn link(mut self, kind: EntryType, path: &str, target: &str) -> Layer {
        let mut header = Self::header(kind, 0o777, (0, 0), 0);
        self.archive.append_link(&mut header, path, target).unwrap();
        self
    }

    /// Attributes of the next entry.
    pub(crate) fn attributes(mut self, attributes: &[(&str, &[u8])]) -> Layer {
        let named = attributes
            .iter()
            .map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value));
        let named: Vec<_> = named.collect();
        let pairs = named.iter().map(|(name, value)| (name.as_str(), *value));
        self.archive.append_pax_extensions(pairs).unwrap();
        self
    }

    /// An entry of any kind and name, also such as no tool would write.
    pub(crate) fn odd(
        mut self,
        kind: EntryType,
        path: &[u8],
        target: &[u8],
        content: &[u8],
        claimed: u64,
    ) -> Layer {
        let mut header = Self::header(kind, 0o644, (0, 0), 0);
        header.set_size(claimed);
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        if kind == EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(1).unwrap();
        }
        header.set_cksum();
        self.archive.append(&header, content).unwrap();
        self
    }

    /// The archive, plain.
    pub(crate) fn archive(self) -> Vec<u8> {
        self.archive.into_inner().unwrap()
    }
}

/// A finished image: everything a registry or an archive holds of it.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
    /// By digest: the layers and the configuration.
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) layers: Vec<String>,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = sha2::Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// Puts layers together; `run` is the configuration's inner part.
pub(crate) fn image(layers: Vec<Layer>, run: Value) -> Image {
    image_for(std::env::consts::ARCH, layers, run)
}

pub(crate) fn image_for(machine: &str, layers: Vec<Layer>, run: Value) -> Image {
    let architecture = match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut blobs = BTreeMap::new();
    let (mut diffs, mut descriptors, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for layer in layers {
        let packing = layer.packing;
        let plain = layer.archive();
        diffs.push(digest(&plain));
        let (bytes, kind) = match packing {
            Packing::Plain => (plain, "tar"),
            Packing::Gzip => (gzip(&plain), "tar+gzip"),
            Packing::Zstd => (zstd::encode_all(plain.as_slice(), 3).unwrap(), "tar+zstd"),
        };
        let name = digest(&bytes);
        descriptors.push(
            json!({"mediaType": format!("application/vnd.oci.image.layer.v1.{kind}"),
            "digest": name, "size": bytes.len()}),
        );
        names.push(name.clone());
        blobs.insert(name, bytes);
    }
    let config = json!({"architecture": architecture, "os": "linux", "config": run,
        "rootfs": {"type": "layers", "diff_ids": diffs}});
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len()},
        "layers": descriptors});
    blobs.insert(digest(&config), config.clone());
    Image {
        config,
        manifest: serde_json::to_vec(&manifest).unwrap(),
        blobs,
        layers: names,
    }
}

/// The shell of this machine and what it needs: the smallest system there is.
pub(crate) fn shell() -> Layer {
    static FILES: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
        let listed = Command::new("ldd").arg("/bin/sh").output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let libraries = listed
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
            .map(PathBuf::from);
        let files = libraries.map(|path| (path.clone(), std::fs::read(path).unwrap()));
        files
            .chain([(PathBuf::from("/bin/sh"), std::fs::read("/bin/sh").unwrap())])
            .collect()
    });
    let mut layer =
        Layer::new()
            .folder("tmp/", 0o1777, (0, 0))
            .odd(EntryType::Fifo, b"rest", b"", b"", 0);
    for (path, content) in FILES.iter() {
        let path = path.strip_prefix("/").unwrap();
        layer = layer.file(path.to_str().unwrap(), content, 0o755);
    }
    layer
}

/// Rests until it is ended: nobody ever writes into the pipe of [`shell`].
pub(crate) const REST: &str = "while :; do read x < /rest; done";

/// A folder laid out as an OCI layout, as one archive.
pub(crate) fn oci_layout(image: &Image, name: Option<&str>) -> Vec<u8> {
    let mut descriptor = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(&image.manifest), "size": image.manifest.len()});
    if let Some(name) = name {
        descriptor["annotations"] = json!({"io.containerd.image.name": name});
    }
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
    let mut layer = Layer::new().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644);
    layer = layer.file("index.json", &serde_json::to_vec(&index).unwrap(), 0o644);
    let all = image
        .blobs
        .iter()
        .map(|(name, bytes)| (name.clone(), bytes.clone()));
    for (name, bytes) in all.chain([(digest(&image.manifest), image.manifest.clone())]) {
        layer = layer.file(&format!("blobs/sha256/{}", &name[7..]), &bytes, 0o644);
    }
    layer.archive()
}

/// What `docker save` writes, manifest last.
pub(crate) fn docker_archive(image: &Image, name: &str) -> Vec<u8> {
    let mut layer = Layer::new().file("config.json", &image.config, 0o644);
    let mut layers = Vec::new();
    for (number, digest) in image.layers.iter().enumerate() {
        let path = format!("{number}/layer.tar");
        layer = layer.file(&path, &image.blobs[digest], 0o644);
        layers.push(path);
    }
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": layers}]);
    layer
        .file(
            "manifest.json",
            &serde_json::to_vec(&manifest).unwrap(),
            0o644,
        )
        .archive()
}

/// How many folders and files lie directly in a folder.
pub(crate) fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}
