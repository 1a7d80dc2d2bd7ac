//! How connections are encrypted, and what a client certificate says.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::RootCertStore;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificates::{CertificateError, Certificates};
use crate::access::User;

/// The TLS side of a server, whose certificate can be renewed while it runs.
#[derive(Clone)]
pub struct Tls {
    /// What connections are made with.
    pub(crate) config: Arc<ServerConfig>,
    shown: Arc<Shown>,
}

impl Tls {
    /// Shows the serving certificate, and takes client certificates of the same authority.
    pub fn new(certificates: &Certificates) -> Result<Tls, CertificateError> {
        let wrong = |error: &dyn std::fmt::Display| CertificateError::Tls(error.to_string());
        let mut roots = RootCertStore::empty();
        roots
            .add(certificates.authority.der()?)
            .map_err(|error| wrong(&error))?;
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(|error| wrong(&error))?;
        let shown = Arc::new(Shown(RwLock::new(certified(certificates)?)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&error))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Tls {
            config: Arc::new(config),
            shown,
        })
    }

    /// Shows renewed certificates to connections made from now on.
    pub fn renew(&self, certificates: &Certificates) -> Result<(), CertificateError> {
        let fresh = certified(certificates)?;
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.0
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

fn certified(certificates: &Certificates) -> Result<Arc<CertifiedKey>, CertificateError> {
    let key = any_supported_type(&certificates.serving.key_der()?)
        .map_err(|error| CertificateError::Tls(error.to_string()))?;
    Ok(Arc::new(CertifiedKey::new(
        vec![certificates.serving.der()?],
        key,
    )))
}

/// Who a verified client certificate belongs to: its common name is the user, its
/// organizations are the groups.
pub(crate) fn user_of(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups: Vec<String> = subject
        .iter_organization()
        .filter_map(|organization| Some(organization.as_str().ok()?.to_owned()))
        .collect();
    (!name.is_empty()).then(|| User::authenticated(name, groups))
}
