//! The life of one run as a pure state machine: events in, actions out, time passed in.
//!
//! ```text
//! Starting ──► Running ────────────────► Draining ──► Over
//!                 └──► Stopping ─┬──────────▲
//!                                └► Killing ┘
//! ```
//!
//! A command that ends by itself is over when its output is drained; what it left in the
//! background lives on. A command that is stopped is over when its whole tree is gone and
//! the output is drained.

use std::time::Duration;

use crate::outcome::End;

/// A moment, counted from wherever the caller likes.
pub(crate) type Moment = Duration;

/// How long a tree that was sent KILL is waited for. Only a process stuck in the kernel takes
/// longer, and no one can end that.
pub(crate) const KILL_PATIENCE: Duration = Duration::from_secs(30);
/// How often KILL is repeated, to catch what was forked meanwhile.
pub(crate) const KILL_AGAIN: Duration = Duration::from_millis(20);

/// Why a run is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its time was up.
    Timeout,
    /// Somebody asked.
    Asked,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The command runs.
    Began,
    /// The command could not be started.
    Failed(End),
    /// The main process ended by itself or by a signal.
    Ended(End),
    /// No process of the tree is left.
    TreeGone,
    /// Everything written so far was read, and nobody is expected to write more.
    Drained,
    /// Stop the whole tree, gently first.
    Stop(Cause),
    /// Kill the whole tree without grace.
    Kill(Cause),
    /// Kill the command and whoever stayed in its session.
    HangUp,
    /// Time has passed.
    Clock,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send TERM to the tree.
    Terminate,
    /// Send KILL to the tree.
    Kill,
    /// Send KILL to the session.
    HangUp,
    /// The run is over. Said once.
    Finish(End),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Running,
    /// TERM was sent.
    Stopping {
        cause: Cause,
        kill_at: Moment,
    },
    /// KILL was sent.
    Killing {
        cause: Cause,
        again_at: Moment,
        give_up_at: Moment,
    },
    /// The outcome is certain, the last output is being read.
    Draining {
        end: End,
    },
    Over,
}

/// Where a run is in its life.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    state: State,
    grace: Duration,
    deadline: Option<Moment>,
    /// Nobody is at its terminal any more.
    hung_up: bool,
}

impl Life {
    /// A run about to start. `deadline` is when its time is up.
    pub(crate) fn new(grace: Duration, deadline: Option<Moment>) -> Self {
        Self {
            state: State::Starting,
            grace,
            deadline,
            hung_up: false,
        }
    }

    /// When to come back with [`Event::Clock`], if nothing happens before.
    pub(crate) fn wake_at(&self) -> Option<Moment> {
        match self.state {
            State::Starting | State::Running => self.deadline,
            State::Stopping { kill_at, .. } => Some(kill_at),
            State::Killing {
                again_at,
                give_up_at,
                ..
            } => Some(again_at.min(give_up_at)),
            State::Draining { .. } | State::Over => None,
        }
    }

    /// Whether the outcome is certain and only the output is waited for.
    pub(crate) fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining { .. })
    }

    /// Whether the run is over.
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Takes an event and says what to do about it.
    pub(crate) fn on(&mut self, event: Event, now: Moment) -> Option<Action> {
        match (self.state, event) {
            (State::Over, _) => None,
            (State::Starting, Event::Began) => {
                self.state = State::Running;
                self.hung_up.then_some(Action::HangUp)
            }
            (State::Starting, Event::HangUp) => {
                self.hung_up = true;
                None
            }
            // The command's end is told like any other.
            (State::Running, Event::HangUp) => Some(Action::HangUp),
            // Asked to stop before there was anything to signal.
            (State::Stopping { .. }, Event::Began) => Some(Action::Terminate),
            (State::Killing { .. }, Event::Began) => Some(Action::Kill),
            (State::Starting | State::Running, Event::Failed(end)) => self.finish(end),
            (State::Starting | State::Running, Event::Ended(end)) => self.drain(end),
            (State::Draining { end }, Event::Drained) => self.finish(end),
            // The keeper went without a word about the main process.
            (State::Starting | State::Running, Event::TreeGone) => self.drain(End::Lost),
            (State::Stopping { cause, .. }, Event::TreeGone) => self.drain(stopped(cause, false)),
            (State::Killing { cause, .. }, Event::TreeGone) => self.drain(stopped(cause, true)),
            (State::Starting | State::Running, Event::Stop(cause)) => self.stop(cause, now),
            (State::Starting | State::Running, Event::Kill(cause)) => {
                self.kill(cause, now, now + KILL_PATIENCE)
            }
            (State::Stopping { cause, .. }, Event::Kill(_)) => {
                self.kill(cause, now, now + KILL_PATIENCE)
            }
            (_, Event::Clock) => self.tick(now),
            // Late or repeated news changes nothing; while stopping, only the whole tree counts.
            _ => None,
        }
    }

    fn tick(&mut self, now: Moment) -> Option<Action> {
        match self.state {
            State::Starting | State::Running
                if self.deadline.is_some_and(|deadline| now >= deadline) =>
            {
                self.stop(Cause::Timeout, now)
            }
            State::Stopping { cause, kill_at } if now >= kill_at => {
                self.kill(cause, now, now + KILL_PATIENCE)
            }
            State::Killing {
                cause, give_up_at, ..
            } if now >= give_up_at => self.drain(stopped(cause, true)),
            State::Killing {
                cause,
                again_at,
                give_up_at,
            } if now >= again_at => self.kill(cause, now, give_up_at),
            _ => None,
        }
    }

    fn stop(&mut self, cause: Cause, now: Moment) -> Option<Action> {
        self.state = State::Stopping {
            cause,
            kill_at: now + self.grace,
        };
        Some(Action::Terminate)
    }

    fn kill(&mut self, cause: Cause, now: Moment, give_up_at: Moment) -> Option<Action> {
        self.state = State::Killing {
            cause,
            again_at: now + KILL_AGAIN,
            give_up_at,
        };
        Some(Action::Kill)
    }

    fn drain(&mut self, end: End) -> Option<Action> {
        self.state = State::Draining { end };
        None
    }

    fn finish(&mut self, end: End) -> Option<Action> {
        self.state = State::Over;
        Some(Action::Finish(end))
    }
}

fn stopped(cause: Cause, killed: bool) -> End {
    match cause {
        Cause::Timeout => End::TimedOut { killed },
        Cause::Asked => End::Stopped { killed },
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
