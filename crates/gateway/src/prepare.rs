//! What a new deployment needs once: passwords that nobody thought up, and the first token.
//!
//! All is kept in two Secrets. What is there is left alone, and whoever comes second takes what
//! the first one made, so that this can be run again, by several at once, and after it broke off
//! anywhere.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use sandlot_access::PrivateKey;

use crate::{access::hash_of, error::GatewayError};

/// What the control plane and what it works with know each other by.
pub const CREDENTIALS: &str = "sandbox-credentials";
/// The token of whoever sets it up: to be read once, and deleted.
pub const FIRST_TOKEN: &str = "sandbox-first-token";
/// The name that the first token's sessions are kept under.
const FIRST_NAME: &str = "admin";
/// The token's name in its Secret.
const FIELD: &str = "token";

/// What there was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// The Secrets were made.
    Made,
    /// They had been made before.
    AlreadyThere,
}

/// Makes the Secrets in a namespace, as far as they are not there.
pub async fn prepare(client: Client, namespace: &str) -> Result<Prepared, GatewayError> {
    let secrets = Secrets {
        api: Api::namespaced(client, namespace),
        namespace,
    };
    if secrets.find(CREDENTIALS).await?.is_some() {
        return Ok(Prepared::AlreadyThere);
    }
    // First the token, then what holds its hash: broken off in between, the token waits.
    let token = secrets.token().await?;
    let made = secrets.make(CREDENTIALS, credentials(&token)?).await?;
    Ok(match made {
        true => Prepared::Made,
        false => Prepared::AlreadyThere,
    })
}

struct Secrets<'a> {
    api: Api<Secret>,
    namespace: &'a str,
}

impl Secrets<'_> {
    fn failed(&self, name: &str, why: impl std::fmt::Display) -> GatewayError {
        let namespace = self.namespace;
        GatewayError::new(format!(
            "secret {name} in namespace {namespace} cannot be read or made: {why}"
        ))
    }

    async fn find(&self, name: &str) -> Result<Option<Secret>, GatewayError> {
        let found = self.api.get_opt(name).await;
        found.map_err(|error| self.failed(name, error))
    }

    /// Whether it was made: somebody else may have been faster.
    async fn make(&self, name: &str, fields: BTreeMap<&str, String>) -> Result<bool, GatewayError> {
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            immutable: Some(true),
            type_: Some("Opaque".to_owned()),
            string_data: Some(
                fields
                    .into_iter()
                    .map(|(field, value)| (field.to_owned(), value))
                    .collect(),
            ),
            ..Secret::default()
        };
        match self.api.create(&PostParams::default(), &secret).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    /// The first token, made if it is not there.
    async fn token(&self) -> Result<String, GatewayError> {
        if let Some(found) = self.find(FIRST_TOKEN).await? {
            return self.read(&found);
        }
        let token = random()?;
        let fields = BTreeMap::from([(FIELD, token.clone())]);
        if self.make(FIRST_TOKEN, fields).await? {
            return Ok(token);
        }
        let found = self.find(FIRST_TOKEN).await?;
        let found = found.ok_or_else(|| self.failed(FIRST_TOKEN, "it comes and goes"))?;
        self.read(&found)
    }

    fn read(&self, secret: &Secret) -> Result<String, GatewayError> {
        let field = secret.data.as_ref().and_then(|data| data.get(FIELD));
        field
            .and_then(|ByteString(bytes)| String::from_utf8(bytes.clone()).ok())
            .filter(|token| !token.trim().is_empty())
            .ok_or_else(|| {
                self.failed(
                    FIRST_TOKEN,
                    format!("it holds nothing under {FIELD:?}; delete it to have a new one made"),
                )
            })
    }
}

/// What the manifests name, each by the variable that the control plane reads it from.
fn credentials(token: &str) -> Result<BTreeMap<&'static str, String>, GatewayError> {
    Ok(BTreeMap::from([
        ("DB_PASSWORD", random()?),
        // Of the length that stores' own keys have.
        ("S3_ACCESS_KEY_ID", random()?.chars().take(20).collect()),
        ("S3_SECRET_ACCESS_KEY", random()?),
        ("SANDLOT_OPERATOR_KEY", key()?.reveal()),
        (
            "SANDLOT_GATEWAY_TOKENS",
            format!("{FIRST_NAME}:admin:{}", hash_of(token)),
        ),
    ]))
}

fn key() -> Result<PrivateKey, GatewayError> {
    PrivateKey::generate()
        .map_err(|error| GatewayError::new(format!("a key cannot be made: {error}")))
}

/// 256 bits that nobody can guess, in letters and digits.
fn random() -> Result<String, GatewayError> {
    let mut bytes = [0; 32];
    let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    filled.map_err(|_| GatewayError::new("the system has no random numbers to give"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Token;

    #[test]
    fn everything_is_different_each_time_and_of_the_token_only_the_hash_is_kept() {
        let (one, two) = (credentials("a").unwrap(), credentials("b").unwrap());
        for (name, value) in &one {
            assert_ne!(value, &two[name], "{name}");
        }
        assert_eq!(one["S3_ACCESS_KEY_ID"].len(), 20);
        assert!(one["SANDLOT_GATEWAY_TOKENS"].ends_with(&hash_of("a")));
        assert_eq!(
            Token::list(&one["SANDLOT_GATEWAY_TOKENS"]).unwrap().len(),
            1
        );
        assert!(one["SANDLOT_OPERATOR_KEY"].parse::<PrivateKey>().is_ok());
    }
}
