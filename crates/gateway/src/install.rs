//! Packages come into a session's pod: from a bundle that was kept of an earlier session, or
//! else from the index, and then a bundle is kept for the next.
//!
//! A bundle is shared between sessions of the same owner alone: who owns a session can change
//! what is installed in it, and so what others would be given.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::SignedDuration;
use sandlot_api::executor::{Ended, RunRequest};
use sandlot_decide::session::SessionStatus;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{
    dependencies::plain_host,
    executors::Executor,
    gateway::Gateway,
    ledger::{InstallStatus, Installed, LedgerError, Session},
    moment::now,
    open::OpenError,
    output::Output,
    wire::PACKAGES,
};

/// How much of the installer's complaint is kept.
const COMPLAINT: usize = 8 << 10;
/// How much of a line about its progress.
const LINE: usize = 200;
/// How often its progress is noted.
const TELL: Duration = Duration::from_secs(1);
/// A bundle is given out for so long: then the index is asked again what is new.
const FRESH: SignedDuration = SignedDuration::from_hours(24);
/// The largest bundle that is kept.
const LARGEST: u64 = 1 << 30;
/// Where a bundle is in a pod, while it comes or goes; hidden, so that it is no artifact.
const BUNDLE: &str = ".sandlot-packages.tar";
/// Installs from the index.
const INSTALL: &str = r#"python3 -m pip install --disable-pip-version-check --no-input --no-warn-script-location \
  --no-cache-dir --progress-bar off --upgrade --target "$SANDBOX_PACKAGES" --index-url "$SANDBOX_INDEX" \
  ${SANDBOX_TRUSTED:+--trusted-host "$SANDBOX_TRUSTED"} "$@" >&2"#;
/// Says what is there.
const LIST: &str =
    r#"python3 -m pip list --disable-pip-version-check --path "$SANDBOX_PACKAGES" --format=json"#;
/// Makes a bundle of what is there.
const PACK: &str = r#"cd "$SANDBOX_PACKAGES" && ls -A | tar -cf "/workspace/$SANDBOX_BUNDLE" -T -"#;
/// Takes one apart, in the place of what was there. The folder itself is not ours to touch.
const UNPACK: &str = r#"cd "$SANDBOX_PACKAGES" && find . -mindepth 1 -delete &&
tar -xf "/workspace/$SANDBOX_BUNDLE""#;
/// Removes it.
const FORGET: &str = r#"rm -f "/workspace/$SANDBOX_BUNDLE""#;

/// Why packages are not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InstallError {
    /// The session's agent cannot be asked, or nothing came of it in time.
    #[error("{0}")]
    Unanswered(String),
    /// The installer says no.
    #[error("{0}")]
    Refused(String),
}

/// How an installation went.
pub(crate) struct Installation {
    /// The session as it is then.
    pub(crate) session: Session,
    pub(crate) outcome: Result<(), InstallError>,
}

impl Gateway {
    /// Installs what a session asks for, and notes how that went.
    pub(crate) async fn install(
        self: &Arc<Self>,
        session: &Session,
    ) -> Result<Installation, OpenError> {
        let outcome = self.bring_packages(session).await;
        let changed = self.ledger.change_session(&session.id, |session| {
            let facts = &mut session.facts;
            facts.install_completed = Some(now());
            facts.install_progress.clear();
            match &outcome {
                Ok(installed) => {
                    facts.installed.clone_from(installed);
                    facts.install = InstallStatus::Completed;
                    facts.install_error.clear();
                }
                Err(why) => {
                    facts.install = InstallStatus::Failed;
                    facts.install_error = why.to_string();
                }
            }
            true
        });
        match changed.await? {
            Some((session, _)) => Ok(Installation {
                session,
                outcome: outcome.map(drop),
            }),
            None => Err(LedgerError::Unreadable(format!(
                "session {} was deleted while its packages were installed",
                session.id
            ))
            .into()),
        }
    }

    async fn bring_packages(&self, session: &Session) -> Result<Vec<Installed>, InstallError> {
        let unanswered = |why: String| InstallError::Unanswered(why);
        if session.status != SessionStatus::Running {
            return Err(unanswered(format!("session {} is not running", session.id)));
        }
        let facts = &session.facts;
        let patience = self.settings.limits.creating;
        let executor = self
            .executors
            .of(&self.claims, &facts.claim, patience)
            .await
            .map_err(|error| unanswered(format!("session {}: {error}", session.id)))?;
        let image = match self.ledger.template(&session.template).await {
            Ok(Some(template)) => template.facts.image,
            _ => String::new(),
        };
        let bundle = bundle_name(session, &image);
        if self.unpack(session, &executor, &bundle).await {
            self.tell(session, "found among the packages of an earlier session")
                .await;
        } else {
            let install = script(session, INSTALL);
            self.run_installer(session, &executor, &install).await?;
            self.pack(session, &executor, &bundle).await;
        }
        let list = self.run_installer(session, &executor, LIST).await?;
        installed(&list).map_err(InstallError::Refused)
    }

