//! What a client adds to a request: the query, and the body of a delete.

use percent_encoding::percent_decode_str;
use sandlot_objects::table::IncludeObject;
use serde_json::Value;

use crate::status::{ApiError, Cause};

/// How a resource version on a read is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// At exactly this revision.
    Exact,
    /// At this revision or any later one.
    NotOlderThan,
}

/// What happens to fields that the kind does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Dropped in silence.
    Ignore,
    /// Dropped with a warning.
    #[default]
    Warn,
    /// The request fails.
    Strict,
}

/// What happens to the objects that a deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They stay, without an owner.
    Orphan,
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
}

/// What must be true of an object for it to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeletePreconditions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

/// How an object is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteSettings {
    pub(crate) dry_run: bool,
    pub(crate) grace_period: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) preconditions: DeletePreconditions,
}

/// How an object is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_manager: String,
    pub(crate) field_validation: FieldValidation,
    /// Take fields from their owners; only with apply.
    pub(crate) force: Option<bool>,
}

/// The query of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) watch: bool,
    pub(crate) limit: usize,
    pub(crate) continue_token: String,
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) resource_version: Option<u64>,
    pub(crate) resource_version_match: Option<Match>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) pretty: bool,
    /// How much of each object stands in a Table.
    pub(crate) include_object: IncludeObject,
    pub(crate) write: WriteOptions,
    pub(crate) delete: DeleteSettings,
    /// Everything as it stood, for subresources with options of their own.
    pub(crate) raw: Vec<(String, String)>,
}

/// Longer selectors than this are refused before they are parsed.
const LONGEST_SELECTOR: usize = 64 * 1024;

impl Options {
    /// Reads a query string; unknown options are ignored, as Kubernetes does.
    pub(crate) fn parse(query: &str) -> Result<Options, ApiError> {
        let mut options = Options {
            raw: pairs(query)?,
            ..Options::default()
        };
        let mut causes = Vec::new();
        for (key, value) in &options.raw.clone() {
            options.take(key, value, &mut causes)?;
        }
        causes.extend(options.contradictions());
        match causes.is_empty() {
            true => Ok(options),
            false => Err(ApiError::invalid(
                "meta.k8s.io",
                options.kind_of_options(),
                "",
                causes,
            )),
        }
    }

