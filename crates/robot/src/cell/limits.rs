//! How much a cell may take, where the kernel's control groups can be had.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// Where the groups of all cells are.
const GROUPS: &str = "/sys/fs/cgroup/k8s4r";
/// In which time the processor is shared out, in microseconds.
const PERIOD: u64 = 100_000;
/// How many processes and threads a cell may have.
const PROCESSES: u32 = 4096;

/// Bounds how many processes the task's user may have in all, wherever there are no groups to bound
/// the task's own: one that multiplies without end must not take the robot with it.
pub(super) fn bound_processes() -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NPROC)?;
    let bound = most.min(PROCESSES.into());
    setrlimit(Resource::RLIMIT_NPROC, bound, bound)
}

/// How much a cell may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Share {
    /// Thousandths of a processor.
    pub(crate) cpu: Option<u64>,
    /// Bytes.
    pub(crate) memory: Option<u64>,
}

/// A group that goes when this does, and nobody is in it any more.
pub(super) struct Group(PathBuf);

impl Group {
    /// Makes a group for a cell.
    pub(super) fn make(name: &str, share: Share) -> io::Result<Self> {
        if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            return Err(io::Error::other("this robot has no unified control groups"));
        }
        let above = Path::new(GROUPS);
        fs::create_dir_all(above)?;
        let controllers = "+memory +cpu +pids";
        // Whoever started the machine may have done so already, and allow nobody else to.
        let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", controllers);
        fs::write(above.join("cgroup.subtree_control"), controllers)?;
        let group = Self(above.join(name));
        fs::create_dir(&group.0)?;
        let set = |file: &str, value: String| fs::write(group.0.join(file), value);
        set("pids.max", PROCESSES.to_string())?;
        if let Some(bytes) = share.memory {
            set("memory.max", bytes.to_string())?;
        }
        if let Some(millis) = share.cpu {
            let quota = (millis * PERIOD / 1000).max(1000);
            set("cpu.max", format!("{quota} {PERIOD}"))?;
        }
        Ok(group)
    }

    /// Puts this process into it, and all that it will start.
    pub(super) fn enter(&self) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), "0")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that still has somebody in it stays, empty soon; the machine forgets it with its
        // next start.
        let _ = fs::remove_dir(&self.0);
    }
}
