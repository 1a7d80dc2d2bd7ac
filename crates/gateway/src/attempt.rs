//! What to do when an attempt to carry out an execution breaks. The time is passed in.

use std::time::Duration;

use sandlot_decide::session::ExecutionStatus;
use tokio::time::Instant;

use crate::runs::AGAIN;

/// How long an agent that does not answer is tried again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// And so often at most.
const MOST_FAILURES: u32 = 50;
/// How long an execution waits for a pod, or for room in one.
const QUEUE: Duration = Duration::from_secs(120);

/// Why an attempt came to no end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// There is no room in its pod, or no pod yet; nothing was started.
    Waits(String),
    /// Trying again may help.
    Again(String),
    /// It will not: what is known is that it did not end well.
    Crashed(String),
    /// It was never started and cannot be.
    Refused(String),
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again after this time.
    Wait(Duration),
    /// Run it anew: what it ran in was lost, and whoever asked for it wants that.
    Retry(String),
    /// It is over.
    End(ExecutionStatus, String),
}

/// How carrying out goes, from one attempt to the next.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// It was, or may have been, started: elsewhere it must not be started again.
    sent: bool,
    /// It was started for sure, and an agent that does not know it has lost it.
    known: bool,
    /// Since when it is waited for.
    began: Instant,
    /// Since when nothing is heard.
    silent_since: Instant,
    /// How often in a row nothing was heard.
    failures: u32,
    /// What it ran in is gone, for this reason.
    lost: Option<String>,
}

impl Attempt {
    /// The first, or one of an execution that is running already.
    pub(crate) fn new(is_running: bool, now: Instant) -> Self {
        Self {
            sent: is_running,
            known: is_running,
            began: now,
            silent_since: now,
            failures: 0,
            lost: None,
        }
    }

    /// Whether it is only asked for, not started.
    pub(crate) fn attach_only(&self) -> bool {
        self.known
    }

    /// It is asked for: from now on it may have been started.
    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    /// Its agent knows it.
    pub(crate) fn attached(&mut self) {
        self.known = true;
    }

    /// Something was heard of it.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.failures = 0;
        self.silent_since = now;
    }

    /// Its session has another pod: what was started is lost, anything else can start there.
    pub(crate) fn moved(&mut self, why: String, now: Instant) {
        if self.sent {
            self.lost = Some(why);
        }
        self.heard(now);
    }

    /// Its session is over.
    pub(crate) fn over(&mut self, why: String) {
        self.lost = Some(why);
    }

    /// Whether there is anything to be tried.
    pub(crate) fn goes_on(&self) -> Result<(), Broken> {
        match &self.lost {
            Some(why) => Err(Broken::Crashed(why.clone())),
            None => Ok(()),
        }
    }

    /// There is no agent to ask.
    pub(crate) fn unreachable(&self, why: String) -> Broken {
        match self.sent {
            true => Broken::Crashed(why),
            false => Broken::Waits(why),
        }
    }

    /// What follows, with so many retries left.
    pub(crate) fn after(&mut self, broken: Broken, retries: u32, now: Instant) -> Next {
        let crashed = |why| match retries {
            0 => Next::End(ExecutionStatus::Crashed, why),
            _ => Next::Retry(why),
        };
        match broken {
            Broken::Refused(why) => Next::End(ExecutionStatus::Failed, why),
            Broken::Crashed(why) => crashed(why),
            Broken::Waits(why) if now.duration_since(self.began) > QUEUE => {
                Next::End(ExecutionStatus::Failed, why)
            }
            Broken::Waits(_) => {
                // Nothing was started there.
                self.sent = self.known;
                self.heard(now);
                Next::Wait(AGAIN.longest / 4)
            }
            Broken::Again(why) => {
                let silent = now.duration_since(self.silent_since);
                if self.failures >= MOST_FAILURES || silent > PATIENCE {
                    return crashed(why);
                }
                self.failures += 1;
                Next::Wait(AGAIN.after(self.failures))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again() -> Broken {
        Broken::Again("silence".to_owned())
    }

    #[test]
    fn silence_is_borne_for_a_while_and_then_it_crashed() {
        let start = Instant::now();
        let mut attempt = Attempt::new(false, start);
        let soon = attempt.after(again(), 0, start + Duration::from_secs(1));
        assert!(matches!(soon, Next::Wait(_)));
        let late = attempt.after(again(), 0, start + PATIENCE * 2);
        assert_eq!(
            late,
            Next::End(ExecutionStatus::Crashed, "silence".to_owned())
        );
    }

    #[test]
    fn what_was_heard_lately_is_not_silent() {
        let start = Instant::now();
        let mut attempt = Attempt::new(true, start);
        attempt.heard(start + PATIENCE * 5);
        let next = attempt.after(again(), 0, start + PATIENCE * 5 + Duration::from_secs(1));
        assert!(matches!(next, Next::Wait(_)));
    }

    #[test]
    fn only_who_asked_for_it_is_run_again() {
        let start = Instant::now();
        let crashed = || Broken::Crashed("gone".to_owned());
        let after = |retries| Attempt::new(true, start).after(crashed(), retries, start);
        assert_eq!(after(1), Next::Retry("gone".to_owned()));
        assert_eq!(
            after(0),
            Next::End(ExecutionStatus::Crashed, "gone".to_owned())
        );
    }

    #[test]
    fn what_never_started_moves_along_and_what_started_does_not() {
        let now = Instant::now();
        let mut fresh = Attempt::new(false, now);
        fresh.moved("moved".to_owned(), now);
        assert_eq!(fresh.goes_on(), Ok(()));
        let mut started = Attempt::new(false, now);
        started.sent();
        started.moved("moved".to_owned(), now);
        assert_eq!(started.goes_on(), Err(Broken::Crashed("moved".to_owned())));
    }

    #[test]
    fn waiting_for_room_has_an_end_too() {
        let start = Instant::now();
        let mut attempt = Attempt::new(false, start);
        attempt.sent();
        let full = || Broken::Waits("full".to_owned());
        assert!(matches!(attempt.after(full(), 0, start), Next::Wait(_)));
        assert_eq!(
            attempt.after(full(), 3, start + QUEUE * 2),
            Next::End(ExecutionStatus::Failed, "full".to_owned())
        );
    }
}
