//! The webhook's certificates: made, shared through a Secret, and renewed in time.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::Webhook;

/// The Secret that operators share.
const SECRET: &str = "arl-operator-webhook";
/// The key in it under which the end of validity stands, in whole seconds.
const ENDS: &str = "ends";

/// Why there are no good certificates.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepError {
    #[error("the API: {0}")]
    Api(#[from] kube::Error),
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("secret {SECRET}: {0}; delete it to have new ones made")]
    Read(String),
}

/// A certificate with its key and the authority that vouches for it, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Papers {
    pub(super) authority: String,
    certificate: String,
    key: String,
    ends: i64,
}

/// What the server shows now.
#[derive(Debug, Default)]
pub(super) struct Served(RwLock<Option<Arc<CertifiedKey>>>);

impl Served {
    pub(super) fn use_these(&self, papers: &Papers) -> Result<(), KeepError> {
        let bad = |error: &dyn std::fmt::Display| KeepError::Read(error.to_string());
        let certificate = CertificateDer::from_pem_slice(papers.certificate.as_bytes())
            .map_err(|error| bad(&error))?;
        let key =
            PrivateKeyDer::from_pem_slice(papers.key.as_bytes()).map_err(|error| bad(&error))?;
        let key = any_supported_type(&key).map_err(|error| bad(&error))?;
        let fresh = Arc::new(CertifiedKey::new(vec![certificate], key));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        Ok(())
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The certificates of the Secret, good or not.
pub(super) async fn stored(
    client: &Client,
    webhook: &Webhook,
) -> Result<Option<Papers>, KeepError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &webhook.namespace);
    Ok(api.get_opt(SECRET).await?.as_ref().and_then(read))
}

/// The certificates of the Secret, or new ones in it.
pub(super) async fn obtain(
    client: &Client,
    webhook: &Webhook,
    now: Timestamp,
) -> Result<Papers, KeepError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &webhook.namespace);
    let stored = api.get_opt(SECRET).await?;
    if let Some(papers) = stored.as_ref().and_then(read)
        && papers.ends - now.as_second() > webhook.spare().as_secs().cast_signed()
    {
        return Ok(papers);
    }
    let old = stored.as_ref().and_then(read);
    let papers = make(webhook, now, old.as_ref())?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            resource_version: stored
                .as_ref()
                .and_then(|secret| secret.metadata.resource_version.clone()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(write(&papers)),
        ..Secret::default()
    };
    let params = PostParams::default();
    let written = match stored {
        Some(_) => api.replace(SECRET, &params, &secret).await,
        None => api.create(&params, &secret).await,
    };
    match written {
        Ok(_) => Ok(papers),
        // Another operator was faster: its certificates are as good.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let theirs = api.get(SECRET).await?;
            read(&theirs).ok_or_else(|| KeepError::Read("it does not hold certificates".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// New papers. The authority before them is trusted for as long as theirs are: another operator may
/// still show what it vouched for.
fn make(webhook: &Webhook, now: Timestamp, old: Option<&Papers>) -> Result<Papers, KeepError> {
    let time = |at: Timestamp| std::time::SystemTime::from(at).into();
    let ends = now.checked_add(webhook.lifetime).unwrap_or(Timestamp::MAX);
    let begins = now
        .checked_sub(SignedDuration::from_hours(1))
        .unwrap_or(now);

    let mut authority = CertificateParams::default();
    authority
        .distinguished_name
        .push(DnType::CommonName, "Sandlot webhook authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (authority.not_before, authority.not_after) = (time(begins), time(ends));
    let authority_key = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let (service, namespace) = (&webhook.service, &webhook.namespace);
    let names = ["", ".cluster.local"].map(|domain| format!("{service}.{namespace}.svc{domain}"));
    let mut own = CertificateParams::new(names.to_vec())?;
    own.distinguished_name
        .push(DnType::CommonName, names[0].clone());
    own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (own.not_before, own.not_after) = (time(begins), time(ends));
    let key = KeyPair::generate()?;
    let certificate = own.signed_by(&key, &issuer)?;
    let before = old.map_or("", |old| newest(&old.authority));
    Ok(Papers {
        authority: authority_certificate.pem() + before,
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        ends: ends.as_second(),
    })
}

/// The first of several certificates, which is the newest.
fn newest(authorities: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----";
    authorities
        .find(END)
        .map_or("", |end| &authorities[..end + END.len()])
}

fn write(papers: &Papers) -> BTreeMap<String, ByteString> {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    BTreeMap::from([
        ("ca.crt".to_owned(), bytes(&papers.authority)),
        ("tls.crt".to_owned(), bytes(&papers.certificate)),
        ("tls.key".to_owned(), bytes(&papers.key)),
        (ENDS.to_owned(), bytes(&papers.ends.to_string())),
    ])
}

fn read(secret: &Secret) -> Option<Papers> {
    let data = secret.data.as_ref()?;
    let text = |name: &str| String::from_utf8(data.get(name)?.0.clone()).ok();
    Some(Papers {
        authority: text("ca.crt")?,
        certificate: text("tls.crt")?,
        key: text("tls.key")?,
        ends: text(ENDS)?.parse().ok()?,
    })
}
