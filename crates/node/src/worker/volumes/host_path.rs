//! Folders, files and sockets of the machine, as `hostPath` wants them.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// Finds what is wanted, or makes it where its type says so; `closed` are folders in which
/// Sandlot keeps its keys and what is other pods'.
pub(super) fn find(wanted: &HostPathVolumeSource, closed: &[PathBuf]) -> Result<PathBuf, String> {
    let path = PathBuf::from(&wanted.path);
    if !path.is_absolute() || wanted.path.split('/').any(|step| step == "..") {
        return Err(format!(
            "hostPath {:?} is not a plain absolute path",
            wanted.path
        ));
    }
    let failed = |error: io::Error| format!("hostPath {}: {error}", wanted.path);
    refuse_closed(&path, closed)?;
    let kind = wanted.type_.as_deref().unwrap_or("");
    match (kind, path.exists()) {
        ("" | "DirectoryOrCreate", false) => fs::create_dir_all(&path).map_err(failed)?,
        ("FileOrCreate", false) => fs::write(&path, "").map_err(failed)?,
        _ => {}
    }
    // What is mounted is what was looked at, whatever becomes of links on the way.
    let path = fs::canonicalize(&path).map_err(failed)?;
    let found = fs::metadata(&path).map_err(failed)?.file_type();
    let (fits, what) = match kind {
        "" => (true, "there"),
        "Directory" | "DirectoryOrCreate" => (found.is_dir(), "a directory"),
        "File" | "FileOrCreate" => (found.is_file(), "a file"),
        "Socket" => (found.is_socket(), "a socket"),
        "CharDevice" => (found.is_char_device(), "a character device"),
        "BlockDevice" => (found.is_block_device(), "a block device"),
        other => return Err(format!("hostPath type {other:?} is not known")),
    };
    if fits {
        Ok(path)
    } else {
        Err(format!(
            "hostPath type check failed: {} is not {what}",
            wanted.path
        ))
    }
}

/// Refuses what would show one of these folders.
pub(super) fn refuse_closed(path: &Path, closed: &[PathBuf]) -> Result<(), String> {
    match shows(path, closed) {
        false => Ok(()),
        true => Err(format!(
            "hostPath {} would show Sandlot's own folder to the pod; `sandlot up \
             --allow-privileged` allows it",
            path.display()
        )),
    }
}

/// Whether one of these folders, or something in it, would be seen below a path: the nearest
/// part of it that is there is where its links lead.
fn shows(path: &Path, closed: &[PathBuf]) -> bool {
    let there = path.ancestors().find_map(|part| {
        let real = fs::canonicalize(part).ok()?;
        Some(real.join(path.strip_prefix(part).ok()?))
    });
    let real = there.unwrap_or_else(|| path.to_owned());
    closed
        .iter()
        .any(|folder| real.starts_with(folder) || folder.starts_with(&real))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_leads_into_a_closed_folder() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("own/keys")).unwrap();
        fs::create_dir(top.join("other")).unwrap();
        std::os::unix::fs::symlink("own", top.join("link")).unwrap();
        let closed = [top.join("own")];
        for (path, wanted) in [
            ("own", true),
            ("own/keys", true),
            ("own/not/there/yet", true),
            ("link", true),
            ("link/new", true),
            ("", true),
            ("other", false),
            ("owner", false),
        ] {
            assert_eq!(shows(&top.join(path), &closed), wanted, "{path}");
        }
        assert!(shows(Path::new("/"), &closed));
    }
}