    /// The first value of an option.
    pub(crate) fn first(&self, key: &str) -> Option<&str> {
        self.raw
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    fn take(&mut self, key: &str, value: &str, causes: &mut Vec<Cause>) -> Result<(), ApiError> {
        match key {
            "watch" => self.watch = boolean(value)?,
            "limit" => self.limit = whole(value)?.try_into().unwrap_or(0),
            "continue" => self.continue_token = value.to_owned(),
            "labelSelector" => self.label_selector = selector(value)?,
            "fieldSelector" => self.field_selector = selector(value)?,
            "resourceVersion" => self.resource_version = resource_version(value)?,
            "resourceVersionMatch" => self.resource_version_match = rule_of_match(value, causes),
            "allowWatchBookmarks" => self.bookmarks = boolean(value)?,
            "sendInitialEvents" => self.send_initial_events = Some(boolean(value)?),
            "timeoutSeconds" => {
                self.timeout_seconds = u64::try_from(whole(value)?).ok().filter(|s| *s > 0)
            }
            "pretty" => self.pretty = boolean(value).unwrap_or(true),
            "includeObject" => {
                self.include_object = IncludeObject::parse(value).ok_or_else(|| {
                    ApiError::bad_request(format!(
                        "includeObject must be None, Metadata or Object, not {value:?}"
                    ))
                })?;
            }
            "dryRun" => {
                let dry = dry_run(value, causes);
                self.write.dry_run |= dry;
                self.delete.dry_run |= dry;
            }
            "fieldManager" => self.write.field_manager = field_manager(value, causes),
            "fieldValidation" => self.write.field_validation = field_validation(value, causes),
            "force" => self.write.force = Some(boolean(value)?),
            "gracePeriodSeconds" => self.delete.grace_period = Some(grace_period(whole(value)?)),
            "propagationPolicy" => self.delete.propagation = propagation(value, causes),
            "orphanDependents" => {
                self.delete.propagation = Some(if boolean(value)? {
                    Propagation::Orphan
                } else {
                    Propagation::Background
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Options that cannot stand together.
    fn contradictions(&self) -> Vec<Cause> {
        let mut causes = Vec::new();
        let matching = "resourceVersionMatch";
        if self.watch {
            match (self.send_initial_events, self.resource_version_match) {
                (Some(_), Some(Match::NotOlderThan)) | (None, None) => {}
                (Some(_), _) => causes.push(Cause::forbidden(
                    matching,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                )),
                (None, Some(_)) => causes.push(Cause::forbidden(
                    matching,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                )),
            }
            return causes;
        }
        if self.send_initial_events.is_some() {
            causes.push(Cause::forbidden(
                "sendInitialEvents",
                "sendInitialEvents is forbidden for list",
            ));
        }
        if self.resource_version_match.is_some() {
            if !self.continue_token.is_empty() {
                causes.push(Cause::forbidden(
                    matching,
                    "resourceVersionMatch is forbidden when continue is provided",
                ));
            } else if self.resource_version.is_none() {
                causes.push(Cause::forbidden(
                    matching,
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            } else if self.resource_version == Some(0)
                && self.resource_version_match == Some(Match::Exact)
            {
                causes.push(Cause::forbidden(
                    matching,
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
        }
        causes
    }

    /// How Kubernetes calls the options in its answers.
    fn kind_of_options(&self) -> &'static str {
        match () {
            () if self.watch || self.resource_version_match.is_some() => "ListOptions",
            () if self.first("propagationPolicy").is_some() => "DeleteOptions",
            () if self.first("force").is_some() => "PatchOptions",
            () => "CreateOptions",
        }
    }
}

/// Reads the `DeleteOptions` in the body of a delete, over what the query said.
pub(crate) fn parse_delete_body(
    body: &Value,
    query: &DeleteSettings,
) -> Result<DeleteSettings, ApiError> {
    let mut settings = query.clone();
    let mut causes = Vec::new();
    let wrong =
        |field: &str| ApiError::bad_request(format!("DeleteOptions: {field} has a wrong type"));
    let Value::Object(map) = body else {
        return Err(ApiError::bad_request(
            "the body of a delete must be DeleteOptions",
        ));
    };
    if let Some(kind) = map.get("kind").filter(|kind| *kind != "DeleteOptions") {
        return Err(ApiError::bad_request(format!(
            "the body of a delete must be DeleteOptions, not {kind}"
        )));
    }
    for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        match key.as_str() {
            "gracePeriodSeconds" => {
                let seconds = value.as_i64().ok_or_else(|| wrong(key))?;
                settings.grace_period = Some(grace_period(seconds));
            }
            "propagationPolicy" => {
                settings.propagation =
                    propagation(value.as_str().ok_or_else(|| wrong(key))?, &mut causes);
            }
            "orphanDependents" => {
                let orphan = value.as_bool().ok_or_else(|| wrong(key))?;
                settings.propagation = Some(if orphan {
                    Propagation::Orphan
                } else {
                    Propagation::Background
                });
            }
            "dryRun" => {
                for word in value.as_array().ok_or_else(|| wrong(key))? {
                    settings.dry_run |=
                        dry_run(word.as_str().ok_or_else(|| wrong(key))?, &mut causes);
                }
            }
            "preconditions" => {
                let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
                settings.preconditions = DeletePreconditions {
                    uid: text("uid"),
                    resource_version: text("resourceVersion"),
                };
            }
            _ => {}
        }
    }
    match causes.is_empty() {
        true => Ok(settings),
        false => Err(ApiError::invalid(
            "meta.k8s.io",
            "DeleteOptions",
            "",
            causes,
        )),
    }
}

fn pairs(query: &str) -> Result<Vec<(String, String)>, ApiError> {
    let text = |part: &str| match percent_decode_str(&part.replace('+', " ")).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(ApiError::bad_request(
            "the query of the request is not UTF-8",
        )),
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((text(key)?, text(value)?))
        })
        .collect()
}

/// A flag as Kubernetes reads it from a query: anything but 0 and false is true.
fn boolean(value: &str) -> Result<bool, ApiError> {
    match value {
        "" | "1" | "true" | "True" | "TRUE" | "t" | "T" => Ok(true),
        "0" | "false" | "False" | "FALSE" | "f" | "F" => Ok(false),
        other => Err(ApiError::bad_request(format!(
            "strconv.ParseBool: parsing {other:?}: invalid syntax"
        ))),
    }
}

fn whole(value: &str) -> Result<i64, ApiError> {
    value.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "strconv.ParseInt: parsing {value:?}: invalid syntax"
        ))
    })
}

fn selector(value: &str) -> Result<String, ApiError> {
    match value.len() <= LONGEST_SELECTOR {
        true => Ok(value.to_owned()),
        false => Err(ApiError::bad_request(format!(
            "a selector may be at most {LONGEST_SELECTOR} bytes long"
        ))),
    }
}

fn resource_version(value: &str) -> Result<Option<u64>, ApiError> {
    match value {
        "" => Ok(None),
        value => value.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!(
                "resourceVersion: Invalid value: {value:?}: strconv.ParseUint: parsing {value:?}: invalid syntax"
            ))
        }),
    }
}

