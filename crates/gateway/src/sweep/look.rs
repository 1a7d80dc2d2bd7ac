//! Looking after what should be there: sessions that lost their pod, or the gateway that was to
//! bring them one, and executions whose gateway is gone.

use std::{collections::BTreeSet, sync::Arc};

use sandlot_decide::session::{Facts, SessionStatus, Verdict, judge};

use super::Swept;
use crate::{
    claims::Standing,
    gateway::Gateway,
    ledger::{InstallStatus, LedgerError, Session},
    moment::now,
    open::{OpenError, first_claim},
};

impl Gateway {
    /// Looks at all sessions and executions once.
    pub(super) async fn look_around(self: &Arc<Self>) -> Swept {
        let mut swept = Swept::default();
        let looked = self.look_at_sessions(&mut swept).await;
        swept.note(looked);
        swept.note(self.look_at_executions().await);
        tracing::debug!(checked = swept.checked, "sessions were looked at");
        swept
    }

    async fn look_at_sessions(self: &Arc<Self>, swept: &mut Swept) -> Result<(), LedgerError> {
        let alive = self.ledger.holders().await?;
        for status in [SessionStatus::Creating, SessionStatus::Running] {
            for session in self.ledger.sessions_with(status).await? {
                swept.checked += 1;
                let done = self.look_after(&session, &alive, swept).await;
                swept.note(done.map_err(|error| format!("session {}: {error}", session.id)));
            }
        }
        Ok(())
    }

    /// What one session needs.
    async fn look_after(
        self: &Arc<Self>,
        session: &Session,
        alive: &BTreeSet<String>,
        swept: &mut Swept,
    ) -> Result<(), OpenError> {
        let facts = Facts {
            status: session.status,
            created: session.created,
            active: session.active,
            busy: false,
        };
        if judge(&facts, &self.settings.limits, now()) == Verdict::Stuck {
            let why = "no pod became ready in time";
            self.end_session(&session.id, SessionStatus::Failed, why)
                .await?;
            swept.failed += 1;
            return Ok(self.claims.release(&session.facts.claim).await?);
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
    async fn look_at_executions(self: &Arc<Self>) -> Result<(), LedgerError> {
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
}
