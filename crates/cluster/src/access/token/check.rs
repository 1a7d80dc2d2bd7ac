//! Whether a token is good, and whose it is.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Tokens;
use super::claims::{AnyClaims, Claims, LEGACY_ISSUER, LegacyClaims, Reference};
use crate::access::User;

/// Clocks differ a little.
const LEEWAY: i64 = 10;
/// A deleted object's tokens work a little longer, so that a pod can finish in peace.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// A good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whose it is.
    pub user: User,
    /// For which of the audiences asked about it is good.
    pub audiences: Vec<String>,
}

impl Tokens {
    /// The audience that the API itself is.
    pub fn own_audience(&self) -> Vec<String> {
        vec![self.issuer.clone()]
    }

    /// Whose token this is, if it is good for one of these audiences.
    ///
    /// The service account must still exist, and so must whatever the token is bound to.
    pub fn check(&self, token: &str, audiences: &[String], now: Timestamp) -> Option<Checked> {
        match self.key.verify(token)? {
            AnyClaims::Asked(claims) => self.check_asked(&claims, audiences, now),
            AnyClaims::Legacy(claims) => self.check_legacy(token, &claims, audiences, now),
        }
    }

    fn check_asked(
        &self,
        claims: &Claims,
        audiences: &[String],
        now: Timestamp,
    ) -> Option<Checked> {
        let seconds = now.as_second();
        if claims.issuer != self.issuer
            || seconds >= claims.expires.saturating_add(LEEWAY)
            || seconds < claims.not_before.saturating_sub(LEEWAY)
        {
            return None;
        }
        let good: Vec<String> = audiences
            .iter()
            .filter(|one| claims.audiences.contains(one))
            .cloned()
            .collect();
        if good.is_empty() {
            return None;
        }
        let cluster = &claims.cluster;
        let account = &cluster.service_account;
        self.lives("serviceaccounts", &cluster.namespace, account, now)?;
        let mut user = User::service_account(&cluster.namespace, &account.name, &account.uid);
        let mut extra = |key: &str, value: String| {
            user.extra
                .insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        };
        extra("credential-id", format!("JTI={}", claims.id));
        if let Some(secret) = &cluster.secret {
            self.lives("secrets", &cluster.namespace, secret, now)?;
        }
        if let Some(pod) = &cluster.pod {
            self.lives("pods", &cluster.namespace, pod, now)?;
            extra("pod-name", pod.name.clone());
            extra("pod-uid", pod.uid.clone());
        }
        if let Some(node) = &cluster.node {
            // With a pod the node is only told; alone it is what the token is bound to.
            if cluster.pod.is_none() {
                self.lives("nodes", "", node, now)?;
            }
            extra("node-name", node.name.clone());
            extra("node-uid", node.uid.clone());
        }
        Some(Checked {
            user,
            audiences: good,
        })
    }

    fn check_legacy(
        &self,
        token: &str,
        claims: &LegacyClaims,
        audiences: &[String],
        now: Timestamp,
    ) -> Option<Checked> {
        let good: Vec<String> = audiences
            .iter()
            .filter(|one| **one == self.issuer)
            .cloned()
            .collect();
        if claims.issuer != LEGACY_ISSUER || good.is_empty() {
            return None;
        }
        let (uid, _) = self.uid("serviceaccounts", &claims.namespace, &claims.name)?;
        let (_, secret) = self.uid("secrets", &claims.namespace, &claims.secret)?;
        let kept = super::secret::token_in(&secret)?;
        let lives = uid == claims.uid && !is_gone(&secret, now) && kept == token.as_bytes();
        lives.then(|| Checked {
            user: User::service_account(&claims.namespace, &claims.name, &claims.uid),
            audiences: good,
        })
    }

    /// Whether the very object that a token names is still there.
    fn lives(&self, kind: &str, namespace: &str, wanted: &Reference, now: Timestamp) -> Option<()> {
        let (uid, object) = self.uid(kind, namespace, &wanted.name)?;
        (uid == wanted.uid && !is_gone(&object, now)).then_some(())
    }
}

/// Whether an object has been on its way out for longer than the grace.
fn is_gone(object: &Value, now: Timestamp) -> bool {
    let deletion = object["metadata"]["deletionTimestamp"].as_str();
    let deletion = deletion.and_then(|time| time.parse::<Timestamp>().ok());
    deletion.is_some_and(|deletion| deletion + GRACE < now)
}
