//! What the query of a stream's request says.

use jiff::{SignedDuration, Timestamp};

use crate::kubelet::LogOptions;
use crate::status::{ApiError, Cause};

/// No client needs a longer command.
const ARGUMENTS: usize = 16 * 1024;

/// What an exec or attach is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) container: String,
    pub(super) command: Vec<String>,
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Remote {
    /// Reads the query of an exec or, with no command, of an attach.
    pub(super) fn parse(query: &[(String, String)], attach: bool) -> Result<Remote, ApiError> {
        let mut remote = Remote::default();
        for (key, value) in query {
            match key.as_str() {
                "container" => remote.container.clone_from(value),
                "command" => remote.command.push(value.clone()),
                "stdin" => remote.stdin = flag(key, value)?,
                "stdout" => remote.stdout = flag(key, value)?,
                "stderr" => remote.stderr = flag(key, value)?,
                "tty" => remote.tty = flag(key, value)?,
                _ => {}
            }
        }
        if !attach && remote.command.is_empty() {
            return Err(ApiError::bad_request(
                "you must specify at least 1 command for the container",
            ));
        }
        if remote.command.len() > ARGUMENTS {
            return Err(ApiError::bad_request(format!(
                "the command has more than {ARGUMENTS} arguments"
            )));
        }
        if !(remote.stdin || remote.stdout || remote.stderr) {
            return Err(ApiError::bad_request(
                "you must specify at least 1 of stdin, stdout, stderr",
            ));
        }
        // A terminal has one output.
        remote.stderr &= !remote.tty;
        Ok(remote)
    }
}

/// Which container's log is asked for, and what part of it.
pub(super) fn logs(
    pod: &str,
    query: &[(String, String)],
    now: Timestamp,
) -> Result<(String, LogOptions), ApiError> {
    let mut container = String::new();
    let mut options = LogOptions::default();
    let (mut seconds, mut time) = (None, None);
    let mut causes = Vec::new();
    for (key, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
        match key.as_str() {
            "container" => container.clone_from(value),
            "follow" => options.follow = flag(key, value)?,
            "previous" => options.previous = flag(key, value)?,
            "timestamps" => options.timestamps = flag(key, value)?,
            "tailLines" => options.tail_lines = at_least(key, value, 0, &mut causes)?,
            "limitBytes" => options.limit_bytes = at_least(key, value, 1, &mut causes)?,
            "sinceSeconds" => seconds = at_least(key, value, 1, &mut causes)?,
            "sinceTime" => time = Some(value.parse::<Timestamp>().map_err(|_| unread(key, value))?),
            _ => {}
        }
    }
    if seconds.is_some() && time.is_some() {
        let why = "at most one of sinceTime or sinceSeconds may be specified";
        causes.push(Cause::forbidden("sinceSeconds", why));
    }
    if !causes.is_empty() {
        return Err(ApiError::invalid("", "PodLogOptions", pod, causes));
    }
    let ago = |seconds: u64| {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        now.checked_sub(SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MIN)
    };
    options.since = time.or(seconds.map(ago));
    Ok((container, options))
}

/// The ports of a port-forward over channels.
pub(super) fn ports(query: &[(String, String)]) -> Result<Vec<u16>, ApiError> {
    let values = query
        .iter()
        .filter(|(key, _)| key == "ports")
        .flat_map(|(_, value)| value.split(','));
    let ports: Result<Vec<u16>, ApiError> = values.map(port).collect();
    ports
}

/// A port, as text.
pub(super) fn port(text: &str) -> Result<u16, ApiError> {
    let port = text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    port.ok_or_else(|| ApiError::bad_request(format!("unable to parse {text:?} as a port")))
}

fn flag(key: &str, value: &str) -> Result<bool, ApiError> {
    match value {
        "" | "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(unread(key, value)),
    }
}

fn at_least(
    key: &str,
    value: &str,
    least: i64,
    causes: &mut Vec<Cause>,
) -> Result<Option<u64>, ApiError> {
    let number: i64 = value.parse().map_err(|_| unread(key, value))?;
    if number < least {
        let why = match least {
            0 => "must be greater than or equal to 0",
            _ => "must be greater than 0",
        };
        causes.push(Cause::invalid(key, &number.into(), why));
    }
    Ok(u64::try_from(number).ok())
}

fn unread(key: &str, value: &str) -> ApiError {
    ApiError::bad_request(format!(
        "the value {value:?} of the query parameter {key:?} is not understood"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Vec<(String, String)> {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), value.to_owned())
        };
        text.split('&').map(pair).collect()
    }

    #[test]
    fn a_command_and_its_streams_are_read() {
        let remote = Remote::parse(
            &query("command=ls&command=-l&stdout=true&stderr=1&container=c"),
            false,
        );
        let expected = Remote {
            container: "c".into(),
            command: vec!["ls".into(), "-l".into()],
            stdout: true,
            stderr: true,
            ..Remote::default()
        };
        assert_eq!(remote.unwrap(), expected);
        let terminal = Remote::parse(&query("stdin=true&stdout=true&stderr=true&tty=true"), true);
        assert!(!terminal.unwrap().stderr, "a terminal has one output");
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        for (text, attach) in [
            ("stdout=true", false),
            ("command=ls", false),
            ("tty=true", true),
            ("stdin=maybe", true),
        ] {
            assert_eq!(
                Remote::parse(&query(text), attach).unwrap_err().code,
                400,
                "{text}"
            );
        }
        let now = Timestamp::UNIX_EPOCH;
        for (text, code) in [
            ("tailLines=-1", 422),
            ("limitBytes=0", 422),
            ("sinceSeconds=0", 422),
            ("sinceSeconds=5&sinceTime=2026-01-01T00:00:00Z", 422),
            ("tailLines=many", 400),
            ("sinceTime=yesterday", 400),
            ("follow=perhaps", 400),
        ] {
            assert_eq!(
                logs("web", &query(text), now).unwrap_err().code,
                code,
                "{text}"
            );
        }
        for text in ["0", "65536", "http", "-1", ""] {
            port(text).unwrap_err();
        }
    }

    #[test]
    fn a_log_is_cut_as_asked() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let text = "follow=true&previous=false&timestamps=true&tailLines=0&limitBytes=9&sinceSeconds=60&container=c";
        let (container, options) = logs("web", &query(text), now).unwrap();
        assert_eq!(container, "c");
        assert!(options.follow && options.timestamps && !options.previous);
        assert_eq!(
            (options.tail_lines, options.limit_bytes),
            (Some(0), Some(9))
        );
        assert_eq!(options.since, "2026-01-01T00:00:00Z".parse().ok());
        let (_, forever) = logs("web", &query("sinceSeconds=9223372036854775807"), now).unwrap();
        assert_eq!(forever.since, Some(Timestamp::MIN));
    }
}
