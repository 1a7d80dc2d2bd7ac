//! Who is there: what is remembered of each robot between one write and the next.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use sandlot_api::robot::{
    RobotPhase,
    wire::{Desired, Presence},
};
use sandlot_decide::{
    expiry::later,
    robots::liveness::{Link, Pulse},
};

use super::clock::moved;

/// So many robots at most are told to register again in a while.
const SCOLDED: usize = 20_000;
/// How often a robot's beats are answered at most.
const ANSWERED: Duration = Duration::from_secs(1);

/// What is remembered of a robot.
#[derive(Default)]
pub(crate) struct Person {
    pub(crate) pulse: Pulse,
    /// What it was told last, but for the version.
    pub(crate) told: Option<Desired>,
    /// Why it does not want to be disturbed.
    pub(crate) busy: Option<String>,
    /// When it beats out, as it stands in the order.
    due: Option<Timestamp>,
    /// When one of its beats was answered last.
    answered: Option<Instant>,
}

impl Person {
    /// Whether a beat may be answered: who beats without end is answered now and then.
    pub(crate) fn may_be_answered(&mut self, now: Instant) -> bool {
        let before = self.answered;
        let may = before.is_none_or(|before| now.duration_since(before) >= ANSWERED);
        if may {
            self.answered = Some(now);
        }
        may
    }
}

/// All robots that were heard of.
#[derive(Default)]
pub(crate) struct People {
    known: HashMap<String, Person>,
    /// Robots in the order in which their beats run out.
    order: BTreeSet<(Timestamp, String)>,
    /// Robots that may stand somewhere else now.
    pub(crate) moved: BTreeSet<String>,
    /// Robots that were told to register again since then.
    scolded: HashMap<String, Timestamp>,
    scolded_since: Timestamp,
}

impl People {
    /// What is remembered of a robot, if it was heard of.
    pub(crate) fn get(&self, robot: &str) -> Option<&Person> {
        self.known.get(robot)
    }

    /// The same, to be changed.
    pub(crate) fn of(&mut self, robot: &str) -> &mut Person {
        if !self.known.contains_key(robot) {
            self.known.insert(robot.to_owned(), Person::default());
        }
        self.known.entry(robot.to_owned()).or_default()
    }

    /// A robot has said something: it is alive.
    pub(crate) fn beat(&mut self, robot: &str, now: Timestamp, timeout: Duration) {
        self.change(robot, now, timeout, |pulse| pulse.beat(now));
    }

    /// A robot has said something of its connection, or its will has.
    pub(crate) fn presence(
        &mut self,
        robot: &str,
        said: &Presence,
        now: Timestamp,
        timeout: Duration,
    ) {
        let link = Link {
            state: said.state,
            session: said.session,
        };
        self.change(robot, now, timeout, |pulse| pulse.tell(link, now));
    }

    /// As the API last said, for a bridge that has just begun: a robot that was Online counts as
    /// heard of now, and one that no bridge heard is waited for: each has its whole time to beat.
    pub(crate) fn recall(
        &mut self,
        robot: &str,
        phase: RobotPhase,
        now: Timestamp,
        timeout: Duration,
    ) {
        if self.known.contains_key(robot) {
            return;
        }
        match phase {
            RobotPhase::Online => self.change(robot, now, timeout, |pulse| pulse.heard = Some(now)),
            RobotPhase::Unknown => {
                self.change(robot, now, timeout, |pulse| pulse.awaited = Some(now));
            }
            RobotPhase::Pending | RobotPhase::Offline => {}
        }
    }

    fn change(
        &mut self,
        robot: &str,
        now: Timestamp,
        timeout: Duration,
        how: impl FnOnce(&mut Pulse),
    ) {
        let person = self.of(robot);
        let before = person.pulse.phase(now, timeout);
        how(&mut person.pulse);
        let after = person.pulse.phase(now, timeout);
        // The order is only touched when a time comes up: a beat costs no more than a look.
        let unordered = person.due.is_none();
        if unordered && let Some(due) = person.pulse.due(timeout) {
            person.due = Some(due);
            self.order.insert((due, robot.to_owned()));
        }
        if before != after {
            self.moved.insert(robot.to_owned());
        }
    }

    /// Finds those whose beats have run out.
    pub(crate) fn check(&mut self, now: Timestamp, timeout: Duration) {
        while let Some((due, _)) = self.order.first()
            && *due <= now
        {
            let Some((_, robot)) = self.order.pop_first() else {
                return;
            };
            let Some(person) = self.known.get_mut(&robot) else {
                continue;
            };
            person.due = person.pulse.due(timeout).filter(|due| *due > now);
            match person.due {
                // It has beaten since.
                Some(due) => {
                    self.order.insert((due, robot));
                }
                None => {
                    self.moved.insert(robot);
                }
            }
        }
    }

