//! Reports on their way into the API: several about one task become one write, and a robot's are
//! acknowledged when all before them are written down.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use sandlot_api::robot::wire::{Acknowledged, TaskReport};

/// The most reports of one robot that wait; what comes then is not listened to, and comes again.
const WAITING: usize = 4096;

/// A report about a task, with its number.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    pub(crate) report: Box<TaskReport>,
    /// Its spool and number; nothing for robots of the published protocol, who have none.
    pub(crate) number: Option<(String, i64)>,
    pub(crate) at: Timestamp,
}

/// What waits to be written down.
#[derive(Default)]
pub(crate) struct Desk {
    /// Reports by the task's uid, in order.
    tasks: HashMap<String, Vec<Noted>>,
    spools: HashMap<String, Spool>,
}

/// A robot's reports.
#[derive(Default)]
struct Spool {
    name: String,
    /// The highest number that was taken in.
    taken: i64,
    /// Numbers that are not written down yet.
    open: BTreeMap<i64, ()>,
    /// What was last acknowledged.
    acknowledged: i64,
    /// It was asked again for what is written down already.
    repeated: bool,
}

impl Desk {
    /// A robot has sent a report of this number, which follows `after` or is the oldest it keeps.
    /// Whether it is to be taken in: those that were are not, and those that follow what was not
    /// heard come again in order.
    pub(crate) fn enter(&mut self, robot: &str, spool: &str, after: i64, number: i64) -> bool {
        let kept = self.spools.entry(robot.to_owned()).or_default();
        if kept.name != spool {
            // A bridge that has just begun, or a robot that counts anew: the oldest comes first.
            if after != 0 {
                return false;
            }
            *kept = Spool {
                name: spool.to_owned(),
                ..Spool::default()
            };
        }
        if number <= kept.taken {
            kept.repeated = true;
            return false;
        }
        if after > kept.taken || kept.open.len() >= WAITING {
            return false;
        }
        kept.taken = number;
        kept.open.insert(number, ());
        true
    }

    /// A report is to be written down.
    pub(crate) fn put(&mut self, noted: Noted) {
        let uid = noted.report.key.uid.clone();
        self.tasks.entry(uid).or_default().push(noted);
    }

    /// The tasks about which something waits.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &String> {
        self.tasks.keys()
    }

    /// What waits about a task.
    pub(crate) fn about(&self, task: &str) -> &[Noted] {
        self.tasks.get(task).map_or(&[], Vec::as_slice)
    }

    /// Takes what waits about a task, up to so many.
    pub(crate) fn take(&mut self, task: &str, count: usize) -> Vec<Noted> {
        let Some(waiting) = self.tasks.get_mut(task) else {
            return Vec::new();
        };
        let taken = waiting.drain(..count.min(waiting.len())).collect();
        if waiting.is_empty() {
            self.tasks.remove(task);
        }
        taken
    }

    /// A report is written down, or there is nothing to write it to.
    pub(crate) fn done(&mut self, robot: &str, spool: &str, number: i64) {
        if let Some(kept) = self.spools.get_mut(robot).filter(|kept| kept.name == spool) {
            kept.open.remove(&number);
        }
    }

    /// What robots are to be told: up to where everything is written down, where that is news or
    /// was asked for again.
    pub(crate) fn acknowledge(&mut self, robots: &HashSet<String>) -> Vec<(String, Acknowledged)> {
        let mut told = Vec::new();
        for robot in robots {
            let Some(kept) = self.spools.get_mut(robot) else {
                continue;
            };
            let upto = kept
                .open
                .keys()
                .next()
                .map_or(kept.taken, |first| first - 1);
            if upto > kept.acknowledged || (kept.repeated && upto > 0) {
                kept.acknowledged = upto;
                kept.repeated = false;
                let news = Acknowledged {
                    spool: kept.name.clone(),
                    sequence: upto,
                };
                told.push((robot.clone(), news));
            }
        }
        told
    }

    /// A robot is gone for good.
    pub(crate) fn forget(&mut self, robot: &str) {
        self.spools.remove(robot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_robot_is_acknowledged_up_to_the_first_report_that_is_not_written_down() {
        let mut desk = Desk::default();
        let robots = HashSet::from(["a".to_owned()]);
        for number in 1..=3 {
            assert!(desk.enter("a", "s", number - 1, number));
        }
        assert!(
            !desk.enter("a", "s", 1, 2),
            "what was taken in is not taken in again"
        );
        desk.done("a", "s", 1);
        desk.done("a", "s", 3);
        let upto = |desk: &mut Desk| {
            desk.acknowledge(&robots)
                .pop()
                .map(|(_, told)| told.sequence)
        };
        assert_eq!(upto(&mut desk), Some(1));
        assert_eq!(upto(&mut desk), None);
        desk.done("a", "s", 2);
        assert_eq!(upto(&mut desk), Some(3));
        assert!(!desk.enter("a", "s", 2, 3));
        assert_eq!(upto(&mut desk), Some(3), "one who asks again is told again");
        assert!(
            desk.enter("a", "another", 0, 1),
            "another spool begins anew"
        );
    }
    #[test]
    fn a_bridge_that_has_just_begun_hears_the_oldest_first() {
        let mut desk = Desk::default();
        assert!(
            !desk.enter("a", "s", 7, 8),
            "what comes before it is still to come"
        );
        for number in [5, 6, 8] {
            assert!(
                desk.enter("a", "s", 0, number),
                "the robot no longer keeps 7"
            );
        }
        assert!(!desk.enter("a", "s", 9, 10), "9 was not heard");
        assert!(desk.enter("a", "s", 8, 9));
    }
}
