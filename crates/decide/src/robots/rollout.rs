//! How an edit reaches what runs: so many at a time, canaries first, only while those that have
//! it are healthy, back again if too many are not.

use std::time::Duration;

use jiff::Timestamp;
use sandlot_api::robot::{RolloutState, RolloutStatus, UpdatePolicy};

use crate::expiry::later;

/// One of those that an edit is to reach: a replica, or a robot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit<'a> {
    /// The version it has or is getting; nothing if it has none.
    pub revision: Option<&'a str>,
    /// How it is with it.
    pub health: Health,
    /// Since when it has it.
    pub since: Timestamp,
}

/// How one is with the version it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It has just got it.
    Starting,
    /// It runs with it, since then.
    Running(Timestamp),
    /// It is done with it, in good health.
    Done,
    /// It failed with it.
    Failed,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which units are to get the version now, by their place in the list.
    pub change: Vec<usize>,
    /// The version that new and changed ones get.
    pub towards: Towards,
    /// Where the rollout stands.
    pub status: RolloutStatus,
    /// When to look again, if nothing happens before.
    pub wake: Option<Timestamp>,
}

/// Which version is put on units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// The edited one.
    Latest,
    /// The one that is known to work.
    Stable,
}

/// What a rollout goes by.
#[derive(Clone, Copy, Debug)]
pub struct Rollout<'a> {
    /// How it is to go.
    pub policy: &'a UpdatePolicy,
    /// The edited version.
    pub latest: &'a str,
    /// The version that is known to work, if any does.
    pub stable: Option<&'a str>,
    /// Where it stood when last looked at.
    pub before: Option<&'a RolloutStatus>,
}

const MIN_HEALTHY: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(300);

