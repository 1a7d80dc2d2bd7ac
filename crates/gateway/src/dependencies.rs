//! Packages: what is asked for, and bringing it into a session's pod.

use std::{collections::BTreeMap, sync::Arc};

use sandlot_api::executor::RunRequest;
use sandlot_decide::session::SessionStatus;
use serde_json::Value;

use crate::{
    check::Fields,
    gateway::Gateway,
    ledger::{InstallStatus, Installed, LedgerError, Requirement, Session},
    life::OpenError,
    moment::now,
    output::Output,
    wire::PACKAGES,
};

/// Where packages come from when nobody says.
pub(crate) const PLAIN_INDEX: &str = "https://pypi.org/simple/";
/// The most packages asked for at once.
const MOST: usize = 50;
/// What may stand between a package's name and its version.
const OPERATORS: [&str; 9] = ["==", ">=", "<=", "~=", "!=", ">", "<", "~", "="];
/// How much of the installer's complaint is kept.
const COMPLAINT: usize = 8 << 10;
/// Installs, then says what is there.
const SCRIPT: &str = r#"python3 -m pip install --quiet --disable-pip-version-check --no-input --no-warn-script-location --upgrade \
  --target "$SANDBOX_PACKAGES" --index-url "$SANDBOX_INDEX" "$@" >&2 &&
python3 -m pip list --disable-pip-version-check --path "$SANDBOX_PACKAGES" --format=json"#;

/// The index given, if one is.
pub(crate) fn index_url(fields: &mut Fields) -> Option<String> {
    let name = "python_package_index_url";
    let url = fields.text(name, 1..=512)?;
    let is_url = (url.starts_with("https://") || url.starts_with("http://"))
        && !url.contains(char::is_whitespace);
    if !is_url {
        fields.fault(
            name,
            "value_error",
            "Value error, give an http or https URL",
        );
        return None;
    }
    Some(url)
}

/// The packages asked for; whatever is wrong with them is noted.
pub(crate) fn wanted(fields: &mut Fields, least: usize) -> Vec<Requirement> {
    let name = "dependencies";
    let Some(value) = fields.value(name).cloned() else {
        return Vec::new();
    };
    let Value::Array(list) = value else {
        fields.fault(name, "list_type", "Input should be a valid list");
        return Vec::new();
    };
    if list.len() < least || list.len() > MOST {
        fields.fault(
            name,
            "list_length",
            format!("List should have {least} to {MOST} items"),
        );
        return Vec::new();
    }
    let mut wanted = Vec::new();
    for item in &list {
        match requirement(item) {
            Ok(requirement) => wanted.push(requirement),
            Err(why) => fields.fault(name, "value_error", format!("Value error, {why}")),
        }
    }
    wanted
}

fn requirement(item: &Value) -> Result<Requirement, String> {
    let name = item["name"].as_str().ok_or("a dependency needs a name")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || name.len() > 100 || name.contains("..") || !name.chars().all(is_plain) {
        return Err(format!("{name:?} is no name of a package"));
    }
    if let Some(split) = joined_version(name) {
        let (name, version) = name.split_at(split);
        return Err(format!(
            "this looks like a name and a version in one: write name {name:?} and version {version:?}"
        ));
    }
    let version = match &item["version"] {
        Value::Null => "",
        Value::String(version) => version.trim(),
        _ => return Err("a version is written as a string".to_owned()),
    };
    Ok(Requirement {
        name: name.to_owned(),
        version: specifier(version)?,
    })
}

/// Where the version begins in a name such as `pandas2.3.3`.
fn joined_version(name: &str) -> Option<usize> {
    let digits = name
        .find(|c: char| c.is_ascii_digit())
        .filter(|at| *at > 0)?;
    let (letters, rest) = name.split_at(digits);
    let (major, minor) = rest.split_once('.')?;
    let is_version = letters.chars().all(|c| c.is_ascii_alphabetic())
        && major.chars().all(|c| c.is_ascii_digit())
        && minor.starts_with(|c: char| c.is_ascii_digit());
    is_version.then_some(digits)
}

/// A version with its operator; a bare one is meant exactly.
fn specifier(version: &str) -> Result<String, String> {
    let wrong = || format!("{version:?} is no version: write \"2.3.3\" or \">=2.3\"");
    let operator = OPERATORS
        .into_iter()
        .find(|operator| version.starts_with(operator));
    let number = version[operator.map_or(0, str::len)..].trim();
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '*' | '+' | '!' | '-' | '_');
    match operator {
        None if version.is_empty() => Ok(String::new()),
        _ if number.is_empty() || number.len() > 64 || !number.chars().all(is_plain) => {
            Err(wrong())
        }
        None | Some("=") => Ok(format!("=={number}")),
        Some("~") => Ok(format!("~={number}")),
        Some(operator) => Ok(format!("{operator}{number}")),
    }
}