    /// The clock was set by so much: what is remembered moves with it.
    pub(crate) fn set_clock(&mut self, by: SignedDuration) {
        for person in self.known.values_mut() {
            let pulse = &mut person.pulse;
            for at in [&mut pulse.heard, &mut pulse.awaited, &mut person.due] {
                *at = at.map(|at| moved(at, by));
            }
        }
        let ordered = |(robot, person): (&String, &Person)| Some((person.due?, robot.clone()));
        self.order = self.known.iter().filter_map(ordered).collect();
        for at in self.scolded.values_mut() {
            *at = moved(*at, by);
        }
        self.scolded_since = moved(self.scolded_since, by);
    }

    /// A robot was deleted: what was said of it is forgotten.
    pub(crate) fn forget(&mut self, robot: &str) {
        if let Some(person) = self.known.remove(robot)
            && let Some(due) = person.due
        {
            self.order.remove(&(due, robot.to_owned()));
        }
    }

    /// Everybody must be told everything again: the broker may have lost what it retained.
    pub(crate) fn forget_told(&mut self) {
        for person in self.known.values_mut() {
            person.told = None;
        }
    }

    /// Whether a robot may be told to register again: not more often than so. Anybody can make up
    /// ids, so there is an end to how many are remembered; beyond it nobody is answered.
    pub(crate) fn may_scold(&mut self, robot: &str, now: Timestamp, pause: Duration) -> bool {
        let over = |last: Timestamp| later(last, pause) <= now;
        if self.scolded.get(robot).is_some_and(|last| !over(*last)) {
            return false;
        }
        // All at once and not with each: a flood must not make this slow either.
        if over(self.scolded_since) {
            self.scolded.retain(|_, last| !over(*last));
            self.scolded_since = now;
        }
        if self.scolded.len() >= SCOLDED {
            return false;
        }
        self.scolded.insert(robot.to_owned(), now);
        true
    }

    /// How many robots are remembered.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use sandlot_api::robot::wire::PresenceState;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(300);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_beat_that_changes_nothing_moves_nobody() {
        let mut people = People::default();
        people.beat("a", at(0), TIMEOUT);
        assert_eq!(std::mem::take(&mut people.moved).len(), 1);
        for second in 1..100 {
            people.beat("a", at(second * 30), TIMEOUT);
            people.check(at(second * 30), TIMEOUT);
        }
        assert!(people.moved.is_empty());
        people.check(at(99 * 30 + 301), TIMEOUT);
        assert_eq!(people.moved.pop_first().as_deref(), Some("a"));
        let pulse = &people.get("a").unwrap().pulse;
        let (phase, message) = pulse.phase(at(99 * 30 + 301), TIMEOUT);
        assert_eq!((phase, message), (RobotPhase::Offline, "Heartbeat timeout"));
    }

    #[test]
    fn whoever_falls_silent_is_noticed_in_time_wherever_the_clock_is_set() {
        let day = 86_400;
        for by in [-day, day] {
            let mut people = People::default();
            people.beat("a", at(10 * day), TIMEOUT);
            people.moved.clear();
            people.set_clock(SignedDuration::from_secs(by));
            people.check(at(10 * day + by + 299), TIMEOUT);
            assert!(people.moved.is_empty(), "it has its whole time");
            people.check(at(10 * day + by + 300), TIMEOUT);
            assert_eq!(people.moved.len(), 1, "set by {by}");
        }
    }

    #[test]
    fn ids_that_are_made_up_fill_no_memory() {
        let mut people = People::default();
        let pause = Duration::from_secs(5);
        assert!(people.may_scold("a", at(0), pause));
        assert!(!people.may_scold("a", at(4), pause));
        assert!(people.may_scold("a", at(5), pause));
        for id in 0..3 * SCOLDED {
            people.may_scold(&format!("made-up-{id}"), at(5), pause);
        }
        assert_eq!((people.scolded.len(), people.len()), (SCOLDED, 0));
        assert!(
            people.may_scold("b", at(20), pause),
            "later there is room again"
        );
    }

    #[test]
    fn a_will_of_an_older_connection_says_nothing() {
        let mut people = People::default();
        let said = |state, session| Presence {
            state,
            session,
            at: None,
        };
        people.presence("a", &said(PresenceState::Online, 2), at(0), TIMEOUT);
        people.presence(
            "a",
            &said(PresenceState::ConnectionBroken, 1),
            at(1),
            TIMEOUT,
        );
        let phase = |people: &People| people.get("a").unwrap().pulse.phase(at(1), TIMEOUT).0;
        assert_eq!(phase(&people), RobotPhase::Online);
        people.presence(
            "a",
            &said(PresenceState::ConnectionBroken, 2),
            at(1),
            TIMEOUT,
        );
        assert_eq!(phase(&people), RobotPhase::Offline);
        people.beat("a", at(1), TIMEOUT);
        assert_eq!(phase(&people), RobotPhase::Online);
    }
}
