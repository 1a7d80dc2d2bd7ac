//! Service-account tokens: made, checked, reviewed.

mod check;
mod claims;
mod issue;
mod key;
mod review;
mod secret;

use std::sync::Arc;

use serde_json::{Value, json};

pub use check::Checked;
pub use key::SigningKey;
pub use secret::TokenSecrets;

use crate::lookup::Lookup;

/// The issuer of tokens, and the audience of those that ask for none.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Makes and checks service-account tokens.
pub struct Tokens {
    key: SigningKey,
    issuer: String,
    lookup: Arc<dyn Lookup>,
}

impl Tokens {
    /// Signs with this key and checks against these objects.
    pub fn new(key: SigningKey, lookup: Arc<dyn Lookup>) -> Self {
        Tokens {
            key,
            issuer: ISSUER.to_owned(),
            lookup,
        }
    }

    /// `/openid/v1/jwks`: the keys that verify our tokens.
    pub fn jwks(&self) -> Value {
        self.key.jwks()
    }

    /// `/.well-known/openid-configuration`: how others may verify our tokens.
    pub fn openid_configuration(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", self.issuer),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// The uid of an object that lives and matches the one wanted, if one is.
    fn uid(&self, kind: &str, namespace: &str, name: &str) -> Option<(String, Value)> {
        let object = self.lookup.get(kind, namespace, name)?;
        let uid = object["metadata"]["uid"].as_str()?.to_owned();
        Some((uid, object))
    }
}
