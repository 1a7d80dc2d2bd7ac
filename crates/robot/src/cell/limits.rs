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
    /// Makes a group for a cell, and a hold on it. Its name begins with this one.
    pub(super) fn make(name: &str, share: Share) -> io::Result<(Self, Hold)> {
        if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            return Err(io::Error::other("this robot has no unified control groups"));
        }
        let above = Path::new(GROUPS);
        fs::create_dir_all(above)?;
        let controllers = "+memory +cpu +pids";
        // Whoever started the machine may have done so already, and allow nobody else to.
        let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", controllers);
        fs::write(above.join("cgroup.subtree_control"), controllers)?;
        let hold = Hold::take(above, name)?;
        let group = Self(above.join(&hold.name));
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

/// Takes away the groups of cells that were killed: nobody holds them.
fn clear_away(above: &Path) {
    for group in fs::read_dir(above).into_iter().flatten().flatten() {
        if group.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(folder) = File::open(group.path())
            && folder.try_lock().is_ok()
        {
            // One with somebody in it stays: the kernel refuses.
            let _ = fs::remove_dir(group.path());
        }
    }
}

/// A group that is in use, by a lock on its folder, which goes with whoever has it: numbers of
/// processes are given again. The group is taken away when this goes, if nobody is in it any more.
pub(super) struct Hold {
    /// The folder that it is in: once the cell is made, its path leads there no more.
    above: Option<File>,
    name: String,
    _lock: File,
}

impl Hold {
    /// Makes a group of a name that no other has, and clears away those of the past.
    fn take(above: &Path, name: &str) -> io::Result<Self> {
        // One at a time, so that none is cleared away before it is held.
        let turn = File::open(above)?;
        turn.lock()?;
        clear_away(above);
        for number in 0u64.. {
            let name = format!("{name}-{number}");
            match fs::create_dir(above.join(&name)) {
                Ok(()) => {
                    let lock = File::open(above.join(&name))?;
                    lock.lock()?;
                    return Ok(Self {
                        above: Some(File::open(above)?),
                        name,
                        _lock: lock,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("there are too many groups"))
    }

    /// Leaves the group to another process, and keeps nothing by which a task could find its way
    /// out of the cell. The lock is shared with that other process, which has it still.
    pub(super) fn leave(mut self) {
        self.above = None;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(above) = &self.above {
            // One that still has somebody in it stays, empty soon; the next cell clears it away.
            let _ = unlinkat(above, self.name.as_str(), UnlinkatFlags::RemoveDir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in a folder, in order.
    fn names(above: &Path) -> Vec<String> {
        let found = fs::read_dir(above).unwrap();
        let mut names: Vec<String> = found
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_killed_cell_left_is_taken_away_and_nothing_else() {
        let above = tempfile::tempdir().unwrap();
        let held = Hold::take(above.path(), "a.1.0").unwrap();
        // Two were killed; in one of them somebody is left.
        fs::create_dir(above.path().join("b.1.0-0")).unwrap();
        fs::create_dir_all(above.path().join("c.1.0-0/sub")).unwrap();
        fs::write(above.path().join("memory.max"), "max").unwrap();
        clear_away(above.path());
        assert_eq!(names(above.path()), ["a.1.0-0", "c.1.0-0", "memory.max"]);
        drop(held);
        assert_eq!(names(above.path()), ["c.1.0-0", "memory.max"]);
    }

    #[test]
    fn a_task_that_is_started_again_finds_a_group_beside_the_one_before() {
        let above = tempfile::tempdir().unwrap();
        let held = Hold::take(above.path(), "a.1.0").unwrap();
        let again = Hold::take(above.path(), "a.1.0").unwrap();
        assert_eq!(names(above.path()), ["a.1.0-0", "a.1.0-1"]);
        drop((held, again));
        assert!(names(above.path()).is_empty());
    }

    #[test]
    fn a_hold_takes_its_group_away_unless_it_is_left() {
        let above = tempfile::tempdir().unwrap();
        drop(Hold::take(above.path(), "over").unwrap());
        Hold::take(above.path(), "left").unwrap().leave();
        assert_eq!(names(above.path()), ["left-0"]);
    }
}
