//! One process at a time: a lock file beside the database.
//!
//! SQLite's own exclusive mode would do too, but it would keep people from looking into the
//! database while the store is in use.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::error::OpenError;

/// Holds the lock for as long as it lives; the kernel drops it with the process.
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of a database file, or says who has it.
    pub(crate) fn take(database: &Path) -> Result<Self, OpenError> {
        let path = beside(database);
        let failed = |source| OpenError::Io {
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Without a readable pid the message just leaves it out.
                let _ = file.take(32).read_to_string(&mut holder);
                let pid = holder.trim().parse().ok();
                return Err(OpenError::InUse {
                    path: database.to_owned(),
                    pid,
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Lock { file })
    }
}

impl Drop for Lock {
    /// Closing alone would not do: a process that is being forked elsewhere in this one holds
    /// the same open file until it executes its program.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::Lock;

    #[test]
    fn a_lock_let_go_of_is_free_even_while_another_process_has_its_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("store.db");
        let lock = Lock::take(&database).unwrap();
        let inherited = lock.file.try_clone().unwrap();
        drop(lock);
        Lock::take(&database).unwrap();
        drop(inherited);
    }
}
