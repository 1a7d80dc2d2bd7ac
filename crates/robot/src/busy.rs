//! The lock by which a robot postpones updates: a program that must not be disturbed holds the
//! file `busy`, and may write into it why.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// How much of the reason is read.
const LONGEST: u64 = 200;

/// The robot's busy lock.
#[derive(Clone)]
pub(crate) struct Busy(PathBuf);

impl Busy {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self(folder.join("busy"))
    }

    /// Makes the file that programs lock.
    pub(crate) fn offer(&self) -> std::io::Result<()> {
        if !self.0.exists() {
            fs::write(&self.0, "")?;
        }
        Ok(())
    }

    /// Why the robot does not want to be disturbed, if it does not. The kernel lets go of the
    /// lock of a program that dies, so that none postpones updates for ever.
    pub(crate) fn reason(&self) -> Option<String> {
        let mut file = File::open(&self.0).ok()?;
        let mut reason = String::new();
        // What is no text is no reason, but the lock counts all the same.
        let _ = file.by_ref().take(LONGEST).read_to_string(&mut reason);
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Err((_, Errno::EWOULDBLOCK)) => {
                let reason = reason.trim();
                Some(if reason.is_empty() {
                    "busy".to_owned()
                } else {
                    reason.to_owned()
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_robot_is_busy_while_a_program_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let busy = Busy::in_folder(folder.path());
        assert_eq!(busy.reason(), None);
        busy.offer().unwrap();
        assert_eq!(busy.reason(), None);
        fs::write(folder.path().join("busy"), "carrying a glass\n").unwrap();
        let file = File::options()
            .write(true)
            .open(folder.path().join("busy"))
            .unwrap();
        let held = Flock::lock(file, FlockArg::LockExclusive).unwrap();
        assert_eq!(busy.reason().as_deref(), Some("carrying a glass"));
        drop(held);
        assert_eq!(busy.reason(), None);
    }
}
