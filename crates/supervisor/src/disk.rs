//! The folder that one supervisor at a time keeps its runs in.

use std::{fs::File, io, path::Path, time::Duration};

use nix::fcntl::{Flock, FlockArg};

use crate::record::{Folder, private_folder};

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

/// Removes the oldest folders beyond `limit`, except the live ones. Says how many are left.
pub(crate) fn forget(runs: &Path, live: &[Folder], limit: usize) -> io::Result<usize> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(runs)? {
        let entry = entry?;
        folders.push((entry.metadata()?.modified()?, Folder::at(entry.path())));
    }
    folders.sort_by_key(|(modified, _)| *modified);
    let many = folders.len();
    let old = folders
        .into_iter()
        .map(|(_, folder)| folder)
        .filter(|folder| !live.contains(folder));
    let mut removed = 0;
    for folder in old.take(many.saturating_sub(limit)) {
        folder.remove()?;
        removed += 1;
    }
    Ok(many - removed)
}
