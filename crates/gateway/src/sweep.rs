//! Sweeps: what nobody else would notice. One gateway of several does it, by a lease.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use sandlot_decide::session::{Facts, SessionStatus, Verdict, judge};
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    claims::{Claim, Standing},
    gateway::Gateway,
    ledger::{InstallStatus, LedgerError, Session},
    life::{OpenError, first_claim},
    moment::now,
};

/// The lease of the gateway that sweeps.
const SWEEPER: &str = "sweeper";
/// How long a lease is good without being renewed.
const LENGTH: Duration = Duration::from_secs(15);
/// How often leases are renewed.
const BEAT: Duration = Duration::from_secs(4);
/// A claim that no session has may be about to be noted for so long.
const UNNOTED: SignedDuration = SignedDuration::from_secs(60);
/// How often old packages are looked for.
const BUNDLES: Duration = Duration::from_secs(3600);
/// How long packages are kept for sessions to come.
const KEPT: SignedDuration = SignedDuration::from_hours(48);

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

impl Gateway {
    /// Says that this gateway is alive, and sweeps when it is the one to, until cancelled.
    pub(crate) async fn sweep_on(self: &Arc<Self>) {
        let mut beat = tokio::time::interval(BEAT);
        let mut sweep = tokio::time::interval(self.settings.sweep_every);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut leads = false;
        let mut bundles = Instant::now();
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => break,
                _ = beat.tick() => {
                    leads = self.beat().await.unwrap_or_else(|error| {
                        tracing::warn!(%error, "the lease could not be renewed");
                        false
                    });
                    continue;
                }
                _ = sweep.tick() => {
                    if let Err(error) = self.forget_claims().await {
                        tracing::debug!(%error, "claims that nobody has are remembered a while longer");
                    }
                }
                // A pod was lost: its session is seen to at once.
                () = self.claims.any_lost() => {}
            }
            if leads && bundles.elapsed() > BUNDLES {
                bundles = Instant::now();
                self.sweep_bundles().await;
            }
            if leads {
                let swept = self.sweep().await;
                for error in swept.errors {
                    tracing::warn!(error, "a sweep left something undone");
                }
            }
        }
        if let Err(error) = self.ledger.let_go(&self.me).await {
            tracing::debug!(%error, "the leases run out by themselves");
        }
    }

    /// Packages that were kept for sessions to come go when nobody would be given them any more.
    async fn sweep_bundles(&self) {
        let Ok(since) = now().checked_sub(KEPT) else {
            return;
        };
        if let Err(error) = self.files.forget_bundles(since).await {
            tracing::warn!(%error, "old packages could not be removed from the store");
        }
    }

    /// Each gateway hears of all claims; those of sessions that are over are of no use to it.
    async fn forget_claims(&self) -> Result<(), LedgerError> {
        // In this order: what is heard of belongs to a session that was noted before, or one that
        // somebody waits for.
        let known = self.claims.known();
        let wanted = self.claimed().await?;
        let over = known.into_iter().filter(|name| !wanted.contains_key(name));
        self.claims.forget(over);
        Ok(())
    }

    /// The claims that sessions have, or are to have, with their sessions.
    async fn claimed(&self) -> Result<BTreeMap<String, String>, LedgerError> {
        let mut claimed = BTreeMap::new();
        for status in [SessionStatus::Creating, SessionStatus::Running] {
            for session in self.ledger.sessions_with(status).await? {
                claimed.insert(session.facts.claim, session.id);
            }
        }
        Ok(claimed)
    }

    /// Renews this gateway's own lease and the sweeper's. Says whether it is the sweeper.
    pub(crate) async fn beat(&self) -> Result<bool, LedgerError> {
        let own = format!("alive/{}", self.me);
        self.ledger.hold(&own, &self.me, LENGTH).await?;
        self.ledger.hold(SWEEPER, &self.me, LENGTH).await
    }

    /// Looks through all sessions, executions and claims once.
    pub(crate) async fn sweep(self: &Arc<Self>) -> Swept {
        let mut swept = Swept::default();
        if let Err(error) = self.sweep_sessions(&mut swept).await {
            swept.errors.push(error.to_string());
        }
        if let Err(error) = self.sweep_executions().await {
            swept.errors.push(error.to_string());
        }
        for done in [self.sweep_claims().await, self.sweep_pools().await] {
            if let Err(error) = done {
                swept.errors.push(error.to_string());
            }
        }
        swept
    }

    async fn sweep_sessions(self: &Arc<Self>, swept: &mut Swept) -> Result<(), LedgerError> {
        let busy: BTreeSet<String> = self
            .ledger
            .under_way()
            .await?
            .into_iter()
            .map(|execution| execution.session)
            .collect();
        let alive = self.ledger.holders().await?;
        for status in [SessionStatus::Creating, SessionStatus::Running] {
            for session in self.ledger.sessions_with(status).await? {
                swept.checked += 1;
                let done = self.look_after(&session, busy.contains(&session.id), &alive, swept);
                if let Err(error) = done.await {
                    swept
                        .errors
                        .push(format!("session {}: {error}", session.id));
                }
            }
        }
        Ok(())
    }

    /// What one session needs.
    async fn look_after(
        self: &Arc<Self>,
        session: &Session,
        busy: bool,
        alive: &BTreeSet<String>,
        swept: &mut Swept,
    ) -> Result<(), OpenError> {
        let facts = Facts {
            status: session.status,
            created: session.created,
            active: session.active,
            busy,
        };
        let why = match judge(&facts, &self.settings.limits, now()) {
            Verdict::Stays => None,
            Verdict::Idle => Some("it was not used for too long"),
            Verdict::Old => Some("it has lived as long as sessions may"),
            Verdict::Stuck => {
                self.end_session(
                    &session.id,
                    SessionStatus::Failed,
                    "no pod became ready in time",
                )
                .await?;
                swept.failed += 1;
                return Ok(self.claims.release(&session.facts.claim).await?);
            }
        };
        if let Some(why) = why {
            return self.terminate(session, why).await;
        }
        let is_lost = matches!(
            self.claims.standing(&session.facts.claim),
            Some(Standing::Lost(_))
        );
        let is_left = !alive.contains(&session.facts.gateway);
        match session.status {
            SessionStatus::Running if is_lost => {
                swept.unhealthy += 1;
                self.recover(session).await?;
                swept.recovered += 1;
            }
            // Whoever was to bring it a pod, its first or another, is gone.
            _ if is_left && session.facts.pod.is_empty() => {
                self.recover(session).await?;
                swept.recovered += 1;
            }
            // Whoever was installing its packages is gone.
            _ if is_left && session.facts.install == InstallStatus::Installing => {
                self.furnish_instead(session).await?;
                swept.recovered += 1;
            }
            _ => swept.healthy += 1,
        }
        Ok(())
    }

    /// Gives a session another pod, with its files; what ran in the old one is lost.
    async fn recover(self: &Arc<Self>, session: &Session) -> Result<(), OpenError> {
        let old = session.facts.claim.clone();
        let attempt = old.rsplit_once("-r").and_then(|(_, n)| n.parse().ok());
        let next = attempt.unwrap_or(0_u32) + 1;
        let claim = format!("{}-r{next}", first_claim(&session.id));
        let changed = self.ledger.change_session(&session.id, |session| {
            if !session.status.is_active() || session.facts.claim != old {
                return false;
            }
            session.facts.claim = claim.clone();
            session.facts.gateway = self.me.clone();
            // Who runs code in it sees by this that it waits for another pod.
            session.facts.pod.clear();
            if !session.facts.requested.is_empty() {
                session.facts.install = InstallStatus::Installing;
            }
            true
        });
        let Some((session, true)) = changed.await? else {
            return Ok(());
        };
        tracing::info!(
            session = session.id,
            "its pod was lost; it is given another"
        );
        self.executors.forget(&old);
        self.claims.release(&old).await?;
        let gateway = self.clone();
        self.tasks
            .spawn(async move { gateway.open_session(session).await });
        Ok(())
    }

    /// Installs a session's packages in the place of a gateway that is gone.
    async fn furnish_instead(self: &Arc<Self>, session: &Session) -> Result<(), LedgerError> {
        let gone = &session.facts.gateway;
        let changed = self.ledger.change_session(&session.id, |session| {
            let is_left = session.facts.gateway == *gone
                && session.facts.install == InstallStatus::Installing;
            if is_left {
                session.facts.gateway.clone_from(&self.me);
            }
            is_left
        });
        if let Some((session, true)) = changed.await? {
            let gateway = self.clone();
            self.tasks
                .spawn(async move { gateway.furnish(session).await });
        }
        Ok(())
    }

    /// Executions of gateways that are gone are taken over; those of sessions that are over end.
    async fn sweep_executions(self: &Arc<Self>) -> Result<(), LedgerError> {
        let open = self.ledger.under_way().await?;
        if open.is_empty() {
            return Ok(());
        }
        let alive = self.ledger.holders().await?;
        for left in open {
            if alive.contains(&left.gateway) {
                continue;
            }
            let adopting = self
                .ledger
                .adopt_execution(&left.id, &left.gateway, &self.me);
            if !adopting.await? {
                continue;
            }
            let Some(execution) = self.ledger.execution(&left.id).await? else {
                continue;
            };
            match self.ledger.session(&execution.session).await? {
                // It may have been started in a pod that is gone, and nobody can tell any more.
                Some(session) if session.facts.pod_since > Some(execution.created) => {
                    let why = format!("session {} lost the pod that it was to run in", session.id);
                    self.crash(execution, &why).await?;
                }
                Some(session) if session.status == SessionStatus::Running => {
                    self.take_over(execution, session);
                }
                _ => {
                    self.crash_all(&execution.session, "its session is over")
                        .await?
                }
            }
        }
        Ok(())
    }

    /// Claims that no session has, or whose session is over, are given back; but a session's
    /// first claim may be made before it is noted.
    async fn sweep_claims(&self) -> Result<(), OpenError> {
        let claims = self.claims.all().await?;
        if claims.is_empty() {
            return Ok(());
        }
        let wanted = self.claimed().await?;
        let young = now().checked_sub(UNNOTED).unwrap_or_default();
        for Claim {
            name,
            session,
            made,
        } in claims
        {
            if !wanted.contains_key(&name) && made < young {
                tracing::info!(
                    claim = name,
                    session,
                    "a pod that no session has is given back"
                );
                self.claims.release(&name).await?;
            }
        }
        Ok(())
    }

    /// Pools that were made for one session go once it has its pod, or is over.
    async fn sweep_pools(&self) -> Result<(), OpenError> {
        let own = self.pools.own().await?;
        if own.is_empty() {
            return Ok(());
        }
        let waiting: BTreeSet<String> = self
            .claimed()
            .await?
            .into_iter()
            .filter(|(claim, _)| !self.claims.is_ready(claim))
            .map(|(_, session)| session)
            .collect();
        for (pool, session) in own {
            if !waiting.contains(&session) {
                self.pools.remove(&pool).await?;
            }
        }
        Ok(())
    }
}
