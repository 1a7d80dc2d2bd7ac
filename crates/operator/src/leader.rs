//! Several operators, one of whom leads: a Lease says who.
//!
//! The leader renews it every few seconds. Whoever finds it not renewed for its whole length, by
//! their own clock, takes it over: clocks of different machines are never compared. A leader that
//! could not renew in time stops before anybody else may start.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, Error,
    api::{ObjectMeta, PostParams},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a lease is good without being renewed.
const LENGTH: Duration = Duration::from_secs(15);
/// A leader that has not renewed for so long stops.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How often the lease is renewed, or looked at.
const BEAT: Duration = Duration::from_secs(2);

/// The lease as seen from one of those who would lead.
pub struct Election {
    api: Api<Lease>,
    lease: String,
    me: String,
    /// The lease's version, and when it was first seen with it.
    seen: Option<(String, Instant)>,
}

impl Election {
    /// One who calls itself `me`, and would hold this lease of a namespace.
    pub fn new(client: Client, namespace: &str, lease: &str, me: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            lease: lease.to_owned(),
            me: me.to_owned(),
            seen: None,
        }
    }

    /// Waits until this one leads; false if cancelled before.
    pub async fn win(&mut self, cancel: &CancellationToken) -> bool {
        loop {
            match self.hold().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "the lease cannot be read or written; trying again")
                }
            }
            tokio::select! {
                () = tokio::time::sleep(BEAT) => {}
                () = cancel.cancelled() => return false,
            }
        }
    }

    /// Keeps the lease. Comes back when cancelled, having let go of it, with true; or with false
    /// when it is lost.
    pub async fn keep(&mut self, cancel: &CancellationToken) -> bool {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(BEAT) => {}
                () = cancel.cancelled() => {
                    self.let_go().await;
                    return true;
                }
            }
            let left = GIVE_UP.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.hold()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) | Err(_) => return false,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease could not be renewed; trying again")
                }
            }
        }
    }

    /// Takes or renews the lease if it is mine, nobody's, or no longer renewed.
    async fn hold(&mut self) -> Result<bool, Error> {
        let Some(lease) = self.api.get_opt(&self.lease).await? else {
            let fresh = self.lease(None);
            return won(self.api.create(&PostParams::default(), &fresh).await);
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                let now = Instant::now();
                self.seen = Some((version, now));
                now
            }
        };
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref());
        let length = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_duration_seconds);
        let length = length.map_or(LENGTH, |seconds| {
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        });
        if !may_take(holder, &self.me, since.elapsed(), length) {
            return Ok(false);
        }
        let mine = self.lease(Some(&lease));
        won(self
            .api
            .replace(&self.lease, &PostParams::default(), &mine)
            .await)
    }

    /// Lets go of the lease, so that the next leader need not wait.
    async fn let_go(&self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.lease).await else {
            return;
        };
        let Some(spec) = lease.spec.as_mut() else {
            return;
        };
        if spec.holder_identity.as_deref() == Some(self.me.as_str()) {
            spec.holder_identity = Some(String::new());
            // If this fails the lease simply runs out.
            let _ = self
                .api
                .replace(&self.lease, &PostParams::default(), &lease)
                .await;
        }
    }

    fn lease(&self, old: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let spec = old.and_then(|old| old.spec.clone()).unwrap_or_default();
        let is_mine = spec.holder_identity.as_deref() == Some(self.me.as_str());
        let changes = spec.lease_transitions.unwrap_or(0);
        Lease {
            metadata: old.map_or_else(
                || ObjectMeta {
                    name: Some(self.lease.clone()),
                    ..ObjectMeta::default()
                },
                |old| old.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.me.clone()),
                lease_duration_seconds: i32::try_from(
                    SignedDuration::try_from(LENGTH).map_or(15, |d| d.as_secs()),
                )
                .ok(),
                acquire_time: if is_mine {
                    spec.acquire_time.clone()
                } else {
                    Some(now.clone())
                },
                lease_transitions: Some(if is_mine || old.is_none() {
                    changes
                } else {
                    changes + 1
                }),
                renew_time: Some(now),
                ..spec
            }),
        }
    }
}

/// Whether the lease may be taken, given who holds it and for how long it has been seen unchanged.
fn may_take(holder: Option<&str>, me: &str, unchanged: Duration, length: Duration) -> bool {
    match holder {
        None | Some("") => true,
        Some(holder) => holder == me || unchanged >= length,
    }
}

/// A conflict means that somebody else was faster.
fn won(written: Result<Lease, Error>) -> Result<bool, Error> {
    match written {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_only_from_nobody_or_from_the_silent() {
        let seconds = Duration::from_secs;
        for (holder, unchanged, taken) in [
            (None, 0, true),
            (Some(""), 0, true),
            (Some("me"), 0, true),
            (Some("other"), 14, false),
            (Some("other"), 15, true),
        ] {
            assert_eq!(
                may_take(holder, "me", seconds(unchanged), LENGTH),
                taken,
                "{holder:?} {unchanged}"
            );
        }
    }
}
