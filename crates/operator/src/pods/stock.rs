//! A pool's stock of pods: what is remembered between one look at a pool and the next.
//!
//! Every kind of pool has one. It counts the pods that have been asked for and not been seen,
//! keeps the row of failures, and lets the engine in `sandlot-decide` plan no more often than
//! makes sense.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use sandlot_decide::{
    backoff::Backoff,
    expiry::later,
    pool::{self, Care, Failures, Plan, Share, Sizing, TroubleKind},
};

/// A pool's counts are written no more often than this.
pub(crate) const COUNTS_APART: Duration = Duration::from_millis(200);
/// A busy pool is looked at no more often than this; claims do not wait for it.
const BREATH: Duration = Duration::from_millis(20);
/// Who was given a pod begins to use it in this moment. So long nothing is started in its place.
const HEAD_START: Duration = Duration::from_millis(50);
/// For so long at most claims that follow one another put off that their pods are replaced.
const RUSH: Duration = Duration::from_secs(1);
/// A pod that was made and is not seen for so long is not waited for.
const UNSEEN: Duration = Duration::from_secs(60);
/// Refusals that come together are one.
const TOGETHER: Duration = Duration::from_secs(5);

/// What is remembered of a pool's pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stock {
    /// Pods asked for and not seen yet, by name, and since when. Names are thought up here, so that
    /// a pod that the watch tells of before its create is answered is not counted twice.
    making: HashMap<Arc<str>, Timestamp>,
    failures: Failures,
    /// Failures count for one template only.
    failures_of: Arc<str>,
    looked: Option<Timestamp>,
    /// Since when its pods are being given away, and are not replaced.
    put_off: Option<Timestamp>,
}

/// How a pool wants to be stocked.
pub(crate) struct Order<'a> {
    pub(crate) sizing: Sizing,
    pub(crate) care: Care,
    pub(crate) pods: &'a [pool::Pod],
    /// Pods that the waiting claims want.
    pub(crate) wanted: u32,
}

/// How careful pools are by default.
pub(crate) fn care(starting: Share, rolling: Share) -> Care {
    Care {
        starting,
        rolling,
        replace: Backoff {
            first: Duration::from_secs(10),
            longest: Duration::from_secs(300),
        },
        steady: Duration::from_secs(60),
    }
}

impl Stock {
    /// The same stock under a template of this revision.
    pub(crate) fn under(mut self, revision: &Arc<str>) -> Self {
        if self.failures_of != *revision {
            self.failures = Failures::default();
            self.failures_of = revision.clone();
        }
        self
    }

    /// Whether the pool may be looked at now; otherwise, when.
    pub(crate) fn breathe(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        match self.looked.map(|looked| later(looked, BREATH)) {
            Some(next) if next > now => Err(next),
            _ => {
                self.looked = Some(now);
                self.making.retain(|_, since| later(*since, UNSEEN) > now);
                Ok(())
            }
        }
    }

    /// Whether pods that are just being given away may be replaced now; otherwise, when to ask again.
    /// To start a pod takes all the processor there is, and who claims one is waiting for a few
    /// writes and then for what runs first in it: they go first, however many come together. Pods
    /// that somebody waits for are not put off.
    pub(crate) fn replaces(
        &mut self,
        giving: bool,
        wanted: u32,
        now: Timestamp,
    ) -> Result<(), Timestamp> {
        if wanted > 0 {
            self.put_off = None;
            return Ok(());
        }
        if giving && self.put_off.is_none() {
            self.put_off = Some(now);
        }
        let Some(since) = self.put_off else {
            return Ok(());
        };
        let soonest = later(since, HEAD_START);
        if soonest > now {
            return Err(soonest);
        }
        let latest = later(since, RUSH);
        if giving && latest > now {
            return Err(latest.min(later(now, BREATH)));
        }
        self.put_off = None;
        Ok(())
    }

    /// What is to be done.
    pub(crate) fn plan(&self, order: &Order<'_>, now: Timestamp) -> Plan {
        let pool = pool::Pool {
            sizing: order.sizing,
            care: order.care,
            pods: order.pods,
            creating: self.making(),
            wanted: order.wanted,
            failures: &self.failures,
        };
        pool::plan(&pool, now)
    }

    /// Remembers what the plan says of failures.
    pub(crate) fn settle(&mut self, plan: &Plan) {
        self.failures = plan.failures.clone();
    }

    /// A pod of this name is asked for.
    pub(crate) fn ask(&mut self, name: Arc<str>, now: Timestamp) {
        self.making.insert(name, now);
    }

    /// A pod of this name is seen, or will not be.
    pub(crate) fn answered(&mut self, name: &str) {
        self.making.remove(name);
    }

    /// How many pods are asked for and not seen.
    pub(crate) fn making(&self) -> u32 {
        self.making.len() as u32
    }

    /// The API refused a pod. One refusal of several at once speaks for all of them: whether this
    /// is the one.
    pub(crate) fn refused(&mut self, message: &str, now: Timestamp) -> bool {
        let told = |last| later(last, TOGETHER) >= now;
        if self.failures.last.is_some_and(told) {
            return false;
        }
        self.failures.refused(message.to_owned(), now);
        true
    }

    /// Whether pods of this template have crashed lately.
    pub(crate) fn crashes(&self) -> bool {
        let crashed = |trouble: &pool::Trouble| {
            matches!(trouble.kind, TroubleKind::Crash | TroubleKind::Ended)
        };
        self.failures.count > 0 && self.trouble().is_some_and(crashed)
    }

    /// What was wrong at the last failure.
    pub(crate) fn trouble(&self) -> Option<&pool::Trouble> {
        self.failures.trouble.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_claims_goes_before_the_replacement_and_who_waits_before_both() {
        let start = Timestamp::UNIX_EPOCH;
        let then = later(start, HEAD_START);
        let mut stock = Stock::default();
        assert_eq!(stock.replaces(false, 0, start), Ok(()));
        assert_eq!(stock.replaces(true, 0, start), Err(then));
        // The claim is done, the one who made it hears of it in this moment.
        assert_eq!(stock.replaces(false, 0, start), Err(then));
        assert_eq!(stock.replaces(false, 0, then), Ok(()));
        assert_eq!(stock.replaces(true, 3, start), Ok(()));
        assert_eq!(stock.replaces(true, 0, start), Err(then));
        assert_eq!(stock.replaces(true, 0, then), Err(later(then, BREATH)));
        // However many claims there are, pods are replaced in the end.
        let last = later(start, RUSH - Duration::from_millis(5));
        assert_eq!(stock.replaces(true, 0, last), Err(later(start, RUSH)));
        assert_eq!(stock.replaces(true, 0, later(start, RUSH)), Ok(()));
    }
}