    /// Brings a bundle into the pod. Says whether there was one and it is there.
    async fn unpack(&self, session: &Session, executor: &Executor, bundle: &str) -> bool {
        let found = match now().checked_sub(FRESH) {
            Ok(since) => self.files.bundle(bundle, since).await,
            Err(_) => Ok(None),
        };
        let content = match found {
            Ok(Some(content)) => content,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(%error, session = session.id, "a bundle of packages cannot be read");
                return false;
            }
        };
        let written = executor.write(BUNDLE, content).await;
        let unpacked = match written {
            Ok(_) => self
                .run_installer(session, executor, UNPACK)
                .await
                .map(drop),
            Err(status) => Err(InstallError::Unanswered(status.message().to_owned())),
        };
        self.forget_bundle(session, executor).await;
        if let Err(why) = &unpacked {
            tracing::warn!(
                %why,
                session = session.id,
                "a bundle of packages is of no use"
            );
        }
        unpacked.is_ok()
    }

    /// Keeps a bundle of what was installed. Where that fails, the next session asks the index.
    async fn pack(&self, session: &Session, executor: &Executor, bundle: &str) {
        let packed = async {
            let made = self.run_installer(session, executor, PACK).await;
            made.map_err(|why| why.to_string())?;
            let content = executor.read(BUNDLE).await;
            let content = content.map_err(|status| status.message().to_owned())?;
            let kept = self.files.keep_bundle(bundle, content, LARGEST).await;
            kept.map_err(|error| error.to_string())
        };
        if let Err(why) = packed.await {
            tracing::warn!(
                why,
                session = session.id,
                "its packages are not kept for others"
            );
        }
        self.forget_bundle(session, executor).await;
    }

    async fn forget_bundle(&self, session: &Session, executor: &Executor) {
        if let Err(why) = self.run_installer(session, executor, FORGET).await {
            tracing::warn!(
                %why,
                session = session.id,
                "a bundle of packages is left in its workspace"
            );
        }
    }

    /// Notes how far the installer is.
    async fn tell(&self, session: &Session, line: &str) {
        let line: String = line
            .chars()
            .filter(|c| !c.is_control())
            .take(LINE)
            .collect();
        let noted = self.ledger.change_session(&session.id, |session| {
            session.facts.install_progress.clone_from(&line);
            session.facts.install == InstallStatus::Installing
        });
        if let Err(error) = noted.await {
            tracing::debug!(%error, session = session.id, "how far its packages are is not noted");
        }
    }

    /// Runs a script of ours in the pod; what it printed.
    async fn run_installer(
        &self,
        session: &Session,
        executor: &Executor,
        script: &str,
    ) -> Result<String, InstallError> {
        let facts = &session.facts;
        let mut env: BTreeMap<String, String> = facts.env.clone();
        let more = [
            ("SANDBOX_PACKAGES", PACKAGES),
            ("SANDBOX_INDEX", &facts.index_url),
            (
                "SANDBOX_TRUSTED",
                plain_host(&facts.index_url).unwrap_or_default(),
            ),
            ("SANDBOX_BUNDLE", BUNDLE),
        ];
        env.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let request = RunRequest {
            key: format!("install-{}", uuid::Uuid::new_v4().simple()),
            language: "shell".to_owned(),
            code: script.to_owned(),
            timeout_millis: facts.install_timeout * 1000,
            env: env.into_iter().collect(),
            ..RunRequest::default()
        };
        let said = |status: tonic::Status| {
            let why = format!("session {}: {}", session.id, status.message());
            InstallError::Unanswered(why)
        };
        let mut events = executor
            .client()
            .run(request)
            .await
            .map_err(said)?
            .into_inner();
        let (mut stdout, mut stderr) = (Output::new(4 << 20), Output::new(COMPLAINT));
        let mut told = Instant::now();
        while let Some(event) = events.message().await.map_err(said)? {
            stdout.push(&event.stdout);
            stderr.push(&event.stderr);
            if let Some(ended) = event.ended {
                return outcome(&ended, &stdout, &stderr);
            }
            let text = String::from_utf8_lossy(&event.stderr);
            let line = text.lines().rfind(|line| !line.trim().is_empty());
            if let Some(line) = line.filter(|_| told.elapsed() >= TELL) {
                told = Instant::now();
                self.tell(session, line.trim()).await;
            }
        }
        let why = format!("the agent of session {} broke off", session.id);
        Err(InstallError::Unanswered(why))
    }
}

