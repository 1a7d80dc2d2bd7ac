//! When what is finished may be removed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// What to do now about something with an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its time is over.
    Remove,
    /// Look again at this time.
    LookAt(Timestamp),
    /// It stays.
    Keep,
}

/// A moment so long after another; the end of time where that overflows.
pub fn later(from: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| from.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Whether a thing that finished at `finished` and may stay `keep` longer is over.
pub fn finished(finished: Option<Timestamp>, keep: Option<Duration>, now: Timestamp) -> Verdict {
    let (Some(finished), Some(keep)) = (finished, keep) else {
        return Verdict::Keep;
    };
    match later(finished, keep) {
        end if end <= now => Verdict::Remove,
        end => Verdict::LookAt(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_task_goes_exactly_when_its_time_is_over() {
        let end: Timestamp = "2026-02-01T10:00:00Z".parse().unwrap();
        let keep = Some(Duration::from_secs(60));
        let due = later(end, Duration::from_secs(60));
        let before = Timestamp::from_millisecond(due.as_millisecond() - 1).unwrap();
        assert_eq!(finished(Some(end), keep, before), Verdict::LookAt(due));
        assert_eq!(finished(Some(end), keep, due), Verdict::Remove);
        assert_eq!(
            finished(Some(end), Some(Duration::ZERO), end),
            Verdict::Remove
        );
        assert_eq!(finished(Some(end), None, due), Verdict::Keep);
        assert_eq!(finished(None, keep, due), Verdict::Keep);
    }

    #[test]
    fn an_endless_wait_does_not_overflow() {
        let now: Timestamp = "2026-02-01T10:00:00Z".parse().unwrap();
        assert_eq!(later(now, Duration::MAX), Timestamp::MAX);
    }
}
