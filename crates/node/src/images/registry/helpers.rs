//! The logins of whoever runs Sandlot: docker's configuration and the programs it names.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::credentials::{Credentials, DockerConfig, Keyring};
use crate::images::reference::Reference;

/// A helper that asks its user something would hold up every pull.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: u64 = 1 << 20;

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// The folder with docker's configuration.
pub(crate) fn usual_folder() -> Option<PathBuf> {
    std::env::var_os("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".docker")))
}

/// Adds the user's own logins for an image. What cannot be read is logged, and left out:
/// the image may be public.
pub(crate) async fn add_users(keyring: &mut Keyring, folder: &Path, image: &Reference) {
    let file = folder.join("config.json");
    let Ok(text) = tokio::fs::read(&file).await else {
        return;
    };
    let config: DockerConfig = match serde_json::from_slice(&text) {
        Ok(config) => config,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "docker's configuration is not readable");
            return;
        }
    };
    let registry = image.registry();
    // Docker asks its helpers for its own registry by this address.
    let place = if registry == "docker.io" {
        "https://index.docker.io/v1/"
    } else {
        registry
    };
    let helper = config
        .helpers
        .get(registry)
        .or_else(|| config.helpers.get(place));
    let helper = helper.cloned().unwrap_or_else(|| config.store.clone());
    if !helper.is_empty() {
        match ask(&helper, place).await {
            Ok(Some(credentials)) => keyring.put(registry, credentials),
            Ok(None) => {}
            Err(error) => tracing::warn!(helper, registry, %error, "a credential helper failed"),
        }
    }
    keyring.add(config.auths);
}

/// Asks `docker-credential-HELPER` for a login.
async fn ask(helper: &str, place: &str) -> std::io::Result<Option<Credentials>> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !helper.bytes().all(plain) {
        return Err(std::io::Error::other("its name is not a program's name"));
    }
    let mut child = tokio::process::Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Dropped at the deadline, it ends.
        .kill_on_drop(true)
        .spawn()?;
    let conversation = async {
        if let Some(mut stdin) = child.stdin.take() {
            // One that answers without reading is fine.
            let _ = stdin.write_all(place.as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
        }
        Ok::<_, std::io::Error>((answer, child.wait().await?))
    };
    let (answer, status) = tokio::time::timeout(PATIENCE, conversation)
        .await
        .map_err(|_| {
            std::io::Error::new(std::io::ErrorKind::TimedOut, "it did not answer in 10 s")
        })??;
    if !status.success() {
        let words = String::from_utf8_lossy(&answer).trim().to_ascii_lowercase();
        return if words.contains("not found") {
            Ok(None)
        } else {
            Err(std::io::Error::other(
                words.chars().take(200).collect::<String>(),
            ))
        };
    }
    let answer: Answer = serde_json::from_slice(&answer)?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credentials::Identity(answer.secret),
        _ => Credentials::Password {
            user: answer.username,
            password: answer.secret,
        },
    }))
}