impl Rollout<'_> {
    /// What to do now.
    pub fn step(&self, units: &[Unit<'_>], now: Timestamp) -> Step {
        let count = self.count(units, now);
        let state = self.state(&count, units.len());
        let towards = match state {
            RolloutState::Aborted | RolloutState::Reverted if self.stable.is_some() => {
                Towards::Stable
            }
            _ => Towards::Latest,
        };
        let change = match state {
            RolloutState::Progressing => self.next(units, &count),
            RolloutState::Reverted => self.strays(units, self.stable),
            _ => Vec::new(),
        };
        Step {
            change,
            towards,
            wake: count.wake,
            status: RolloutStatus {
                state,
                revision: self.latest.to_owned(),
                updated: number(count.updated),
                healthy: number(count.healthy),
                failed: number(count.failed),
                total: number(units.len()),
                message: self.message(state, &count),
            },
        }
    }

    fn count(&self, units: &[Unit<'_>], now: Timestamp) -> Count {
        let mut count = Count::default();
        let healthy_after = self.policy.min_healthy_time.map_or(MIN_HEALTHY, |t| t.0);
        let deadline = self.policy.healthy_deadline.map_or(DEADLINE, |t| t.0);
        for unit in units {
            if unit.revision.is_none() && self.stable.is_some_and(|stable| stable != self.latest) {
                // It is being changed: between its old version and the new one.
                count.waiting += 1;
                count.changing += 1;
                continue;
            }
            if unit.revision != Some(self.latest) {
                continue;
            }
            count.updated += 1;
            // Where nothing was before, there is nothing to be careful about.
            let first = self.stable.is_none_or(|stable| stable == self.latest);
            let due = match unit.health {
                Health::Done => None,
                Health::Failed => {
                    count.failed += 1;
                    continue;
                }
                Health::Running(_) if first => None,
                Health::Running(since) => {
                    Some(later(since, healthy_after)).filter(|due| *due > now)
                }
                Health::Starting if first => {
                    continue;
                }
                Health::Starting => {
                    let due = later(unit.since, deadline);
                    if due <= now {
                        count.failed += 1;
                        continue;
                    }
                    Some(due)
                }
            };
            match due {
                None => count.healthy += 1,
                Some(due) => {
                    count.waiting += 1;
                    count.wake = Some(count.wake.map_or(due, |wake: Timestamp| wake.min(due)));
                }
            }
        }
        count
    }

    fn state(&self, count: &Count, total: usize) -> RolloutState {
        let before = self
            .before
            .filter(|before| before.revision == self.latest)
            .map(|before| before.state);
        // Given up is given up, until there is another edit.
        if let Some(over @ (RolloutState::Aborted | RolloutState::Reverted)) = before {
            return over;
        }
        let rolling = self.stable.is_some_and(|stable| stable != self.latest);
        if rolling && self.too_many(count.failed, total) {
            return match self.policy.auto_revert.unwrap_or(false) {
                true => RolloutState::Reverted,
                false => RolloutState::Aborted,
            };
        }
        if count.healthy + count.failed >= total && count.waiting == 0 && count.updated >= total {
            return RolloutState::Completed;
        }
        if before == Some(RolloutState::Completed) && !rolling {
            return RolloutState::Completed;
        }
        if self.policy.paused.unwrap_or(false) {
            return RolloutState::Paused;
        }
        let canaries = self.canaries(total);
        if canaries > 0
            && count.healthy >= canaries
            && count.updated == count.healthy
            && !self.promoted()
        {
            return RolloutState::AwaitingPromotion;
        }
        RolloutState::Progressing
    }

    /// Which are next: canaries only while there are any to look at, then so many at a time.
    fn next(&self, units: &[Unit<'_>], count: &Count) -> Vec<usize> {
        let canaries = self.canaries(units.len());
        let held = canaries > 0 && !(self.promoted() && count.healthy >= canaries);
        let limit = match held {
            true => canaries.saturating_sub(count.updated + count.changing),
            false => self.parallel().saturating_sub(count.waiting + count.failed),
        };
        let others = self.strays(units, Some(self.latest));
        others.into_iter().take(limit).collect()
    }

    /// Which have another version than this.
    fn strays(&self, units: &[Unit<'_>], revision: Option<&str>) -> Vec<usize> {
        let numbered = units.iter().enumerate();
        numbered
            .filter(|(_, unit)| unit.revision.is_some() && unit.revision != revision)
            .map(|(index, _)| index)
            .collect()
    }

    fn too_many(&self, failed: usize, total: usize) -> bool {
        let percent = self.policy.abort_threshold_percent.unwrap_or(0);
        let percent = usize::try_from(percent).unwrap_or(0);
        failed > 0 && failed * 100 > total * percent
    }

    fn canaries(&self, total: usize) -> usize {
        // Without something that works there is nothing to compare a canary with.
        match self.stable {
            Some(stable) if stable != self.latest => {
                usize::try_from(self.policy.canary.unwrap_or(0))
                    .unwrap_or(0)
                    .min(total)
            }
            _ => 0,
        }
    }

    fn promoted(&self) -> bool {
        self.policy.promote.unwrap_or(false) || self.policy.auto_promote.unwrap_or(false)
    }

    fn parallel(&self) -> usize {
        usize::try_from(self.policy.max_parallel.unwrap_or(1))
            .unwrap_or(1)
            .max(1)
    }

    fn message(&self, state: RolloutState, count: &Count) -> Option<String> {
        let failed = count.failed;
        Some(match state {
            RolloutState::Progressing | RolloutState::Completed => return None,
            RolloutState::AwaitingPromotion => {
                "the canaries are healthy: set update.promote to go on".to_owned()
            }
            RolloutState::Paused => "update.paused is set".to_owned(),
            RolloutState::Aborted => {
                format!("{failed} failed with this version: edit it again to go on")
            }
            RolloutState::Reverted => {
                format!(
                    "{failed} failed with this version: back to {}",
                    self.stable.unwrap_or("none")
                )
            }
        })
    }
}

/// Units with the edited version, by how they are.
#[derive(Default)]
struct Count {
    updated: usize,
    healthy: usize,
    waiting: usize,
    /// Of those that wait, the ones that have left their old version and have no new one yet.
    changing: usize,
    failed: usize,
    wake: Option<Timestamp>,
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