/// What is wanted in all: by name in any case, the newer wish wins.
pub(crate) fn merged(old: &[Requirement], new: &[Requirement]) -> Vec<Requirement> {
    let mut by_name = BTreeMap::new();
    for (order, requirement) in old.iter().chain(new).enumerate() {
        let name = requirement.name.to_ascii_lowercase();
        let first = by_name.get(&name).map_or(order, |(first, _)| *first);
        by_name.insert(name, (first, requirement.clone()));
    }
    let mut merged: Vec<_> = by_name.into_values().collect();
    merged.sort_by_key(|(order, _)| *order);
    merged
        .into_iter()
        .map(|(_, requirement)| requirement)
        .collect()
}

impl Gateway {
    /// Installs what a session asks for, and notes how that went; the session as it is then.
    pub(crate) async fn install(self: &Arc<Self>, session: &Session) -> Result<Session, OpenError> {
        let outcome = self.run_installer(session).await;
        let changed = self.ledger.change_session(&session.id, |session| {
            let facts = &mut session.facts;
            facts.install_completed = Some(now());
            match &outcome {
                Ok(installed) => {
                    facts.installed.clone_from(installed);
                    facts.install = InstallStatus::Completed;
                    facts.install_error.clear();
                }
                Err(why) => {
                    facts.install = InstallStatus::Failed;
                    facts.install_error.clone_from(why);
                }
            }
            true
        });
        match changed.await? {
            Some((session, _)) => Ok(session),
            None => {
                Err(LedgerError::Unreadable("the session was deleted meanwhile".to_owned()).into())
            }
        }
    }

    async fn run_installer(&self, session: &Session) -> Result<Vec<Installed>, String> {
        if session.status != SessionStatus::Running {
            return Err(format!("session {} is not running", session.id));
        }
        let facts = &session.facts;
        let patience = self.settings.limits.creating;
        let executor = self
            .executors
            .of(&self.claims, &facts.claim, patience)
            .await;
        let executor = executor.map_err(|error| error.to_string())?;
        // The names and versions have been checked: none is an option or holds a blank or quote.
        let wanted: Vec<_> = facts
            .requested
            .iter()
            .map(|wanted| format!("'{}{}'", wanted.name, wanted.version))
            .collect();
        let code = format!("set -- {}\n{SCRIPT}", wanted.join(" "));
        let mut env: BTreeMap<String, String> = facts.env.clone();
        env.insert("SANDBOX_PACKAGES".to_owned(), PACKAGES.to_owned());
        env.insert("SANDBOX_INDEX".to_owned(), facts.index_url.clone());
        env.insert("PIP_CACHE_DIR".to_owned(), "/tmp/pip-cache".to_owned());
        let request = RunRequest {
            key: format!("install-{}", uuid::Uuid::new_v4().simple()),
            language: "shell".to_owned(),
            code,
            timeout_millis: facts.install_timeout * 1000,
            env: env.into_iter().collect(),
            ..RunRequest::default()
        };
        let started = executor.client().run(request).await;
        let mut events = started
            .map_err(|status| status.message().to_owned())?
            .into_inner();
        let (mut stdout, mut stderr) = (Output::new(4 << 20), Output::new(COMPLAINT));
        while let Some(event) = events
            .message()
            .await
            .map_err(|status| status.message().to_owned())?
        {
            stdout.push(&event.stdout);
            stderr.push(&event.stderr);
            match event.ended {
                Some(ended) if ended.exit_code == 0 => return installed(&stdout.text()),
                Some(ended) => return Err(format!("{}: {}", ended.reason, stderr.text())),
                None => {}
            }
        }
        Err("the session's agent broke off".to_owned())
    }
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
    use serde_json::json;

    use super::*;

    #[test]
    fn names_and_versions_are_read_strictly() {
        let read = |name: &str, version: Value| {
            requirement(&json!({ "name": name, "version": version })).map(|r| r.version)
        };
        assert_eq!(read("six", Value::Null), Ok(String::new()));
        assert_eq!(read("six", json!("1.16.0")), Ok("==1.16.0".into()));
        assert_eq!(read("six", json!("=1.16")), Ok("==1.16".into()));
        assert_eq!(read("six", json!("~ 1.2")), Ok("~=1.2".into()));
        assert_eq!(read("six", json!(">=1.0")), Ok(">=1.0".into()));
        for name in [
            "",
            "-r",
            "../x",
            "a/b",
            "https://x",
            "a b",
            "a'b",
            "a..b",
            "git+x",
        ] {
            assert!(read(name, Value::Null).is_err(), "{name:?}");
        }
        for version in ["1; rm", "==", "1.0 --pre", "'"] {
            assert!(read("six", json!(version)).is_err(), "{version:?}");
        }
        let hint = read("pandas2.3.3", Value::Null).unwrap_err();
        assert!(
            hint.contains("\"pandas\"") && hint.contains("\"2.3.3\""),
            "{hint}"
        );
        assert!(read("zope.interface", Value::Null).is_ok() && read("h5py", Value::Null).is_ok());
    }

    #[test]
    fn the_newer_wish_wins_whatever_its_case() {
        let wish = |name: &str, version: &str| Requirement {
            name: name.into(),
            version: version.into(),
        };
        let merged = merged(&[wish("Six", "==1"), wish("a", "")], &[wish("six", "==2")]);
        assert_eq!(merged, [wish("six", "==2"), wish("a", "")]);
    }
}
