//! Clearing away what nobody needs any more: sessions whose time is over, pods and pools that no
//! session has, packages that nobody would be given.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use sandlot_decide::session::{Facts, SessionStatus, Verdict, judge};

use super::Swept;
use crate::{claims::Claim, gateway::Gateway, ledger::LedgerError, moment::now, open::OpenError};

/// A claim that no session has may be about to be noted for so long.
const UNNOTED: SignedDuration = SignedDuration::from_secs(60);
/// How long packages are kept for sessions to come.
const KEPT: SignedDuration = SignedDuration::from_hours(48);

impl Gateway {
    /// Clears away what there is to clear now.
    pub(super) async fn clear_up(&self) -> Swept {
        let mut swept = Swept::default();
        let ended = self.end_old_sessions(&mut swept).await;
        swept.note(ended);
        swept.note(self.clear_claims().await);
        swept.note(self.clear_pools().await);
        swept
    }

    /// Ends the sessions whose time is over.
    async fn end_old_sessions(&self, swept: &mut Swept) -> Result<(), LedgerError> {
        let limits = &self.settings.limits;
        if limits.idle.is_none() && limits.lifetime.is_none() {
            return Ok(());
        }
        let going = self.ledger.under_way().await?;
        let busy: BTreeSet<String> = going.into_iter().map(|one| one.session).collect();
        for session in self.ledger.sessions_with(SessionStatus::Running).await? {
            let facts = Facts {
                status: session.status,
                created: session.created,
                active: session.active,
                busy: busy.contains(&session.id),
            };
            let why = match judge(&facts, limits, now()) {
                Verdict::Idle => "it was not used for too long",
                Verdict::Old => "it has lived as long as sessions may",
                Verdict::Stays | Verdict::Stuck => continue,
            };
            let ended = self.terminate(&session, why).await;
            swept.note(ended.map_err(|error| format!("session {}: {error}", session.id)));
        }
        Ok(())
    }

    /// Packages that were kept for sessions to come go when nobody would be given them any more.
    pub(super) async fn clear_bundles(&self) {
        let Ok(since) = now().checked_sub(KEPT) else {
            return;
        };
        if let Err(error) = self.files.forget_bundles(since).await {
            tracing::warn!(%error, "old packages could not be removed from the store");
        }
    }

    /// Each gateway hears of all claims; those of sessions that are over are of no use to it.
    pub(super) async fn forget_claims(&self) -> Result<(), LedgerError> {
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

    /// Claims that no session has, or whose session is over, are given back; but a session's
    /// first claim may be made before it is noted.
    async fn clear_claims(&self) -> Result<(), OpenError> {
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
    async fn clear_pools(&self) -> Result<(), OpenError> {
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
