//! Making a group's processes rest for a moment, so that what they write can be copied whole.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Group;

/// Whoever does not come to rest within this time is copied as it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// A group that rests; it goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Resting {
    group: Group,
    /// Processes that were stopped one by one, where the kernel cannot stop a whole group.
    stopped: BTreeSet<i32>,
}

impl Group {
    /// Stops every process of the group and of those below it.
    pub(crate) fn rest(&self) -> io::Result<Resting> {
        let mut resting = Resting {
            group: self.clone(),
            stopped: BTreeSet::new(),
        };
        match self.layout.unified() {
            Some(root) => {
                let dir = root.join(&self.path);
                fs::write(dir.join("cgroup.freeze"), "1")?;
                let begun = Instant::now();
                let frozen = || fs::read_to_string(dir.join("cgroup.events"));
                while !frozen()?.contains("frozen 1") && begun.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            None => resting.stop_each(),
        }
        Ok(resting)
    }

    /// Its processes, as any of its trees lists them.
    fn processes(&self) -> BTreeSet<i32> {
        let lists = self
            .doors()
            .into_iter()
            .filter_map(|door| fs::read_to_string(door).ok());
        let first = lists.into_iter().next().unwrap_or_default();
        first.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

impl Resting {
    /// Until no new ones come: one that was not stopped yet may still make others.
    fn stop_each(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let all = self.group.processes();
            let fresh: Vec<i32> = all.difference(&self.stopped).copied().collect();
            if fresh.is_empty() {
                return;
            }
            for process in fresh {
                // One that somebody else has stopped stays stopped afterwards.
                if !is_stopped(process) && kill(Pid::from_raw(process), Signal::SIGSTOP).is_ok() {
                    self.stopped.insert(process);
                }
            }
            if self
                .group
                .processes()
                .iter()
                .all(|process| is_stopped(*process))
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        if let Some(root) = self.group.layout.unified() {
            let _ = fs::write(root.join(&self.group.path).join("cgroup.freeze"), "0");
        }
        let still_there = self.group.processes();
        for process in self.stopped.intersection(&still_there) {
            let _ = kill(Pid::from_raw(*process), Signal::SIGCONT);
        }
    }
}

fn is_stopped(process: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
        return true;
    };
    // The name in parentheses may hold anything; the field after it is the state.
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, fields)| fields.trim_start().chars().next());
    matches!(state, Some('T' | 't' | 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_stopped_is_seen_to_be() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(!is_stopped(pid));
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        while !is_stopped(pid) {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_stopped(pid));
    }
}
