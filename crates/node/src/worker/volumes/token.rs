//! Tokens by which a pod's service account is known, renewed before they expire.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::{Api, PostParams};

use crate::node::Shared;

/// The tokens in a pod's volumes.
#[derive(Default)]
pub(in crate::worker) struct Tokens {
    /// By volume and path.
    issued: Mutex<BTreeMap<(String, String), Issued>>,
}

struct Issued {
    token: String,
    renew_at: Timestamp,
}

impl Tokens {
    /// When the first of them is to be renewed.
    pub(in crate::worker) fn renew_at(&self) -> Option<Timestamp> {
        self.issued().values().map(|issued| issued.renew_at).min()
    }

    /// The token for a path in a volume: the one from before while it is young enough.
    pub(super) async fn get(
        &self,
        shared: &Shared,
        pod: &Pod,
        volume: &str,
        wanted: &ServiceAccountTokenProjection,
    ) -> Result<String, String> {
        let place = (volume.to_owned(), wanted.path.clone());
        let now = Timestamp::now();
        if let Some(known) = self
            .issued()
            .get(&place)
            .filter(|known| now < known.renew_at)
        {
            return Ok(known.token.clone());
        }
        let issued = issue(shared, pod, wanted, now).await?;
        let token = issued.token.clone();
        self.issued().insert(place, issued);
        Ok(token)
    }

    fn issued(&self) -> MutexGuard<'_, BTreeMap<(String, String), Issued>> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn issue(
    shared: &Shared,
    pod: &Pod,
    wanted: &ServiceAccountTokenProjection,
    now: Timestamp,
) -> Result<Issued, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.as_deref())
        .filter(|name| !name.is_empty())
        .unwrap_or("default");
    let api: Api<ServiceAccount> = Api::namespaced(shared.client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: wanted.audience.iter().cloned().collect(),
            expiration_seconds: wanted.expiration_seconds,
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        },
        ..TokenRequest::default()
    };
    let params = PostParams::default();
    let made = api.create_token_request(account, &params, &request).await;
    let made = made.map_err(|error| format!("no token for service account {account}: {error}"))?;
    let status = made.status.ok_or("the API issued no token")?;
    Ok(Issued {
        token: status.token,
        renew_at: renewal(now, status.expiration_timestamp.0, shared.longest_token_use),
    })
}

/// When four fifths of its life are over, as the kubelet does it.
fn renewal(issued: Timestamp, expires: Timestamp, longest: SignedDuration) -> Timestamp {
    let life = expires.duration_since(issued);
    let used = (life / 5 * 4).min(longest);
    issued + used.max(SignedDuration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_well_before_it_expires_and_once_a_day_at_least() {
        let now = Timestamp::UNIX_EPOCH;
        let after = |seconds| {
            let expires = now + SignedDuration::from_secs(seconds);
            renewal(now, expires, SignedDuration::from_hours(24))
                .duration_since(now)
                .as_secs()
        };
        assert_eq!(after(600), 480);
        assert_eq!(after(3605), 2884);
        assert_eq!(after(365 * 24 * 3600), 24 * 3600);
        assert_eq!(after(-5), 1);
    }
}
