//! Folders, files and sockets of the machine, as `hostPath` wants them.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// Finds what is wanted, or makes it where its type says so.
pub(super) fn find(wanted: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = PathBuf::from(&wanted.path);
    if !path.is_absolute() || wanted.path.split('/').any(|step| step == "..") {
        return Err(format!(
            "hostPath {:?} is not a plain absolute path",
            wanted.path
        ));
    }
    let failed = |error: io::Error| format!("hostPath {}: {error}", wanted.path);
    let kind = wanted.type_.as_deref().unwrap_or("");
    match (kind, path.exists()) {
        ("" | "DirectoryOrCreate", false) => fs::create_dir_all(&path).map_err(failed)?,
        ("FileOrCreate", false) => fs::write(&path, "").map_err(failed)?,
        _ => {}
    }
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
