//! Sweeps: what nobody else would notice. One gateway of several does it, by a lease.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use sandlot_decide::session::{Facts, SessionStatus, Verdict, judge};
use serde::Serialize;

use crate::{
    claims::Standing,
    gateway::Gateway,
    ledger::{LedgerError, Session},
    life::{OpenError, first_claim},
    moment::now,
};

/// The lease of the gateway that sweeps.
const SWEEPER: &str = "sweeper";
/// How long a lease is good without being renewed.
const LENGTH: Duration = Duration::from_secs(15);
/// How often leases are renewed.
const BEAT: Duration = Duration::from_secs(4);

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
                _ = sweep.tick() => {}
                // A pod was lost: its session is seen to at once.
                () = self.claims.any_lost() => {}
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
        if let Err(error) = self.sweep_claims().await {
            swept.errors.push(error.to_string());
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
        match session.status {
            SessionStatus::Running if is_lost => {
                swept.unhealthy += 1;
                self.recover(session).await?;
                swept.recovered += 1;
            }
            // Whoever was to open it is gone.
            SessionStatus::Creating if !alive.contains(&session.facts.gateway) => {
                self.recover(session).await?;
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
            true
        });
        let Some((session, true)) = changed.await? else {
            return Ok(());
        };
        tracing::info!(
            session = session.id,
            "its pod was lost; it is given another"
        );
        let why = format!("session {} lost its pod", session.id);
        self.crash_all(&session.id, &why).await?;
        self.executors.forget(&old);
        self.claims.release(&old).await?;
        let gateway = self.clone();
        self.tasks
            .spawn(async move { gateway.open_session(session).await });
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

    /// Claims that no session has, or whose session is over, are given back.
    async fn sweep_claims(&self) -> Result<(), OpenError> {
        let claims = self.claims.all().await?;
        if claims.is_empty() {
            return Ok(());
        }
        let mut wanted = BTreeMap::new();
        for status in [SessionStatus::Creating, SessionStatus::Running] {
            for session in self.ledger.sessions_with(status).await? {
                wanted.insert(session.facts.claim, session.id);
            }
        }
        for (claim, session) in claims {
            if !wanted.contains_key(&claim) {
                tracing::info!(claim, session, "a pod that no session has is given back");
                self.claims.release(&claim).await?;
            }
        }
        Ok(())
    }
}
