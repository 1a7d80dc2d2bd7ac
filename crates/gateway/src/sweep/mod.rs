//! Sweeps: what nobody else would notice. One gateway of several does it, by a lease: it looks
//! after what should be there, and now and then clears away what should not.

mod clear;
mod look;

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use crate::{gateway::Gateway, ledger::LedgerError};

/// The lease of the gateway that sweeps.
const SWEEPER: &str = "sweeper";
/// How long a lease is good without being renewed.
const LENGTH: Duration = Duration::from_secs(15);
/// How often leases are renewed.
const BEAT: Duration = Duration::from_secs(4);
/// How often old packages are looked for.
const BUNDLES: Duration = Duration::from_secs(3600);

/// What a sweep came to, as it is told to who asked for one.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Swept {
    pub(crate) checked: usize,
    pub(crate) healthy: usize,
    pub(crate) unhealthy: usize,
    pub(crate) recovered: usize,
    pub(crate) failed: usize,
    pub(crate) errors: Vec<String>,
}

impl Swept {
    /// Notes what was left undone, if anything was.
    fn note<E: std::fmt::Display>(&mut self, done: Result<(), E>) {
        self.errors
            .extend(done.err().map(|error| error.to_string()));
    }

    fn warn(self) {
        for error in self.errors {
            tracing::warn!(error, "a sweep left something undone");
        }
    }
}

impl Gateway {
    /// Says that this gateway is alive, and sweeps when it is the one to, until cancelled.
    pub(crate) async fn sweep_on(self: &Arc<Self>) {
        let leads = watch::Sender::new(false);
        // A sweep may take longer than a lease is good: who is busy is not gone.
        tokio::join!(self.beat_on(&leads), self.sweep_while(leads.subscribe()));
        if let Err(error) = self.ledger.let_go(&self.me).await {
            tracing::debug!(%error, "the leases run out by themselves");
        }
    }

    /// Renews the leases, and says whether this is the gateway to sweep.
    async fn beat_on(&self, leads: &watch::Sender<bool>) {
        let mut beat = every(BEAT);
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => return,
                _ = beat.tick() => {}
            }
            let held = self.beat().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the lease could not be renewed");
                false
            });
            leads.send_if_modified(|led| std::mem::replace(led, held) != held);
        }
    }

    async fn sweep_while(self: &Arc<Self>, mut leads: watch::Receiver<bool>) {
        let mut look = every(self.settings.look_every);
        let mut clear = every(self.settings.clear_every);
        let mut bundles = Instant::now();
        loop {
            let is_sweeper = *leads.borrow_and_update();
            tokio::select! {
                () = self.cancel.cancelled() => return,
                // Whoever did it before is gone, and may have left something behind.
                Ok(()) = leads.changed() => {
                    look.reset_immediately();
                    clear.reset_immediately();
                }
                _ = look.tick(), if is_sweeper => self.look_around().await.warn(),
                // A pod was lost: its session is seen to at once.
                () = self.claims.any_lost(), if is_sweeper => self.look_around().await.warn(),
                _ = clear.tick() => {
                    if let Err(error) = self.forget_claims().await {
                        tracing::debug!(%error, "claims that nobody has are remembered a while longer");
                    }
                    if is_sweeper {
                        self.clear_up().await.warn();
                    }
                    if is_sweeper && bundles.elapsed() > BUNDLES {
                        bundles = Instant::now();
                        self.clear_bundles().await;
                    }
                }
            }
        }
    }

    /// Everything once, for who asks for it.
    pub(crate) async fn sweep(self: &Arc<Self>) -> Swept {
        let cleared = self.clear_up().await;
        let mut swept = self.look_around().await;
        swept.errors.splice(..0, cleared.errors);
        swept
    }

    /// Renews this gateway's own lease and the sweeper's. Says whether it is the sweeper.
    pub(crate) async fn beat(&self) -> Result<bool, LedgerError> {
        let own = format!("alive/{}", self.me);
        self.ledger.hold(&own, &self.me, LENGTH).await?;
        self.ledger.hold(SWEEPER, &self.me, LENGTH).await
    }
}

/// Ticks that are late make the next ones late, too.
fn every(time: Duration) -> Interval {
    let mut ticks = interval(time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
