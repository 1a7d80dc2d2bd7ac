//! The cluster's own certificate authority, and what it signs.
//!
//! Everything is made once and kept in a folder; a later start uses what is there, and
//! renews what is about to expire or no longer fits.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::secret_file;
use crate::access::{MASTERS, SigningKey};

const CA_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Certificates with less than this left are made anew.
const RENEWAL: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Certificates are valid from a little before now, for clients whose clock is behind.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// The names under which pods know the API.
const NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// Why the certificates cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A key or certificate on disk is not one.
    #[error("{path} is damaged: {reason}; delete it and the files beside it to start afresh")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate could not be signed.
    #[error("cannot sign a certificate: {0}")]
    Signing(#[from] rcgen::Error),
    /// TLS does not take what was made.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// A certificate and its private key, as PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// The private key is nobody's business.
impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl Pair {
    /// The certificate as TLS sends it.
    pub(crate) fn der(&self) -> Result<CertificateDer<'static>, CertificateError> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .map_err(|error| CertificateError::Tls(error.to_string()))
    }

    /// The key as TLS uses it.
    pub(crate) fn key_der(&self) -> Result<PrivateKeyDer<'static>, CertificateError> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| CertificateError::Tls(error.to_string()))
    }
}

/// Everything that proves who is who.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority; its certificate is what clients trust.
    pub authority: Pair,
    /// What the API shows to clients.
    pub serving: Pair,
    /// What the administrator shows to the API.
    pub admin: Pair,
}

impl Certificates {
    /// Reads the certificates in a folder, and makes those that are missing, about to
    /// expire, or do not name every address in `addresses`.
    pub fn open(
        folder: &Path,
        addresses: &[IpAddr],
        now: Timestamp,
    ) -> Result<Certificates, CertificateError> {
        let authority = Authority::open(folder, now)?;
        let serving = authority.leaf(folder, "apiserver", &serving(addresses), now)?;
        let admin = authority.leaf(folder, "admin", &admin(), now)?;
        Ok(Certificates {
            authority: authority.pair,
            serving,
            admin,
        })
    }
}

/// The certificate (PEM) that clients of the cluster trust; made if there is none.
pub(crate) fn authority(folder: &Path, now: Timestamp) -> Result<String, CertificateError> {
    Ok(Authority::open(folder, now)?.pair.certificate)
}

/// The key that service-account tokens are signed with; made if there is none.
pub(crate) fn signing_key(folder: &Path) -> Result<SigningKey, CertificateError> {
    private(folder)?;
    SigningKey::open(&folder.join("service-account.key"))
}

/// Makes a folder that nobody else may enter.
fn private(folder: &Path) -> Result<(), CertificateError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| CertificateError::File {
            path: folder.to_owned(),
            source,
        })
}

/// What a certificate says of its owner.
struct Subject {
    common_name: &'static str,
    organization: Option<&'static str>,
    usage: ExtendedKeyUsagePurpose,
    names: Vec<SanType>,
}

fn serving(addresses: &[IpAddr]) -> Subject {
    // The names are fixed and valid.
    let names = NAMES
        .iter()
        .filter_map(|name| Some(SanType::DnsName((*name).try_into().ok()?)));
    let mut all: Vec<SanType> = names.collect();
    let own = [
        IpAddr::from([127, 0, 0, 1]),
        IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
    ];
    for address in own.into_iter().chain(addresses.iter().copied()) {
        let name = SanType::IpAddress(address);
        if !address.is_unspecified() && !all.contains(&name) {
            all.push(name);
        }
    }
    Subject {
        common_name: "kube-apiserver",
        organization: None,
        usage: ExtendedKeyUsagePurpose::ServerAuth,
        names: all,
    }
}

fn admin() -> Subject {
    Subject {
        common_name: "kubernetes-admin",
        organization: Some(MASTERS),
        usage: ExtendedKeyUsagePurpose::ClientAuth,
        names: Vec::new(),
    }
}

struct Authority {
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn open(folder: &Path, now: Timestamp) -> Result<Authority, CertificateError> {
        private(folder)?;
        let pair = match read(folder, "ca")? {
            Some(pair) if days_left(&folder.join("ca.crt"), &pair, now)? => pair,
            _ => {
                let pair = sign_authority(now)?;
                write(folder, "ca", &pair)?;
                pair
            }
        };
        let damaged = |error: rcgen::Error| CertificateError::Damaged {
            path: folder.join("ca.key"),
            reason: error.to_string(),
        };
        let key = KeyPair::from_pem(&pair.key).map_err(damaged)?;
        let issuer = Issuer::from_ca_cert_pem(&pair.certificate, key).map_err(damaged)?;
        let certificate = pair.der()?;
        Ok(Authority {
            pair,
            issuer,
            certificate,
        })
    }

