//! The folder that one supervisor at a time keeps its runs in.

use std::{
    collections::HashMap,
    fs::{DirBuilder, DirEntry, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::fcntl::{Flock, FlockArg};

use crate::{
    sheet::{Name, Sheet},
    stock::Stock,
};

/// How long an earlier supervisor may take to leave the folder.
const HANDOVER: Duration = Duration::from_secs(5);

/// Waits for an earlier supervisor to leave the folder and locks it.
pub(crate) async fn take_over(folder: &Path) -> io::Result<Flock<File>> {
    private_folder(folder)?;
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join("lock"))?;
    let give_up = tokio::time::Instant::now() + HANDOVER;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, error)) if tokio::time::Instant::now() >= give_up => {
                let message = format!("another supervisor is using {}: {error}", folder.display());
                return Err(io::Error::new(io::ErrorKind::WouldBlock, message));
            }
            Err((unlocked, _)) => {
                file = unlocked;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Makes a folder for this user alone, parents included.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The files of one run.
#[derive(Default)]
pub(crate) struct Files {
    /// When its sheet was last written to, if it has one.
    sheet: Option<SystemTime>,
    /// What lies beside the sheet.
    beside: Vec<String>,
}

impl Files {
    /// Where the segments of a stream begin.
    pub(crate) fn segments(&self, stream: &str) -> impl Iterator<Item = u64> {
        self.beside.iter().filter_map(move |name| {
            let start = name.strip_prefix(stream)?.strip_prefix('.')?;
            start.parse().ok()
        })
    }

    /// Removes them all, the sheet last: while it is there, the others are found again.
    pub(crate) fn remove(&self, sheet: &Sheet) -> io::Result<()> {
        self.remove_beside(sheet)?;
        sheet.remove()
    }

    fn remove_beside(&self, sheet: &Sheet) -> io::Result<()> {
        let mut beside = self.beside.iter();
        beside.try_for_each(|name| remove(&sheet.beside(name)))
    }
}

/// What lies in the folder of the runs.
pub(crate) struct Contents {
    pub(crate) runs: HashMap<Name, Files>,
    /// What belongs to no run in particular.
    pub(crate) others: Vec<PathBuf>,
}

impl Contents {
    fn files_of(&mut self, name: Name) -> &mut Files {
        self.runs.entry(name).or_default()
    }
}

/// Looks through the folder of the runs.
pub(crate) fn look_through(runs: &Path) -> io::Result<Contents> {
    let mut contents = Contents {
        runs: HashMap::new(),
        others: Vec::new(),
    };
    for entry in std::fs::read_dir(runs)? {
        let entry = entry?;
        let file = entry.file_name();
        let Some((name, file)) = file
            .to_str()
            .and_then(|file| Some((Name::in_file(file)?, file)))
        else {
            contents.others.push(entry.path());
            continue;
        };
        if let Some((_, beside)) = file.split_once('.') {
            contents.files_of(name).beside.push(beside.to_owned());
        } else if let Some(written) = last_written(&entry)? {
            contents.files_of(name).sheet = Some(written);
        }
    }
    Ok(contents)
}

/// When a file was last written to; nothing if it was given back since it was listed.
fn last_written(entry: &DirEntry) -> io::Result<Option<SystemTime>> {
    match entry.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found?.modified().map(Some),
    }
}

/// The files of one run, if it has any.
pub(crate) fn files_of(sheet: &Sheet) -> io::Result<Files> {
    if !sheet.path().exists() {
        return Ok(Files::default());
    }
    let mut contents = look_through(sheet.runs())?;
    Ok(contents.runs.remove(&sheet.name()).unwrap_or_default())
}

/// Forgets the oldest runs beyond `limit`, except the live ones: the next ones have their sheets.
/// Says how many are left.
pub(crate) fn forget(
    runs: &Path,
    live: &[Sheet],
    limit: usize,
    stock: &Stock,
) -> io::Result<usize> {
    let contents = look_through(runs)?;
    let mut sheets: Vec<_> = contents
        .runs
        .iter()
        .map(|(name, files)| (files.sheet, Sheet::named(runs, *name), files))
        .collect();
    sheets.sort_by_key(|(written, ..)| *written);
    let many = sheets.len();
    let old = sheets.iter().filter(|(_, sheet, _)| !live.contains(sheet));
    let mut forgotten = 0;
    for (_, sheet, files) in old.take(many.saturating_sub(limit)) {
        files.remove_beside(sheet)?;
        stock.give_back(&sheet.path())?;
        forgotten += 1;
    }
    Ok(many - forgotten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_that_goes_while_others_are_looked_for_is_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("0".repeat(32)), "").unwrap();
        let mut entries = std::fs::read_dir(dir.path()).unwrap();
        let entry = entries.next().unwrap().unwrap();
        assert!(last_written(&entry).unwrap().is_some());
        remove(&entry.path()).unwrap();
        assert_eq!(last_written(&entry).unwrap(), None);
        remove(&entry.path()).unwrap();
    }
}
