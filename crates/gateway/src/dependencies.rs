//! Packages as clients ask for them: names, versions, and where they come from.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{check::Fields, ledger::Requirement};

/// Where packages come from when nobody says.
pub(crate) const PLAIN_INDEX: &str = "https://pypi.org/simple/";
/// The most packages asked for at once.
const MOST: usize = 50;
/// What may stand between a package's name and its version.
const OPERATORS: [&str; 9] = ["==", ">=", "<=", "~=", "!=", ">", "<", "~", "="];

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

/// The host of an index without TLS, which the installer must be told to trust.
pub(crate) fn plain_host(url: &str) -> Option<&str> {
    let place = url.strip_prefix("http://")?.split(['/', '?', '#']).next()?;
    let host = place.rsplit('@').next().unwrap_or(place);
    (!host.is_empty()).then_some(host)
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
    let count = list.len();
    let length = match count {
        _ if count < least => Some(("too_short", format!("at least {least} item"))),
        _ if count > MOST => Some(("too_long", format!("at most {MOST} items"))),
        _ => None,
    };
    if let Some((kind, bound)) = length {
        let message = format!("List should have {bound} after validation, not {count}");
        fields.fault(name, kind, message);
        return Vec::new();
    }
    let mut wanted = Vec::new();
    for (index, item) in list.iter().enumerate() {
        match requirement(item) {
            Ok(requirement) => wanted.push(requirement),
            Err(why) => {
                let message = format!("Value error, {why}");
                fields.fault_in(name, &[index.into()], "value_error", message);
            }
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
    fn an_index_without_tls_is_trusted_by_name() {
        assert_eq!(
            plain_host("http://u:p@i.local:80/simple"),
            Some("i.local:80")
        );
        assert_eq!(plain_host("https://pypi.org/simple/"), None);
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
