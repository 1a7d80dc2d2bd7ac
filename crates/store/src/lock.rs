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
    _file: File,
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
        Ok(Lock { _file: file })
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
