//! How often somebody may call. Of everybody only one moment is kept, and of not too many.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// So many callers are told apart. At 200 bytes each that is 2 MiB.
const MOST: usize = 10_000;
/// Those who have not called for long are forgotten no more often than this.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// A steady pace, and how far one may run ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// A call for every so long.
    every: Duration,
    /// What may be called at once after a rest.
    ahead: Duration,
}

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// Whoever has the token of this name.
    Token(String),
    /// Whoever calls from here without one.
    Address(IpAddr),
}

/// How often everybody has called.
#[derive(Debug)]
pub(crate) struct Calls {
    pace: Pace,
    seen: Mutex<Seen>,
}

/// For each caller, when all that was called would have been called at the steady pace.
#[derive(Debug)]
struct Seen {
    callers: HashMap<Who, Instant>,
    /// The same for all together whom there is no room to tell apart.
    others: Option<Instant>,
    forgot: Option<Instant>,
}

impl Pace {
    /// So many calls in any minute, all at once if need be.
    pub(crate) fn per_minute(calls: u32) -> Self {
        let every = Duration::from_secs(60) / calls.max(1);
        Self {
            every,
            ahead: every * calls.max(1),
        }
    }

    /// Counts one more call. It is refused, with how long to wait, when it comes too early.
    fn next(self, until: Option<Instant>, now: Instant) -> Result<Instant, Duration> {
        let next = until.unwrap_or(now).max(now) + self.every;
        match (next - now).checked_sub(self.ahead) {
            None | Some(Duration::ZERO) => Ok(next),
            Some(early) => Err(early),
        }
    }
}

impl Who {
    /// Whoever calls from an address. A machine has a whole /64 of the new ones to call from.
    pub(crate) fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address => address,
        })
    }
}

impl Calls {
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            pace,
            seen: Mutex::new(Seen {
                callers: HashMap::new(),
                others: None,
                forgot: None,
            }),
        }
    }

    /// Counts a call, or says how long to wait with it.
    pub(crate) fn count(&self, who: Who, now: Instant) -> Result<(), Duration> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.make_room(now);
        let is_known = seen.callers.contains_key(&who);
        if !is_known && seen.callers.len() >= MOST {
            seen.others = Some(self.pace.next(seen.others, now)?);
            return Ok(());
        }
        let until = self.pace.next(seen.callers.get(&who).copied(), now)?;
        seen.callers.insert(who, until);
        Ok(())
    }
}

impl Seen {
    /// Forgets who has rested for long enough to be like new.
    fn make_room(&mut self, now: Instant) {
        let is_due = self.forgot.is_none_or(|then| now - then >= FORGET_EVERY);
        if self.callers.len() >= MOST && is_due {
            self.forgot = Some(now);
            self.callers.retain(|_, until| *until > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ann() -> Who {
        Who::Token("ann".to_owned())
    }

    fn host(number: u32) -> Who {
        Who::at(IpAddr::from(number.to_be_bytes()))
    }

    #[test]
    fn who_calls_too_often_waits_as_long_as_is_said_and_no_longer() {
        let calls = Calls::new(Pace::per_minute(60));
        let now = Instant::now();
        for _ in 0..60 {
            calls.count(ann(), now).unwrap();
        }
        assert_eq!(calls.count(ann(), now), Err(Duration::from_secs(1)));
        assert_eq!(calls.count(host(1), now), Ok(()), "others are not held up");
        let later = now + Duration::from_secs(1);
        assert_eq!(calls.count(ann(), later), Ok(()));
        assert_eq!(calls.count(ann(), later), Err(Duration::from_secs(1)));
    }

    #[test]
    fn a_crowd_of_strangers_is_counted_together_and_takes_no_more_memory() {
        let calls = Calls::new(Pace::per_minute(2));
        let now = Instant::now();
        for number in 0..MOST {
            calls
                .count(host(u32::try_from(number).unwrap()), now)
                .unwrap();
        }
        let stranger = |number| calls.count(host(u32::MAX - number), now);
        assert_eq!((stranger(0), stranger(1)), (Ok(()), Ok(())));
        assert!(stranger(2).is_err());
        assert_eq!(calls.seen.lock().unwrap().callers.len(), MOST);
        let later = now + Duration::from_secs(120);
        assert_eq!(calls.count(host(u32::MAX), later), Ok(()));
        assert_eq!(
            calls.seen.lock().unwrap().callers.len(),
            1,
            "the rest is forgotten"
        );
    }

    #[test]
    fn a_machine_with_many_addresses_is_one_caller() {
        let at = |text: &str| Who::at(text.parse().unwrap());
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:3:4:5:6"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    }

    proptest! {
        /// However calls come, in no minute are more let through than twice the pace: what was
        /// saved up, and what came on.
        #[test]
        fn nobody_outruns_the_pace(gaps in prop::collection::vec(0_u64..3000, 1..400), pace in 1_u32..100) {
            let calls = Calls::new(Pace::per_minute(pace));
            let mut now = Instant::now();
            let mut let_in = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if calls.count(ann(), now).is_ok() {
                    let_in.push(now);
                }
            }
            for (index, first) in let_in.iter().enumerate() {
                let minute = *first + Duration::from_secs(60);
                let within = let_in[index..].iter().filter(|then| **then < minute).count();
                prop_assert!(within <= 2 * pace as usize, "{within} in a minute at {pace}");
            }
        }
    }
}
