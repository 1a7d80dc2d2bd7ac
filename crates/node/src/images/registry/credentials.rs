//! Who we are to a registry: the forms in which logins are kept, and which one is meant.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde::Deserialize;

use crate::images::reference::Reference;

/// A login.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A name and a password, or a token in the password's place.
    Password { user: String, password: String },
    /// A token that is exchanged for others.
    Identity(String),
    /// A token that registries take as it is.
    Bearer(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets do not belong in logs.
        f.write_str(match self {
            Credentials::Password { .. } => "Password(…)",
            Credentials::Identity(_) => "Identity(…)",
            Credentials::Bearer(_) => "Bearer(…)",
        })
    }
}

/// Logins by the registry (and perhaps folder in it) they are for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keyring {
    entries: Vec<(Place, Credentials)>,
}

/// Where a login is for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: String,
    path: String,
}

/// One login as the files have it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

/// `config.json` of the docker command, as far as it concerns logins.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct DockerConfig {
    #[serde(default)]
    pub(crate) auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credsStore")]
    pub(crate) store: String,
    #[serde(default, rename = "credHelpers")]
    pub(crate) helpers: BTreeMap<String, String>,
}

impl Entry {
    /// The login, if the entry holds one.
    fn credentials(&self) -> Option<Credentials> {
        if !self.registrytoken.is_empty() {
            return Some(Credentials::Bearer(self.registrytoken.clone()));
        }
        if !self.identitytoken.is_empty() {
            return Some(Credentials::Identity(self.identitytoken.clone()));
        }
        if !self.username.is_empty() {
            return Some(Credentials::Password {
                user: self.username.clone(),
                password: self.password.clone(),
            });
        }
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(self.auth.trim())
            .ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        // Some tools end the password with a zero byte.
        let (user, password) = decoded.trim_end_matches('\0').split_once(':')?;
        Some(Credentials::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}

impl Keyring {
    /// Adds what `config.json` and secrets of type `kubernetes.io/dockerconfigjson` hold.
    pub(crate) fn add_config(&mut self, json: &[u8]) -> Result<(), serde_json::Error> {
        let config: DockerConfig = serde_json::from_slice(json)?;
        self.add(config.auths);
        Ok(())
    }

    /// Adds what the older `.dockercfg` and secrets of type `kubernetes.io/dockercfg` hold.
    pub(crate) fn add_legacy(&mut self, json: &[u8]) -> Result<(), serde_json::Error> {
        self.add(serde_json::from_slice(json)?);
        Ok(())
    }

    /// Adds logins by their registries.
    pub(crate) fn add(&mut self, auths: BTreeMap<String, Entry>) {
        for (place, entry) in auths {
            if let Some(credentials) = entry.credentials() {
                self.put(&place, credentials);
            }
        }
    }

    /// Adds one login.
    pub(crate) fn put(&mut self, place: &str, credentials: Credentials) {
        self.entries.push((Place::read(place), credentials));
    }

    /// The logins to try for an image: the most specific first.
    pub(crate) fn for_image(&self, image: &Reference) -> Vec<Credentials> {
        let mut fitting: Vec<&(Place, Credentials)> = self
            .entries
            .iter()
            .filter(|(place, _)| place.covers(image))
            .collect();
        fitting.sort_by_key(|(place, _)| std::cmp::Reverse(place.path.len()));
        let mut found: Vec<Credentials> = Vec::new();
        for (_, credentials) in fitting {
            if !found.contains(credentials) {
                found.push(credentials.clone());
            }
        }
        found
    }
}

impl Place {
    fn read(text: &str) -> Place {
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
        // Docker's own registry is named by the address of its first version.
        let (host, path) = match (host, path.trim_matches('/')) {
            ("index.docker.io" | "registry-1.docker.io" | "docker.io", path) => ("docker.io", path),
            other => other,
        };
        let path = if matches!(path, "v1" | "v2") {
            ""
        } else {
            path
        };
        Place {
            host: host.to_ascii_lowercase(),
            path: path.to_owned(),
        }
    }

    fn covers(&self, image: &Reference) -> bool {
        let below = image
            .repository()
            .strip_prefix(self.path.as_str())
            .is_some_and(|rest| self.path.is_empty() || rest.is_empty() || rest.starts_with('/'));
        below && host_covers(&self.host, &image.registry().to_ascii_lowercase())
    }
}

/// `*` stands for one label or a part of one, as Kubernetes has it.
fn host_covers(pattern: &str, host: &str) -> bool {
    let split = |text: &str| {
        let (name, port) = text.split_once(':').unwrap_or((text, ""));
        (
            name.split('.').map(str::to_owned).collect::<Vec<_>>(),
            port.to_owned(),
        )
    };
    let ((pattern, pattern_port), (host, host_port)) = (split(pattern), split(host));
    let label = |(pattern, label): (&String, &String)| match pattern.split_once('*') {
        None => pattern == label,
        Some((before, after)) => {
            label.len() >= before.len() + after.len()
                && label.starts_with(before)
                && label.ends_with(after)
        }
    };
    pattern_port == host_port && pattern.len() == host.len() && pattern.iter().zip(&host).all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(keyring: &Keyring, image: &str) -> Option<String> {
        match keyring.for_image(&image.parse().unwrap()).first()? {
            Credentials::Password { user, .. } => Some(user.clone()),
            Credentials::Identity(token) | Credentials::Bearer(token) => Some(token.clone()),
        }
    }

    #[test]
    fn the_most_specific_login_is_meant() {
        let auth =
            |user: &str| base64::engine::general_purpose::STANDARD.encode(format!("{user}:p"));
        let config = serde_json::json!({"auths": {
            "https://index.docker.io/v1/": {"auth": auth("hub")},
            "r.example": {"auth": auth("all")},
            "r.example/team": {"username": "team", "password": "p"},
            "*.cloud.example:5000": {"auth": auth("any")},
            "token.example": {"identitytoken": "id"},
            "broken.example": {"auth": "!"},
        }});
        let mut keyring = Keyring::default();
        keyring.add_config(config.to_string().as_bytes()).unwrap();
        for (image, expected) in [
            ("nginx", Some("hub")),
            ("r.example/x", Some("all")),
            ("r.example/team/x", Some("team")),
            ("r.example/teams/x", Some("all")),
            ("eu.cloud.example:5000/x", Some("any")),
            ("a.b.cloud.example:5000/x", None),
            ("eu.cloud.example/x", None),
            ("token.example/x", Some("id")),
            ("broken.example/x", None),
            ("other.example/x", None),
        ] {
            assert_eq!(user(&keyring, image).as_deref(), expected, "{image}");
        }
    }

    #[test]
    fn the_older_form_is_read_too() {
        let mut keyring = Keyring::default();
        keyring
            .add_legacy(br#"{"r.example":{"username":"u","password":"p","email":"x"}}"#)
            .unwrap();
        assert_eq!(user(&keyring, "r.example/a").as_deref(), Some("u"));
        assert!(!format!("{keyring:?}").contains("\"p\""));
    }
}
