//! What is written down about a sandbox, so that a node that starts again finds it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A sandbox as its folder's `sandbox.json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub id: String,
    /// Its number, from which its address and its users follow.
    pub slot: u16,
    pub keeper: i32,
    /// When the keeper was started, in the kernel's ticks: process numbers come again.
    pub keeper_born: u64,
    pub host_network: bool,
    pub own_users: bool,
    /// The OCI runtime that starts its containers; none when the keeper does.
    #[serde(default)]
    pub runtime: Option<PathBuf>,
    /// The pod it belongs to; none while it waits in the pool.
    pub owner: Option<Owner>,
}

/// The pod a sandbox belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl Record {
    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let fresh = dir.join("sandbox.new");
        std::fs::write(&fresh, serde_json::to_vec(self)?)?;
        std::fs::rename(fresh, dir.join("sandbox.json"))
    }

    /// Reads the record of a sandbox's folder.
    pub(crate) fn read(dir: &Path) -> io::Result<Record> {
        Ok(serde_json::from_slice(&std::fs::read(
            dir.join("sandbox.json"),
        )?)?)
    }

    /// Whether its keeper is still there, and not another process with its number.
    pub(crate) fn keeper_lives(&self) -> bool {
        born(self.keeper) == Some(self.keeper_born)
    }

    /// Ends a keeper that does not answer; its containers end with it.
    pub(crate) fn kill_keeper(&self) {
        if self.keeper_lives() {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(self.keeper),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

/// When a process was started, in ticks since the machine was.
pub(crate) fn born(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields after it cannot.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
