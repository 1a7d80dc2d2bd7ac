//! Finding the process that holds the pods' network for a node without root.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::born;

/// The process, as the data folder's `network.json` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) pid: i32,
    /// When it was started, in the kernel's ticks: process numbers come again.
    born: u64,
}

impl Holder {
    /// Where a node's holder is written down.
    pub(crate) fn file(data_dir: &Path) -> PathBuf {
        data_dir.join("network.json")
    }

    /// The one of a node before this one, if it is still there.
    pub(crate) fn find(data_dir: &Path) -> Option<Holder> {
        let text = std::fs::read(Holder::file(data_dir)).ok()?;
        let found: Holder = serde_json::from_slice(&text).ok()?;
        found.lives().then_some(found)
    }

    /// Writes down a new one, whole or not at all.
    pub(crate) fn note(pid: i32, data_dir: &Path) -> std::io::Result<Holder> {
        let born =
            born(pid).ok_or_else(|| std::io::Error::other("the network's holder ended at once"))?;
        let holder = Holder { pid, born };
        let fresh = data_dir.join("network.new");
        std::fs::write(&fresh, serde_json::to_vec(&holder)?)?;
        std::fs::rename(fresh, Holder::file(data_dir))?;
        Ok(holder)
    }

    fn lives(self) -> bool {
        born(self.pid) == Some(self.born)
    }

    /// Lets the network go.
    pub(crate) fn end(self, data_dir: &Path) {
        if self.lives() {
            let pid = nix::unistd::Pid::from_raw(self.pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = std::fs::remove_file(Holder::file(data_dir));
    }
}
