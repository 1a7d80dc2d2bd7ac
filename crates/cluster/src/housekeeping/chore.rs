//! The loop that all chores share: follow the store, plan, act, and try again what failed.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use sandlot_store::Event;

use super::agenda::Agenda;
use super::hand::{Action, Hand};
use crate::record::{Facts, Record};
use std::sync::Arc;

/// How many things a chore works on at the same time. Writes that arrive together share an
/// fsync, so this many at a time are hardly slower than one.
const AT_ONCE: usize = 64;

/// What is to be done about a thing.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing.
    Rest,
    /// Look again after a while.
    Wait(Duration),
    /// Do all of this, in any order.
    Act(Vec<Action>),
}

/// One chore: what it knows, and what it would do.
pub(crate) trait Chore: Send + 'static {
    /// What it looks at, one at a time.
    type Thing: Clone + Eq + Hash + Debug + Send;

    /// Forgets everything, and begins anew with all there is.
    fn begin(&mut self, records: &[Arc<Record>], agenda: &mut Agenda<Self::Thing>);

    /// Takes note of a change.
    fn see(&mut self, event: &Event<Facts>, agenda: &mut Agenda<Self::Thing>);

    /// Decides what to do about a thing.
    fn plan(&mut self, thing: &Self::Thing, now: Timestamp) -> Plan;

    /// Takes note that what was planned could not be done.
    fn failed(&mut self, _thing: &Self::Thing, _why: &str) {}
}

/// Does a chore until the server stops.
pub(crate) async fn run<C: Chore>(mut chore: C, hand: Hand) {
    let stop = hand.api().stop.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow(&mut chore, &hand) => {}
    }
}

/// Does a chore until the store is closed.
async fn follow<C: Chore>(chore: &mut C, hand: &Hand) {
    let mut agenda = Agenda::new();
    let mut under_way = FuturesUnordered::new();
    loop {
        let (listing, mut watch) = hand.api().store.list_and_watch_everything();
        chore.begin(&listing.records, &mut agenda);
        drop(listing);
        loop {
            tokio::select! {
                // What happened is seen before anything is planned, so plans are fresh.
                biased;
                event = watch.next() => match event {
                    Some(Ok(event)) => chore.see(&event, &mut agenda),
                    // It fell behind: begin anew.
                    Some(Err(_)) => break,
                    None => return,
                },
                Some((thing, outcome)) = under_way.next() => match outcome {
                    Ok(()) => agenda.done(thing),
                    Err(why) => retry(chore, &mut agenda, thing, &why),
                },
                thing = agenda.next(), if under_way.len() < AT_ONCE => {
                    match chore.plan(&thing, hand.api().now()) {
                        Plan::Rest => agenda.done(thing),
                        Plan::Wait(delay) => agenda.postpone(thing, delay),
                        Plan::Act(actions) => under_way.push(async move {
                            (thing, hand.act_all(actions).await)
                        }),
                    }
                }
            }
        }
    }
}

fn retry<C: Chore>(
    chore: &mut C,
    agenda: &mut Agenda<C::Thing>,
    thing: C::Thing,
    why: &crate::ApiError,
) {
    chore.failed(&thing, &why.message);
    let shown = format!("{thing:?}");
    let after = agenda.failed(thing);
    // Somebody else was faster: the next look will know what they did.
    if why.code != 409 {
        tracing::warn!(thing = shown, %why, ?after, "housekeeping will try again");
    }
}
