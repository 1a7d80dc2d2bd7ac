//! What containers use: as their control groups count it, or where they have none, as their
//! processes do.

use std::collections::HashMap;
use std::fs;

use crate::cgroup::{Cgroups, Usage};
use crate::worker::view::ContainerView;

/// One look at what containers use.
pub(crate) struct Look {
    /// By the mounts that they see, which each container has for itself; nothing where groups count.
    by_mounts: Option<HashMap<Mounts, Usage>>,
}

/// A mount namespace, as the kernel names it.
type Mounts = std::path::PathBuf;

impl Look {
    pub(crate) fn now(cgroups: &Cgroups) -> Look {
        Look {
            by_mounts: (!cgroups.count_memory()).then(by_mounts),
        }
    }

    /// What a container uses.
    pub(crate) fn at(&self, container: &ContainerView) -> Usage {
        let Some(found) = &self.by_mounts else {
            return container.group.usage();
        };
        let mounts = mounts(container.pid);
        let used = mounts.and_then(|mounts| found.get(&mounts));
        used.copied().unwrap_or_default()
    }
}

fn mounts(pid: i32) -> Option<Mounts> {
    // Of another user's processes this is not known, and needs not be.
    fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

fn by_mounts() -> HashMap<Mounts, Usage> {
    let mut found: HashMap<Mounts, Usage> = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in numbers {
        let Some((mounts, used)) = mounts(pid).zip(used_by(pid)) else {
            continue;
        };
        let sum = found.entry(mounts).or_default();
        sum.cpu_nanoseconds += used.cpu_nanoseconds;
        sum.memory_bytes += used.memory_bytes;
    }
    found
}

/// What a process uses, and those of its children that have ended did.
fn used_by(pid: i32) -> Option<Usage> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    Some(Usage {
        cpu_nanoseconds: ticks(&read("stat")?)?.saturating_mul(1_000_000_000 / ticks_per_second()),
        memory_bytes: own_pages(&read("statm")?)?.saturating_mul(bytes_per_page()),
    })
}

/// The time in a line of `/proc/PID/stat`. The name in it may contain anything, so what counts
/// begins behind its last parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let times: Vec<u64> = fields
        .skip(11)
        .take(4)
        .map_while(|time| time.parse().ok())
        .collect();
    (times.len() == 4).then(|| times.iter().sum())
}

/// The pages in a line of `/proc/PID/statm` that are no file's: those the kernel could drop.
fn own_pages(statm: &str) -> Option<u64> {
    let mut fields = statm.split_ascii_whitespace().skip(1);
    let mut number = || fields.next()?.parse::<u64>().ok();
    let (resident, shared) = (number()?, number()?);
    Some(resident.saturating_sub(shared))
}

fn ticks_per_second() -> u64 {
    // SAFETY: no pointer is passed.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or_default().max(1)
}

fn bytes_per_page() -> u64 {
    // SAFETY: no pointer is passed.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or_default().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_read_behind_any_name_and_with_that_of_children() {
        let stat = "7 (a) 1 2) S 5 6 4 0 -1 4194304 1 2 3 4 10 20 300 4000 20 0 1 0";
        assert_eq!(ticks(stat), Some(4330));
        assert_eq!(ticks("7 (a) S 5"), None);
    }

    #[test]
    fn memory_is_what_no_file_holds() {
        assert_eq!(own_pages("625 343 319 5 0 89 0"), Some(24));
    }

    #[test]
    fn who_sees_the_same_mounts_is_counted_together() {
        let own = std::process::id().cast_signed();
        let here = by_mounts()[&mounts(own).unwrap()];
        assert!(here.memory_bytes >= used_by(own).unwrap().memory_bytes / 2);
        assert!(here.memory_bytes > 0);
    }
}
