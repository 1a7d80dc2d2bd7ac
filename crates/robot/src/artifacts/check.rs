//! Whether an artifact is what it should be.

use std::{fs::File, io::Read, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use memmap2::Mmap;
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use super::FetchError;

/// How much of a file is hashed at once.
const PIECE: usize = 64 << 10;

/// It is not what it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    /// Its checksum is another.
    #[error("its SHA-256 is {found}, and should be {wanted}")]
    Checksum {
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// The key did not sign it.
    #[error("its signature is not of the given public key")]
    Signature,
}

/// What an artifact is checked for.
#[derive(Default)]
pub(crate) struct Checks {
    sha256: Option<String>,
    /// The public key and what it signed the file with.
    signature: Option<(Vec<u8>, Vec<u8>)>,
}

impl Checks {
    /// Reads an artifact's options.
    pub(crate) fn read<'a>(option: &impl Fn(&str) -> Option<&'a str>) -> Result<Self, FetchError> {
        let mut checks = Self::default();
        if let Some(text) = option("checksum") {
            let wrong = || {
                FetchError::Option(
                    "checksum",
                    format!("{text:?} is not sha256: and 64 hexadecimal digits"),
                )
            };
            let hex = text.strip_prefix("sha256:").ok_or_else(wrong)?;
            if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            checks.sha256 = Some(hex.to_ascii_lowercase());
        }
        let bytes = |name: &'static str, text: &str| {
            STANDARD
                .decode(text)
                .map_err(|error| FetchError::Option(name, error.to_string()))
        };
        match (option("signature"), option("publicKey")) {
            (None, None) => {}
            (Some(signature), Some(key)) => {
                checks.signature = Some((bytes("publicKey", key)?, bytes("signature", signature)?));
            }
            _ => {
                let why = "signature and publicKey belong together".to_owned();
                return Err(FetchError::Option("signature", why));
            }
        }
        Ok(checks)
    }

    /// Looks at a file that nobody changes meanwhile.
    pub(crate) fn verify(&self, file: &Path) -> Result<(), FetchError> {
        if let Some(wanted) = &self.sha256 {
            let mut hasher = Sha256::new();
            let mut file = File::open(file)?;
            let mut piece = vec![0; PIECE];
            loop {
                match file.read(&mut piece)? {
                    0 => break,
                    read => hasher.update(&piece[..read]),
                }
            }
            let found: String = hasher
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            if found != *wanted {
                return Err(Mismatch::Checksum {
                    found,
                    wanted: wanted.clone(),
                }
                .into());
            }
        }
        if let Some((key, signature)) = &self.signature {
            let file = File::open(file)?;
            // SAFETY: the file is the agent's own partial download, which only the agent's one
            // fetch of this artifact writes, and that is over.
            let content = unsafe { Mmap::map(&file)? };
            UnparsedPublicKey::new(&ED25519, key)
                .verify(&content, signature)
                .map_err(|_| Mismatch::Signature)?;
        }
        Ok(())
    }
}
