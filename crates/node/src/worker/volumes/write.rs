//! Writing a volume's files all at once, and seeing whether that is needed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path};

use super::files::{File, Files};

/// Writes the files so that readers see all old or all new ones: names lead through the
/// link `..data`, which is exchanged last.
pub(super) fn write(dir: &Path, files: &Files, group: Option<i64>) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let version = format!("..{}", uuid::Uuid::new_v4().simple());
    let fresh = dir.join(&version);
    fs::create_dir(&fresh)?;
    let mut tops = BTreeSet::new();
    for (path, file) in files {
        let relative = Path::new(path);
        let plain = relative
            .components()
            .all(|step| matches!(step, Component::Normal(_)));
        if path.is_empty() || !plain {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{path:?} is not a plain relative path"),
            ));
        }
        let to = fresh.join(relative);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&to, &file.content)?;
        let group = group.and_then(|group| u32::try_from(group).ok());
        // Without root nobody has other users to give to.
        let _ = std::os::unix::fs::chown(&to, file.owner, group);
        fs::set_permissions(&to, fs::Permissions::from_mode(mode_of(file, group)))?;
        tops.extend(
            relative
                .components()
                .next()
                .map(|top| Path::new(&top).to_owned()),
        );
    }
    let old = fs::read_link(dir.join("..data")).ok();
    symlink(&version, dir.join("..data_new"))?;
    fs::rename(dir.join("..data_new"), dir.join("..data"))?;
    for top in &tops {
        let link = dir.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(top), link)?;
        }
    }
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("..") && !tops.contains(Path::new(&name)) {
            fs::remove_file(entry.path())?;
        }
    }
    match old {
        Some(old) => fs::remove_dir_all(dir.join(old)),
        None => Ok(()),
    }
}

fn mode_of(file: &File, group: Option<u32>) -> u32 {
    let shared = if group.is_some() { 0o440 } else { 0 };
    (file.mode as u32) & 0o777 | shared
}

/// Whether the folder shows these files already.
pub(super) fn shows(dir: &Path, files: &Files) -> bool {
    let data = dir.join("..data");
    let mut left: Vec<_> = vec![data.clone()];
    let mut found = 0;
    while let Some(folder) = left.pop() {
        let Ok(entries) = fs::read_dir(folder) else {
            return false;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            } else {
                found += 1;
            }
        }
    }
    let same = |path: &String, file: &File| {
        fs::read(data.join(path)).is_ok_and(|content| content == file.content)
    };
    found == files.len() && files.iter().all(|(path, file)| same(path, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File {
            content: text.as_bytes().to_vec(),
            mode: 0o644,
            owner: None,
        }
    }

    #[test]
    fn a_new_version_replaces_all_files_at_once_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &Files::from([("a".into(), file("1")), ("d/b".into(), file("2"))]),
            None,
        )
        .unwrap();
        let newer = Files::from([("a".into(), file("3"))]);
        assert!(!shows(dir.path(), &newer));
        write(dir.path(), &newer, None).unwrap();
        assert!(shows(dir.path(), &newer));
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        assert!(!dir.path().join("d").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_key_cannot_lead_out_of_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "/etc/x", "a/../../x", ""] {
            assert!(
                write(dir.path(), &Files::from([(path.into(), file("x"))]), None).is_err(),
                "{path}"
            );
        }
    }
}