fn rule_of_match(value: &str, causes: &mut Vec<Cause>) -> Option<Match> {
    match value {
        "" => None,
        "Exact" => Some(Match::Exact),
        "NotOlderThan" => Some(Match::NotOlderThan),
        other => {
            causes.push(Cause::not_supported(
                "resourceVersionMatch",
                other,
                &["Exact", "NotOlderThan", ""],
            ));
            None
        }
    }
}

fn dry_run(value: &str, causes: &mut Vec<Cause>) -> bool {
    if value != "All" {
        causes.push(Cause::not_supported("dryRun", value, &["All"]));
    }
    true
}

fn field_manager(value: &str, causes: &mut Vec<Cause>) -> String {
    if value.len() > 128 {
        causes.push(Cause::new(
            "FieldValueTooLong",
            "fieldManager",
            "Too long: may not be more than 128 bytes",
        ));
    }
    if value.chars().any(char::is_control) {
        let why = "should only contain printable characters";
        causes.push(Cause::invalid("fieldManager", &Value::from(value), why));
    }
    value.to_owned()
}

fn field_validation(value: &str, causes: &mut Vec<Cause>) -> FieldValidation {
    match value {
        "Ignore" => FieldValidation::Ignore,
        "" | "Warn" => FieldValidation::Warn,
        "Strict" => FieldValidation::Strict,
        other => {
            causes.push(Cause::not_supported(
                "fieldValidation",
                other,
                &["", "Ignore", "Strict", "Warn"],
            ));
            FieldValidation::Warn
        }
    }
}

/// Kubernetes reads every negative grace as one second.
fn grace_period(seconds: i64) -> i64 {
    if seconds < 0 { 1 } else { seconds }
}

fn propagation(value: &str, causes: &mut Vec<Cause>) -> Option<Propagation> {
    match value {
        "Orphan" => Some(Propagation::Orphan),
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        other => {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            causes.push(Cause::not_supported("propagationPolicy", other, &supported));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_validation_is_refused_by_name() {
        let error = Options::parse("fieldValidation=Loud").expect_err("refused");
        assert_eq!(error.code, 422);
        assert!(
            error
                .message
                .contains("fieldValidation: Unsupported value: \"Loud\""),
            "{}",
            error.message
        );
    }

    #[test]
    fn plus_and_percent_are_decoded() {
        let options = Options::parse("labelSelector=a+in+%28b%2Cc%29&limit=5").expect("parses");
        assert_eq!(options.label_selector, "a in (b,c)");
        assert_eq!(options.limit, 5);
    }

    #[test]
    fn streaming_lists_must_say_how_old_they_may_be() {
        assert!(Options::parse("watch=1&sendInitialEvents=true").is_err());
        assert!(
            Options::parse("watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan")
                .is_ok()
        );
    }
}