    /// The certificate of that name, made anew if there is none that still serves.
    fn leaf(
        &self,
        folder: &Path,
        name: &str,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Pair, CertificateError> {
        if let Some(pair) = read(folder, name)?
            && self.serves(&pair, subject, now)
        {
            return Ok(pair);
        }
        let pair = self.sign(subject, now)?;
        write(folder, name, &pair)?;
        Ok(pair)
    }

    /// Whether a certificate is ours, lasts, names everything, and has its key beside it.
    fn serves(&self, pair: &Pair, subject: &Subject, now: Timestamp) -> bool {
        let (Ok(der), Ok(key)) = (pair.der(), KeyPair::from_pem(&pair.key)) else {
            return false;
        };
        let parsed = (
            X509Certificate::from_der(&der),
            X509Certificate::from_der(&self.certificate),
        );
        let (Ok((_, leaf)), Ok((_, authority))) = parsed else {
            return false;
        };
        let named = leaf.subject_alternative_name().ok().flatten();
        let named = named
            .map(|names| names.value.general_names.as_slice())
            .unwrap_or_default();
        leaf.verify_signature(Some(authority.public_key())).is_ok()
            && leaf.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
            && leaf.validity().not_after.timestamp() > (now + RENEWAL).as_second()
            && subject
                .names
                .iter()
                .all(|wanted| named.iter().any(|name| is_same(name, wanted)))
    }

    fn sign(&self, subject: &Subject, now: Timestamp) -> Result<Pair, CertificateError> {
        let mut params = params(subject.common_name, now, LEAF_LIFE);
        if let Some(organization) = subject.organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        }
        params.subject_alt_names = subject.names.clone();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![subject.usage.clone()];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn sign_authority(now: Timestamp) -> Result<Pair, CertificateError> {
    // The date makes an authority made afresh differ from the one that clients knew.
    let mut params = params(&format!("kubernetes-ca@{}", now.as_second()), now, CA_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn params(common_name: &str, now: Timestamp, life: SignedDuration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at =
        |time: Timestamp| epoch + std::time::Duration::from_secs(time.as_second().unsigned_abs());
    params.not_before = at(now - SKEW);
    params.not_after = at(now + life);
    params
}

fn is_same(name: &GeneralName<'_>, wanted: &SanType) -> bool {
    match (name, wanted) {
        (GeneralName::DNSName(name), SanType::DnsName(wanted)) => *name == wanted.as_str(),
        (GeneralName::IPAddress(bytes), SanType::IpAddress(IpAddr::V4(wanted))) => {
            *bytes == wanted.octets()
        }
        (GeneralName::IPAddress(bytes), SanType::IpAddress(IpAddr::V6(wanted))) => {
            *bytes == wanted.octets()
        }
        _ => false,
    }
}

fn days_left(path: &Path, pair: &Pair, now: Timestamp) -> Result<bool, CertificateError> {
    let damaged = |reason: String| CertificateError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let der = pair.der().map_err(|error| damaged(error.to_string()))?;
    let (_, parsed) =
        X509Certificate::from_der(&der).map_err(|error| damaged(error.to_string()))?;
    Ok(parsed.validity().not_after.timestamp() > (now + RENEWAL).as_second())
}

fn read(folder: &Path, name: &str) -> Result<Option<Pair>, CertificateError> {
    let file = |extension: &str| {
        let path = folder.join(format!("{name}.{extension}"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CertificateError::File { path, source }),
        }
    };
    Ok(file("crt")?
        .zip(file("key")?)
        .map(|(certificate, key)| Pair { certificate, key }))
}

/// The key goes first: a certificate on disk always has its key, whenever a crash comes.
fn write(folder: &Path, name: &str, pair: &Pair) -> Result<(), CertificateError> {
    for (extension, contents) in [("key", &pair.key), ("crt", &pair.certificate)] {
        let path = folder.join(format!("{name}.{extension}"));
        secret_file::write(&path, contents.as_bytes())
            .map_err(|source| CertificateError::File { path, source })?;
    }
    Ok(())
}
