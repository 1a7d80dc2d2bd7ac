//! The key that agents know their operator by, kept in a Secret where nobody brings one.
//!
//! The Secret is made once, by whichever of several operators comes first, and is immutable, so
//! that all of them and all that come later prove themselves with the same key.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use sandlot_access::PrivateKey;
use sandlot_decide::backoff::Backoff;
use tokio_util::sync::CancellationToken;

use crate::{Proof, Settings};

/// The Secret, in the operator's namespace.
const SECRET: &str = "arl-operator-key";
/// The key's name in it.
const FIELD: &str = "key";
/// Waits between attempts.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(10),
};

/// Why there is no key yet.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error("secret {SECRET} in namespace {namespace} cannot be read or made: {error}")]
    Api {
        namespace: String,
        error: Box<kube::Error>,
    },
    #[error(
        "secret {SECRET} in namespace {0} holds no key under {FIELD:?}; delete it to have a new one made"
    )]
    Unreadable(String),
    #[error("a key cannot be made: {0}")]
    Make(#[from] std::io::Error),
}

/// The key that the settings ask for, `None` inside where agents serve anybody. Waits as long
/// as the Secret cannot be had: without a key no pod is made, and none is open to everybody.
/// Nothing when stopped meanwhile.
pub(crate) async fn of(
    client: &Client,
    settings: &Settings,
    stop: &CancellationToken,
) -> Option<Option<PrivateKey>> {
    match &settings.agent.proof {
        Proof::Key(key) => return Some(Some(key.clone())),
        Proof::Nothing => {
            tracing::warn!("agents serve anybody who reaches them, as asked");
            return Some(None);
        }
        Proof::Secret => {}
    }
    let mut failures = 0;
    loop {
        match kept(client, &settings.identity.namespace).await {
            Ok(key) => return Some(Some(key)),
            Err(error) => tracing::error!(%error, "no key to call agents with; trying again"),
        }
        failures += 1;
        tokio::select! {
            () = tokio::time::sleep(RETRY.after(failures)) => {}
            () = stop.cancelled() => return None,
        }
    }
}

/// The key of the Secret, or a new one in it.
async fn kept(client: &Client, namespace: &str) -> Result<PrivateKey, KeyError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let failed = |error| KeyError::Api {
        namespace: namespace.to_owned(),
        error: Box::new(error),
    };
    let read =
        |secret: &Secret| read(secret).ok_or_else(|| KeyError::Unreadable(namespace.to_owned()));
    if let Some(found) = api.get_opt(SECRET).await.map_err(failed)? {
        return read(&found);
    }
    let key = PrivateKey::generate()?;
    match api.create(&PostParams::default(), &secret(&key)).await {
        Ok(_) => {
            tracing::info!(
                secret = SECRET,
                namespace,
                "made the key that agents will know"
            );
            Ok(key)
        }
        // Another operator was faster: its key is everybody's.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            read(&api.get(SECRET).await.map_err(failed)?)
        }
        Err(error) => Err(failed(error)),
    }
}

fn secret(key: &PrivateKey) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([(
            FIELD.to_owned(),
            ByteString(key.reveal().into_bytes()),
        )])),
        ..Secret::default()
    }
}

fn read(secret: &Secret) -> Option<PrivateKey> {
    let bytes = &secret.data.as_ref()?.get(FIELD)?.0;
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_secret_holds_is_the_key_and_nothing_else_is() {
        let key = PrivateKey::generate().unwrap();
        let mut kept = secret(&key);
        assert_eq!(read(&kept).map(|key| key.reveal()), Some(key.reveal()));
        kept.data = Some(BTreeMap::from([(
            FIELD.to_owned(),
            ByteString(b"no key".to_vec()),
        )]));
        assert!(read(&kept).is_none());
        assert!(read(&Secret::default()).is_none());
    }
}
