//! A pod's requests and limits in the kernel's words.

use serde::{Deserialize, Serialize};

/// What a group may use; zero or `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Thousandths of a core it gets when all want some.
    pub(crate) cpu_share: u64,
    /// Thousandths of a core it never exceeds.
    pub(crate) cpu_most: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) processes: Option<u64>,
}

/// Quotas are counted in periods of this length.
pub(crate) const PERIOD_MICROSECONDS: u64 = 100_000;

impl Limits {
    /// The controllers without which a limit that somebody asked for means nothing.
    pub(super) fn asked(&self) -> Vec<&'static str> {
        let cpu = self.cpu_most.map(|_| "cpu");
        let memory = self.memory_bytes.map(|_| "memory");
        cpu.into_iter().chain(memory).collect()
    }

    /// Its weight against others, and how many microseconds of each period it may run, as
    /// version 1 of control groups and OCI runtimes have it.
    pub(crate) fn shares_and_quota(&self) -> (u64, Option<u64>) {
        let shares = (self.cpu_share * 1024 / 1000).clamp(2, 262_144);
        let quota = self
            .cpu_most
            .map(|most| (most * PERIOD_MICROSECONDS / 1000).max(1000));
        (shares, quota)
    }

    /// Controller, file and value of everything to write.
    pub(super) fn writes(&self, unified: bool) -> Vec<(&'static str, &'static str, String)> {
        let mut writes = Vec::new();
        let (shares, quota) = self.shares_and_quota();
        if unified {
            // The kernel's own mapping of v1's shares to v2's weights.
            writes.push((
                "cpu",
                "cpu.weight",
                (1 + (shares - 2) * 9999 / 262_142).to_string(),
            ));
            if let Some(quota) = quota {
                writes.push(("cpu", "cpu.max", format!("{quota} {PERIOD_MICROSECONDS}")));
            }
            if let Some(bytes) = self.memory_bytes {
                writes.push(("memory", "memory.max", bytes.to_string()));
                writes.push(("memory", "memory.oom.group", "1".to_owned()));
            }
        } else {
            writes.push(("cpu", "cpu.shares", shares.to_string()));
            if let Some(quota) = quota {
                writes.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
            }
            if let Some(bytes) = self.memory_bytes {
                writes.push(("memory", "memory.limit_in_bytes", bytes.to_string()));
            }
        }
        if let Some(most) = self.processes {
            writes.push(("pids", "pids.max", most.to_string()));
        }
        writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_core_is_half_a_period_in_both_arrangements() {
        let limits = Limits {
            cpu_share: 500,
            cpu_most: Some(500),
            ..Limits::default()
        };
        assert!(
            limits
                .writes(false)
                .contains(&("cpu", "cpu.cfs_quota_us", "50000".into()))
        );
        assert!(
            limits
                .writes(true)
                .contains(&("cpu", "cpu.max", "50000 100000".into()))
        );
    }

    #[test]
    fn only_limits_that_were_asked_for_can_be_missed() {
        assert_eq!(Limits::default().asked(), [""; 0]);
        let limits = Limits {
            memory_bytes: Some(1),
            ..Limits::default()
        };
        assert_eq!(limits.asked(), ["memory"]);
    }

    #[test]
    fn no_request_is_the_smallest_share_and_no_limit_is_not_written() {
        assert_eq!(
            Limits::default().writes(false),
            [("cpu", "cpu.shares", "2".to_owned())]
        );
    }
}
