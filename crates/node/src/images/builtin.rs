//! Images that come with the program: a few files each, unpacked at the start.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path};

use sha2::{Digest as _, Sha256};

use super::{Image, ImageConfig, Tree};

/// Unpacks all of them; what is already there and the same is kept.
pub(super) fn unpack_all(
    folder: &Path,
    images: &BTreeMap<String, BTreeMap<String, Vec<u8>>>,
) -> io::Result<BTreeMap<String, Image>> {
    fs::create_dir_all(folder)?;
    images
        .iter()
        .map(|(name, files)| Ok((name.clone(), unpack(folder, name, files)?)))
        .collect()
}

fn unpack(folder: &Path, name: &str, files: &BTreeMap<String, Vec<u8>>) -> io::Result<Image> {
    let mut digest = Sha256::new();
    for (path, content) in files {
        for part in [path.as_bytes(), content] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    let digest: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let dir = folder.join(&digest);
    if !dir.exists() {
        let fresh = folder.join(format!("{digest}.new"));
        let _ = fs::remove_dir_all(&fresh);
        fs::create_dir_all(&fresh)?;
        for (path, content) in files {
            write(&fresh, Path::new(path), content)?;
        }
        fs::rename(&fresh, &dir)?;
    }
    Ok(Image {
        name: name.to_owned(),
        id: format!("sha256:{digest}"),
        config: ImageConfig {
            working_dir: "/".to_owned(),
            ..ImageConfig::default()
        },
        trees: vec![Tree {
            at: "/".to_owned(),
            layers: vec![dir],
        }],
        ..Image::default()
    })
}

fn write(dir: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let path = path.strip_prefix("/").unwrap_or(path);
    if !path
        .components()
        .all(|step| matches!(step, Component::Normal(_)))
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is not a plain path", path.display()),
        ));
    }
    let to = dir.join(path);
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&to, content)?;
    let program = content.starts_with(b"\x7fELF") || content.starts_with(b"#!");
    fs::set_permissions(
        &to,
        fs::Permissions::from_mode(if program { 0o755 } else { 0o644 }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_executable_and_names_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let files = BTreeMap::from([
            ("bin/a".to_owned(), b"#!/bin/sh\n".to_vec()),
            ("b".to_owned(), b"text".to_vec()),
        ]);
        let images = BTreeMap::from([("x".to_owned(), files)]);
        let made = unpack_all(dir.path(), &images).unwrap();
        let layer = &made["x"].trees[0].layers[0];
        assert_eq!(
            fs::metadata(layer.join("bin/a"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o755
        );
        assert_eq!(
            fs::metadata(layer.join("b")).unwrap().permissions().mode() & 0o777,
            0o644
        );
        let bad = BTreeMap::from([(
            "x".to_owned(),
            BTreeMap::from([("../b".to_owned(), Vec::new())]),
        )]);
        assert!(unpack_all(dir.path(), &bad).is_err());
    }
}
