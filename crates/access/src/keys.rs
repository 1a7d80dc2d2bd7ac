//! Ed25519 keys as text: what variables, annotations and Secrets hold.

use std::{
    fmt, fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path, str::FromStr,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair},
};

/// What stands before the 32 bytes in a PKCS #8 document for an Ed25519 key.
const PRIVATE_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// What stands before the 32 bytes in a SubjectPublicKeyInfo for an Ed25519 key.
const PUBLIC_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A private key. It shows itself to nobody by accident.
#[derive(Clone)]
pub struct PrivateKey([u8; 32]);

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// Text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key: wanted the base64 of 32 bytes")]
pub struct BadKey;

impl PrivateKey {
    /// A new one that nobody has had before.
    pub fn generate() -> std::io::Result<Self> {
        let mut seed = [0; 32];
        let filled = SystemRandom::new().fill(&mut seed);
        filled.map_err(|_| std::io::Error::other("the system gave no random bytes"))?;
        Ok(Self(seed))
    }

    /// The key kept in this file, made and put there the first time. Only its owner may read it.
    pub fn kept_at(path: &Path) -> std::io::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => text.parse().map_err(|error| {
                let message = format!(
                    "{}: {error}; remove the file to have a new key made",
                    path.display()
                );
                std::io::Error::new(std::io::ErrorKind::InvalidData, message)
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Self::generate()?.keep_at(path)
            }
            Err(error) => Err(error),
        }
    }

    fn keep_at(self, path: &Path) -> std::io::Result<Self> {
        let unfinished = path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(self.reveal().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        Ok(self)
    }

    /// The key others know its holder by.
    pub fn public(&self) -> Result<PublicKey, BadKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&self.0).map_err(|_| BadKey)?;
        pair.public_key()
            .as_ref()
            .try_into()
            .map(PublicKey)
            .map_err(|_| BadKey)
    }

    /// The key as text, for a place that keeps secrets.
    pub fn reveal(&self) -> String {
        STANDARD.encode(self.0)
    }

    pub(crate) fn pkcs8(&self) -> Vec<u8> {
        [&PRIVATE_PREFIX[..], &self.0].concat()
    }
}

impl PublicKey {
    /// Several keys in one text, separated by commas.
    pub fn list(text: &str) -> Result<Vec<Self>, BadKey> {
        text.split(',')
            .map(str::trim)
            .filter(|key| !key.is_empty())
            .map(str::parse)
            .collect()
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        [&PUBLIC_PREFIX[..], &self.0].concat()
    }
}

impl FromStr for PrivateKey {
    type Err = BadKey;
    fn from_str(text: &str) -> Result<Self, BadKey> {
        bytes(text).map(Self)
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;
    fn from_str(text: &str) -> Result<Self, BadKey> {
        bytes(text).map(Self)
    }
}

fn bytes(text: &str) -> Result<[u8; 32], BadKey> {
    STANDARD
        .decode(text.trim())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(BadKey)
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_key_is_the_same_each_time_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operator.key");
        let first = PrivateKey::kept_at(&path).unwrap();
        assert_eq!(PrivateKey::kept_at(&path).unwrap().reveal(), first.reveal());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "torn").unwrap();
        assert!(
            PrivateKey::kept_at(&path)
                .unwrap_err()
                .to_string()
                .contains("remove the file")
        );
    }

    #[test]
    fn keys_survive_as_text_and_hide_in_logs() {
        let key = PrivateKey::generate().unwrap();
        let again: PrivateKey = key.reveal().parse().unwrap();
        assert_eq!(key.public(), again.public());
        let public = key.public().unwrap();
        assert_eq!(
            PublicKey::list(&format!("{public}, {public},")),
            Ok(vec![public, public])
        );
        assert!(!format!("{key:?}").contains(&key.reveal()));
        assert_eq!("short".parse::<PublicKey>(), Err(BadKey));
    }
}
