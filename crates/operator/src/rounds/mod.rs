//! The loop that looks after a family of resources: sights and answers in, decisions out.
//!
//! A round takes in whatever has come, lets the family's controllers look at what it marked, and
//! sends off what they put on the tray. Writes and errands go on beside the loop and come back
//! into it as answers; at most one write about an object is under way at a time. One task owns
//! all that a family knows, so no lock stands between a sight and a decision.

mod beside;
mod last_told;
mod legible;
mod wakes;
mod watches;
pub(crate) mod writes;

use std::{collections::HashSet, hash::Hash, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::{sync::mpsc, task::JoinError};
use tokio_util::sync::CancellationToken;

pub(crate) use beside::{Beside, Gate};
pub(crate) use last_told::LastTold;
pub(crate) use wakes::Wakes;
pub(crate) use watches::{Seen, Sight, Watches};

use crate::{index::Key, settings::Settings};

/// How many sights one round takes in at most.
const ROUND: usize = 256;
/// How long the loop sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(60);

/// A family of resources, as the loop that looks after it needs it.
pub(crate) trait Family {
    /// A kind that is watched.
    type Kind: Copy + Eq + Hash + Send + 'static;
    /// What the watches tell.
    type Object: Send + 'static;
    /// What comes of something that went on beside the loop.
    type Answer: Send + 'static;

    /// Every kind there is; until all have been listed, nothing is decided.
    const KINDS: &'static [Self::Kind];

    /// Begins to watch every kind.
    fn watch(&mut self, watches: &mut Watches<Self::Object, Self::Kind>);

    /// Takes in something that a watch tells.
    fn see(&mut self, object: Self::Object, now: Timestamp);

    /// Takes in that an object is gone.
    fn lose(&mut self, kind: Self::Kind, key: &Key, now: Timestamp);

    /// What is known of a kind.
    fn known(&self, kind: Self::Kind) -> Vec<Key>;

    /// Takes in that all objects of a kind were listed: any other is gone.
    fn complete(&mut self, kind: Self::Kind, listed: &HashSet<Key>, now: Timestamp) {
        for key in self.known(kind) {
            if !listed.contains(&key) {
                self.lose(kind, &key, now);
            }
        }
    }

    /// Takes in an answer.
    fn take(&mut self, answer: Self::Answer, now: Timestamp);

    /// Marks what is to be looked at by now.
    fn ring(&mut self, now: Timestamp);

    /// When something is to be looked at next.
    fn due(&self) -> Option<Timestamp>;

    /// Everything has been listed, and the first decisions come next.
    async fn begin(&mut self);

    /// Lets the controllers look at what is marked, and sends off what they put on the tray.
    async fn decide(&mut self, now: Timestamp, beside: &mut Beside<Self::Answer>);

    /// The operator leaves: what runs elsewhere is left running.
    fn leave(&mut self) {}
}

/// Looks after a family until told to leave; says when everything has been read.
pub(crate) async fn look_after<F: Family>(
    client: Client,
    settings: &Settings,
    mut family: F,
    ready: impl FnOnce(),
    cancel: CancellationToken,
) {
    let (mut watches, sights) = Watches::new(client.clone(), settings.namespace.clone());
    family.watch(&mut watches);
    let rounds = Rounds {
        family,
        beside: Beside::new(client),
        unlisted: F::KINDS.iter().copied().collect(),
    };
    // The watches end when they are dropped.
    let _watches = watches.begun();
    rounds.go(sights, ready, cancel).await;
}

struct Rounds<F: Family> {
    family: F,
    beside: Beside<F::Answer>,
    /// Kinds that have not been listed yet.
    unlisted: HashSet<F::Kind>,
}

type Sights<F> = mpsc::Receiver<Sight<<F as Family>::Object, <F as Family>::Kind>>;

impl<F: Family> Rounds<F> {
    async fn go(mut self, mut sights: Sights<F>, ready: impl FnOnce(), cancel: CancellationToken) {
        let mut batch = Vec::with_capacity(ROUND);
        let mut ready = Some(ready);
        loop {
            let pause = self.pause();
            tokio::select! {
                () = cancel.cancelled() => break,
                count = sights.recv_many(&mut batch, ROUND) => {
                    if count == 0 {
                        tracing::error!("the watches have ended");
                        break;
                    }
                }
                answer = self.beside.answer() => self.take(answer),
                () = tokio::time::sleep(pause) => {}
            }
            self.take_in(&mut sights, &mut batch);
            if self.unlisted.is_empty() {
                if let Some(ready) = ready.take() {
                    self.family.begin().await;
                    ready();
                }
                self.family.decide(Timestamp::now(), &mut self.beside).await;
            }
        }
        drop(sights);
        self.family.leave();
        self.beside.leave().await;
    }

    fn pause(&self) -> Duration {
        let Some(next) = self.family.due().filter(|_| self.unlisted.is_empty()) else {
            return IDLE;
        };
        let left = next
            .duration_since(Timestamp::now())
            .max(SignedDuration::ZERO);
        Duration::try_from(left).unwrap_or(IDLE).min(IDLE)
    }

    /// Takes in everything that has come up to now.
    fn take_in(&mut self, sights: &mut Sights<F>, batch: &mut Vec<Sight<F::Object, F::Kind>>) {
        let now = Timestamp::now();
        while batch.len() < ROUND
            && let Ok(sight) = sights.try_recv()
        {
            batch.push(sight);
        }
        for sight in batch.drain(..) {
            self.see(sight, now);
        }
        for _ in 0..ROUND {
            let Some(answer) = self.beside.try_answer() else {
                break;
            };
            self.take(answer);
        }
        self.family.ring(now);
    }

    fn see(&mut self, sight: Sight<F::Object, F::Kind>, now: Timestamp) {
        match sight {
            Sight::There(object) => self.family.see(object, now),
            Sight::Gone(kind, key) => self.family.lose(kind, &key, now),
            Sight::Complete(kind, listed) => {
                self.family.complete(kind, &listed, now);
                self.unlisted.remove(&kind);
            }
        }
    }

    fn take(&mut self, answer: Result<F::Answer, JoinError>) {
        match answer {
            Ok(answer) => self.family.take(answer, Timestamp::now()),
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "a piece of work panicked"),
        }
    }
}
