//! How much a cell may take, where the kernel's control groups can be had.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{UnlinkatFlags, unlinkat},
};
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

/// A cell's group.
pub(super) struct Group(PathBuf);

impl Group {
    /// Makes a group for a cell, and a hold on it.
    pub(super) fn make(name: &str, share: Share) -> io::Result<(Self, Hold)> {
        if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            return Err(io::Error::other("this robot has no unified control groups"));
        }
        let above = Path::new(GROUPS);
        fs::create_dir_all(above)?;
        clear_away(above, |process| Path::new("/proc").join(process).exists());
        let controllers = "+memory +cpu +pids";
        // Whoever started the machine may have done so already, and allow nobody else to.
        let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", controllers);
        fs::write(above.join("cgroup.subtree_control"), controllers)?;
        let group = Self(above.join(name));
        let hold = Hold {
            above: Some(File::open(above)?),
            name: name.to_owned(),
        };
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
        Ok((group, hold))
    }

    /// Puts this process into it, and all that it will start.
    pub(super) fn enter(&self) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), "0")
    }
}

/// Takes away the groups of cells whose process was killed. Its number ends their names.
fn clear_away(above: &Path, is_alive: impl Fn(&str) -> bool) {
    // Those that cannot be looked at, or are in use, stay.
    for group in fs::read_dir(above).into_iter().flatten().flatten() {
        let name = group.file_name();
        let process = name.to_str().and_then(|name| name.rsplit_once('-'));
        if process.is_some_and(|(_, process)| !is_alive(process)) {
            let _ = fs::remove_dir(group.path());
        }
    }
}

/// Takes a group away when this goes, if nobody is in it any more.
pub(super) struct Hold {
    /// The folder that it is in: once the cell is made, its path leads there no more.
    above: Option<File>,
    name: String,
}

impl Hold {
    /// Leaves the group to another process, and keeps nothing by which a task could find its way
    /// out of the cell.
    pub(super) fn leave(mut self) {
        self.above = None;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(above) = &self.above {
            // One that still has somebody in it stays, empty soon; the machine forgets it with its
            // next start.
            let _ = unlinkat(above, self.name.as_str(), UnlinkatFlags::RemoveDir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_cell_left_is_taken_away_and_nothing_else() {
        let above = tempfile::tempdir().unwrap();
        for name in ["a.1.0-7", "a-b.1.0-8", "c.1.0-9"] {
            fs::create_dir(above.path().join(name)).unwrap();
        }
        fs::write(above.path().join("memory.max"), "max").unwrap();
        // Somebody is still in it.
        fs::create_dir(above.path().join("c.1.0-9/sub")).unwrap();
        clear_away(above.path(), |process| process == "8");
        let mut left: Vec<_> = fs::read_dir(above.path()).unwrap().collect();
        left.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
        let names: Vec<_> = left
            .into_iter()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["a-b.1.0-8", "c.1.0-9", "memory.max"]);
    }

    #[test]
    fn a_hold_takes_its_group_away_unless_it_is_left() {
        let above = tempfile::tempdir().unwrap();
        let hold = |name: &str| {
            fs::create_dir(above.path().join(name)).unwrap();
            let above = Some(File::open(above.path()).unwrap());
            Hold {
                above,
                name: name.to_owned(),
            }
        };
        drop(hold("over"));
        hold("left").leave();
        assert!(!above.path().join("over").exists() && above.path().join("left").exists());
    }
}
