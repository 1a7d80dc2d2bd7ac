//! Names of images, as people write them and as registries want them.

use std::fmt;
use std::str::FromStr;

/// The registry that is meant when none is named.
const USUAL_REGISTRY: &str = "docker.io";
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// What identifies bytes: their SHA-256.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest(String);

impl Digest {
    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Digest {
        use sha2::Digest as _;
        Digest::from_hash(&sha2::Sha256::digest(bytes))
    }

    /// From a finished hash.
    pub(crate) fn from_hash(hash: &[u8]) -> Digest {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(2 * hash.len());
        for byte in hash {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Digest(hex)
    }

    /// The digits alone, which are safe as a file's name.
    pub(crate) fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for Digest {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Digest, BadReference> {
        let hex = text.strip_prefix("sha256:").filter(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        hex.map(|hex| Digest(hex.to_owned()))
            .ok_or_else(|| BadReference::Digest(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for Digest {
    type Error = BadReference;

    fn try_from(text: String) -> Result<Digest, BadReference> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// Why a text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadReference {
    /// Not the form of a name.
    #[error("invalid reference format")]
    Format,
    /// Repositories are written in small letters.
    #[error("invalid reference format: repository name must be lowercase")]
    Uppercase,
    /// Longer than any registry takes.
    #[error(
        "invalid reference format: repository name must not be longer than {LONGEST_NAME} characters"
    )]
    TooLong,
    /// Not a SHA-256.
    #[error("unsupported digest {0:?}: only sha256 followed by 64 hexadecimal digits is known")]
    Digest(String),
}

/// An image's full name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry as names have it: a host, perhaps with a port.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    pub(crate) fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The tag is `latest`, or none is given, which means the same.
    pub(crate) fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref() == Some("latest")
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Reference, BadReference> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            // A colon before a slash belongs to the registry's port.
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(BadReference::Format);
        }
        let (registry, repository) = match path.split_once('/') {
            Some((first, more)) if is_registry(first) => (first, more.to_owned()),
            _ => (USUAL_REGISTRY, path.to_owned()),
        };
        let registry = match registry {
            "index.docker.io" | "registry-1.docker.io" => USUAL_REGISTRY,
            other => other,
        };
        let repository = if registry == USUAL_REGISTRY && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        if !is_host(registry) {
            return Err(BadReference::Format);
        }
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(BadReference::Uppercase);
        }
        if registry.len() + 1 + repository.len() > LONGEST_NAME {
            return Err(BadReference::TooLong);
        }
        if !repository.split('/').all(is_step) {
            return Err(BadReference::Format);
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Reference {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

/// The first part of a name is a registry if it looks like a host and not like a folder.
fn is_registry(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, port)) => {
            if inner.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (
                "v6",
                port.strip_prefix(':').or(port.is_empty().then_some("1")),
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("1")),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let port = port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    port && host.split('.').all(label)
}

/// Small letters and digits, with single separators (`.`, `_`, `__` or dashes) between.
fn is_step(step: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = step.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    ends.is_some_and(|(first, last)| fine(*first) && fine(*last))
        && bytes
            .iter()
            .all(|b| fine(*b) || matches!(b, b'.' | b'_' | b'-'))
        && !step.contains("..")
        && !step.contains("___")
        && !["._", "_.", ".-", "-.", "_-", "-_"]
            .iter()
            .any(|bad| step.contains(bad))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = tag.bytes();
    tag.len() <= LONGEST_TAG
        && bytes.next().is_some_and(word)
        && bytes.all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>()
            .map_or_else(|error| format!("error: {error}"), |found| found.to_string())
    }

    #[test]
    fn short_names_mean_what_they_mean_everywhere() {
        let digest = "a".repeat(64);
        for (short, long) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("me/app", "docker.io/me/app:latest"),
            ("index.docker.io/me/app:1", "docker.io/me/app:1"),
            ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
            ("localhost/x", "localhost/x:latest"),
            ("127.0.0.1:5000/x:y", "127.0.0.1:5000/x:y"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            ("a__b/c-d.e", "docker.io/a__b/c-d.e:latest"),
        ] {
            assert_eq!(full(short), long, "{short}");
        }
        assert_eq!(
            full(&format!("nginx@sha256:{digest}")),
            format!("docker.io/library/nginx@sha256:{digest}")
        );
        let both: Reference = format!("nginx:1@sha256:{digest}").parse().unwrap();
        assert_eq!(both.wanted(), format!("sha256:{digest}"));
        assert!(!both.is_latest());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            "/",
            "a//b",
            "-a",
            "a..b",
            "nginx:",
            "nginx:a b",
            "../../etc/passwd",
            "a@sha256:12",
            "http://x/y",
            "x:99999999/y",
            "a_-b",
            "a:b@c",
            "ö",
            "a\0b",
            "[zz]/x",
            "h.:5000/x",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?} was taken");
        }
        assert_eq!("Nginx".parse::<Reference>(), Err(BadReference::Uppercase));
        assert_eq!(
            "a".repeat(300).parse::<Reference>(),
            Err(BadReference::TooLong)
        );
    }

    proptest::proptest! {
        #[test]
        fn a_full_name_means_itself(text in "\\PC{0,60}") {
            if let Ok(found) = text.parse::<Reference>() {
                let again: Reference = found.to_string().parse().unwrap();
                proptest::prop_assert_eq!(found, again);
            }
        }

        #[test]
        fn reading_a_name_never_fails_otherwise_than_by_saying_so(text in "[a-zA-Z0-9./:@_-]{0,80}") {
            let _ = text.parse::<Reference>();
        }
    }
}
