//! What a chore has to look at: each thing once at a time, failures again after a while.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::hash::Hash;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_util::time::{DelayQueue, delay_queue};

/// How soon a failure is tried again; each further failure doubles it…
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// …up to this.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Things to look at, in order of arrival. It holds each thing at most once.
pub(crate) struct Agenda<K> {
    ready: VecDeque<K>,
    later: DelayQueue<K>,
    entries: HashMap<K, Entry>,
}

struct Entry {
    state: State,
    failures: u32,
}

enum State {
    Ready,
    /// Handed out; `again` when it is to be looked at once more after that.
    Busy {
        again: bool,
    },
    Later(delay_queue::Key),
}

impl<K: Clone + Eq + Hash> Agenda<K> {
    pub(crate) fn new() -> Self {
        Agenda {
            ready: VecDeque::new(),
            later: DelayQueue::new(),
            entries: HashMap::new(),
        }
    }

    /// Something is to be looked at, as soon as may be.
    pub(crate) fn add(&mut self, thing: K) {
        match self.entries.get_mut(&thing) {
            None => {
                let entry = Entry {
                    state: State::Ready,
                    failures: 0,
                };
                self.entries.insert(thing.clone(), entry);
                self.ready.push_back(thing);
            }
            Some(entry) => match &mut entry.state {
                State::Ready => {}
                State::Busy { again } => *again = true,
                State::Later(timer) => {
                    self.later.remove(timer);
                    entry.state = State::Ready;
                    self.ready.push_back(thing);
                }
            },
        }
    }

    /// Something is to be looked at after a while, unless it is anyhow.
    pub(crate) fn add_later(&mut self, thing: K, delay: Duration) {
        match self.entries.get_mut(&thing) {
            None => {
                let state = State::Later(self.later.insert(thing.clone(), delay));
                self.entries.insert(thing, Entry { state, failures: 0 });
            }
            Some(entry) => {
                if let State::Busy { again } = &mut entry.state {
                    *again = true;
                }
            }
        }
    }

    /// Hands out the next thing, which is then busy until [`Agenda::done`] or its like.
    pub(crate) async fn next(&mut self) -> K {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<K> {
        while let Poll::Ready(Some(due)) = self.later.poll_expired(context) {
            self.ready.push_back(due.into_inner());
        }
        let Some(thing) = self.ready.pop_front() else {
            return Poll::Pending;
        };
        if let Some(entry) = self.entries.get_mut(&thing) {
            entry.state = State::Busy { again: false };
        }
        Poll::Ready(thing)
    }

    /// A thing that was handed out is in order.
    pub(crate) fn done(&mut self, thing: K) {
        let again = self.entries.remove(&thing);
        if matches!(again, Some(entry) if matches!(entry.state, State::Busy { again: true })) {
            self.add(thing);
        }
    }

    /// A thing that was handed out is to be looked at again after a while.
    pub(crate) fn postpone(&mut self, thing: K, delay: Duration) {
        let again = self.entries.remove(&thing);
        if matches!(again, Some(entry) if matches!(entry.state, State::Busy { again: true })) {
            self.add(thing);
        } else {
            self.add_later(thing, delay);
        }
    }

    /// A thing that was handed out could not be brought in order; returns when it is tried again.
    pub(crate) fn failed(&mut self, thing: K) -> Duration {
        let failures = self
            .entries
            .remove(&thing)
            .map_or(0, |entry| entry.failures);
        let delay = FIRST_RETRY
            .saturating_mul(1 << failures.min(16))
            .min(LAST_RETRY);
        let entry = Entry {
            state: State::Later(self.later.insert(thing.clone(), delay)),
            failures: failures.saturating_add(1),
        };
        self.entries.insert(thing, entry);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use tokio::time::Instant;

    fn now(agenda: &mut Agenda<&'static str>) -> Option<&'static str> {
        agenda.next().now_or_never()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_added_twice_is_handed_out_once() {
        let mut agenda = Agenda::new();
        for thing in ["a", "b", "a"] {
            agenda.add(thing);
        }
        assert_eq!((now(&mut agenda), now(&mut agenda)), (Some("a"), Some("b")));
        assert_eq!(now(&mut agenda), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_added_while_busy_is_handed_out_again_when_done() {
        let mut agenda = Agenda::new();
        agenda.add("a");
        now(&mut agenda);
        agenda.add("a");
        assert_eq!(now(&mut agenda), None, "never twice at a time");
        agenda.done("a");
        assert_eq!(now(&mut agenda), Some("a"));
        agenda.done("a");
        assert_eq!(now(&mut agenda), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_after_longer_and_longer_pauses() {
        let mut agenda = Agenda::new();
        agenda.add("a");
        let mut pauses = Vec::new();
        for _ in 0..20 {
            let begun = Instant::now();
            let thing = agenda.next().await;
            pauses.push(begun.elapsed());
            agenda.failed(thing);
        }
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert!(pauses[1] < Duration::from_millis(10) && pauses[19] >= LAST_RETRY);
        assert!(pauses[19] < LAST_RETRY * 2);
        agenda.add("a");
        assert_eq!(now(&mut agenda), Some("a"), "news come before patience");
        agenda.done("a");
        assert_eq!(agenda.failed("a"), FIRST_RETRY, "success clears the past");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_postponed_comes_when_it_is_due_or_sooner_if_there_is_news() {
        let mut agenda = Agenda::new();
        for thing in ["a", "b"] {
            agenda.add(thing);
            now(&mut agenda);
            agenda.postpone(thing, Duration::from_secs(60));
        }
        agenda.add_later("c", Duration::from_secs(30));
        agenda.add("b");
        assert_eq!((now(&mut agenda), now(&mut agenda)), (Some("b"), None));
        let begun = Instant::now();
        assert_eq!(agenda.next().await, "c");
        assert_eq!(agenda.next().await, "a");
        assert!(begun.elapsed() >= Duration::from_secs(60));
    }
}