/// What a script printed, or why it failed: its own words where it has some.
fn outcome(ended: &Ended, stdout: &Output, stderr: &Output) -> Result<String, InstallError> {
    if ended.exit_code == 0 {
        return Ok(stdout.text());
    }
    let text = stderr.text();
    let errors: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("ERROR"))
        .collect();
    let why = match errors.is_empty() {
        true => format!("{}: {}", ended.reason, text.trim()),
        false => errors.join("\n"),
    };
    Err(match ended.timed_out || ended.lost {
        true => InstallError::Unanswered(why),
        false => InstallError::Refused(why),
    })
}

/// The script with the packages that are wanted as its arguments. Their names and versions have
/// been checked: none is an option or holds a blank or a quote.
fn script(session: &Session, script: &str) -> String {
    let wanted: Vec<_> = session
        .facts
        .requested
        .iter()
        .map(|wanted| format!("'{}{}'", wanted.name, wanted.version))
        .collect();
    format!("set -- {}\n{script}", wanted.join(" "))
}

/// The name of the bundle with just these packages, from this index, for pods of this image.
fn bundle_name(session: &Session, image: &str) -> String {
    let facts = &session.facts;
    let mut wanted: Vec<_> = facts
        .requested
        .iter()
        .map(|wanted| format!("{}{}", wanted.name.to_ascii_lowercase(), wanted.version))
        .collect();
    wanted.sort();
    let mut sum = Sha256::new();
    for part in [
        &session.owner,
        image,
        &facts.runtime,
        &facts.index_url,
        &wanted.join(" "),
    ] {
        sum.update(part.as_bytes());
        // So that no two lists of parts are the same text.
        sum.update([0]);
    }
    let sum: String = sum
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{sum}.tar")
}

/// What the installer says is there.
fn installed(list: &str) -> Result<Vec<Installed>, String> {
    let list: Vec<BTreeMap<String, String>> = serde_json::from_str(list.trim())
        .map_err(|error| format!("the list of packages cannot be read: {error}"))?;
    let field = |item: &BTreeMap<String, String>, name| item.get(name).cloned().unwrap_or_default();
    Ok(list
        .iter()
        .map(|item| Installed {
            name: field(item, "name"),
            version: field(item, "version"),
            location: PACKAGES.to_owned(),
            at: now(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Requirement, SessionFacts};

    fn session(owner: &str, wanted: &[(&str, &str)]) -> Session {
        let requested = wanted.iter().map(|(name, version)| Requirement {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
        });
        let facts = SessionFacts {
            requested: requested.collect(),
            ..SessionFacts::default()
        };
        Session::new("s".to_owned(), "t".to_owned(), owner.to_owned(), facts)
    }

    #[test]
    fn a_bundle_is_shared_by_who_wants_the_same_and_owns_both() {
        let name = |owner: &str, wanted: &[(&str, &str)]| bundle_name(&session(owner, wanted), "i");
        let ours = name("ann", &[("six", "==1"), ("Attrs", "")]);
        assert_eq!(ours, name("ann", &[("attrs", ""), ("six", "==1")]));
        assert_ne!(ours, name("bob", &[("six", "==1"), ("attrs", "")]));
        assert_ne!(ours, name("ann", &[("six", "==2"), ("attrs", "")]));
    }

    #[test]
    fn packages_are_arguments_of_the_script() {
        let wanted = session("ann", &[("six", "==1.16.0"), ("attrs", "")]);
        assert_eq!(script(&wanted, "go"), "set -- 'six==1.16.0' 'attrs'\ngo");
    }

    #[test]
    fn the_installers_own_errors_are_told() {
        let ended = Ended {
            exit_code: 1,
            reason: "ended with exit code 1".to_owned(),
            ..Ended::default()
        };
        let (none, mut stderr) = (Output::new(100), Output::new(1000));
        stderr.push(b"Looking in indexes: x\nERROR: No matching distribution found for nosuch\n");
        let why = "ERROR: No matching distribution found for nosuch".to_owned();
        let refused = outcome(&ended, &none, &stderr).unwrap_err();
        assert_eq!(refused, InstallError::Refused(why.clone()));
        let late = Ended {
            timed_out: true,
            ..ended
        };
        let unanswered = outcome(&late, &none, &stderr).unwrap_err();
        assert_eq!(unanswered, InstallError::Unanswered(why));
    }
}
