//! The key that service-account tokens are signed with, and the signing.
//!
//! Tokens are JSON Web Tokens with one algorithm only, ES256: what a token says of its own
//! algorithm is compared with that, never followed.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::server::CertificateError;
use crate::server::secret_file;

/// No token of ours is nearly as long.
const LONGEST: usize = 16 * 1024;
const ALGORITHM: &str = "ES256";

/// The key that service-account tokens are signed with.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    /// The uncompressed point: 4, x, y.
    public: Vec<u8>,
    id: String,
}

impl SigningKey {
    /// Reads the key from a file, or makes it there.
    pub fn open(path: &Path) -> Result<SigningKey, CertificateError> {
        let file = |source| CertificateError::File {
            path: path.to_owned(),
            source,
        };
        let damaged = |reason: String| CertificateError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let pair = match fs::read_to_string(path) {
            Ok(pem) => KeyPair::from_pem(&pem).map_err(|error| damaged(error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                secret_file::write(path, pair.serialize_pem().as_bytes()).map_err(file)?;
                pair
            }
            Err(source) => return Err(file(source)),
        };
        SigningKey::of(&pair).map_err(damaged)
    }

    /// A key that lasts as long as the process.
    pub fn ephemeral() -> Result<SigningKey, CertificateError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        SigningKey::of(&pair).map_err(CertificateError::Tls)
    }

    fn of(pair: &KeyPair) -> Result<SigningKey, String> {
        let random = SystemRandom::new();
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info()));
        let public = pair.public_key_raw().to_vec();
        let pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            pair.serialized_der(),
            &random,
        )
        .map_err(|error| format!("not a P-256 key: {error}"))?;
        Ok(SigningKey {
            pair,
            random,
            public,
            id,
        })
    }

    /// A token that says this.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<String, String> {
        let header = json!({"alg": ALGORITHM, "kid": self.id});
        let claims = serde_json::to_vec(claims).map_err(|error| error.to_string())?;
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = self
            .pair
            .sign(&self.random, signed.as_bytes())
            .map_err(|error| error.to_string())?;
        Ok(format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(signature.as_ref())
        ))
    }

    /// What a token says, if it carries this key's signature.
    pub(crate) fn verify<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        if token.len() > LONGEST {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Value = serde_json::from_slice(&decode(header)?).ok()?;
        if header["alg"] != ALGORITHM || header["kid"] != self.id.as_str() {
            return None;
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.public)
            .verify(signed.as_bytes(), &decode(signature)?)
            .ok()?;
        serde_json::from_slice(&decode(claims)?).ok()
    }

    /// The public key, as `/openid/v1/jwks` shows it.
    pub fn jwks(&self) -> Value {
        // An uncompressed P-256 point is one byte of form and two coordinates of 32.
        let (x, y) = self
            .public
            .get(1..)
            .unwrap_or_default()
            .split_at_checked(32)
            .unwrap_or_default();
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": ALGORITHM, "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }
}
