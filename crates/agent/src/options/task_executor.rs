//! The task executor's own command line and variables, for pods that start it by its name.

use std::{ffi::OsString, path::PathBuf};

use lexopt::{Arg, Parser, ValueExt};

use super::{Callers, Options, OptionsError, address, keys};
use crate::tasks::Site;

/// The name under which the agent is nothing but a task executor.
pub(super) const TASK_EXECUTOR: &str = "task-executor";

/// Reads the task executor's own options, which have one dash.
pub(super) fn task_executor(
    words: impl Iterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Options, OptionsError> {
    let doubled = words.map(|word| match word.to_str() {
        Some(text) if text.starts_with('-') && !text.starts_with("--") => {
            OsString::from(format!("-{text}"))
        }
        _ => word,
    });
    let mut parser = Parser::from_args(doubled);
    let (name, usual) = ("LISTEN_ADDR", "0.0.0.0:5758");
    let value = variable(name).unwrap_or_else(|| usual.to_owned());
    let mut tasks = address(name, value)?;
    let mut state = variable("DATA_DIR")
        .unwrap_or_else(|| "/var/lib/sandbox/tasks".to_owned())
        .into();
    let mut beside = switch("ENABLE_SIDECAR_MODE", variable("ENABLE_SIDECAR_MODE"))?;
    let mut main = variable("MAIN_CONTAINER_NAME").unwrap_or_else(|| "main".to_owned());
    while let Some(word) = parser.next()? {
        match word {
            Arg::Long("enable-sidecar-mode") => {
                let value = parser.optional_value().map(ValueExt::string).transpose()?;
                let value = value.unwrap_or_else(|| "true".to_owned());
                beside = switch("-enable-sidecar-mode", Some(value))?;
            }
            Arg::Long("main-container-name") => main = parser.value()?.string()?,
            // Nothing here speaks to a container runtime, and the log goes where a container's
            // log goes.
            Arg::Long(
                "cri-socket" | "log-dir" | "log-max-size" | "log-max-backups" | "log-max-age",
            ) => {
                parser.value()?;
            }
            Arg::Long("listen-addr") => tasks = address("-listen-addr", parser.value()?.string()?)?,
            Arg::Long("data-dir") => state = PathBuf::from(parser.value()?),
            other => return Err(other.unexpected().into()),
        }
    }
    // Its own clients speak in the open; those who want more give keys.
    let callers = match keys(&variable)? {
        Some((own, callers)) => Callers::Holders { own, callers },
        None => Callers::Anybody,
    };
    let workspace = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let (state, tasks) = (Some(state), Some(tasks));
    Ok(Options {
        workspace,
        state,
        grpc_ports: Vec::new(),
        http_port: None,
        tasks,
        site: match beside {
            None => Site::Either(main),
            Some(true) => Site::Beside(main),
            Some(false) => Site::Own,
        },
        callers,
        command: None,
    })
}

/// A switch as Go programs read it.
fn switch(name: &'static str, value: Option<String>) -> Result<Option<bool>, OptionsError> {
    match value.as_deref().map(str::trim) {
        None | Some("") => Ok(None),
        Some("true" | "TRUE" | "True" | "t" | "1") => Ok(Some(true)),
        Some("false" | "FALSE" | "False" | "f" | "0") => Ok(Some(false)),
        Some(other) => Err(OptionsError::Variable {
            name,
            value: other.to_owned(),
            wanted: "true or false",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Task, parse};
    use super::*;

    #[test]
    fn under_its_other_name_it_is_the_task_executor() {
        let line = [
            "/opt/opensandbox/task-executor",
            "-listen-addr=:7000",
            "-data-dir",
            "/d",
        ];
        let Task::Serve(options) = parse(line.map(OsString::from), |_| None).unwrap() else {
            panic!("serves")
        };
        assert_eq!(
            (options.tasks, options.state),
            ("0.0.0.0:7000".parse().ok(), Some("/d".into()))
        );
        assert!(options.grpc_ports.is_empty() && matches!(options.callers, Callers::Anybody));
        assert_eq!(options.site, Site::Either("main".to_owned()));
    }

    #[test]
    fn the_task_executor_is_told_which_container_its_tasks_are_for() {
        let site = |words: &[&str], variables: &[(&str, &str)]| {
            let line = ["task-executor"].iter().chain(words).map(OsString::from);
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            match parse(line, variable) {
                Ok(Task::Serve(options)) => options.site,
                other => panic!("{other:?}"),
            }
        };
        let named = ["-enable-sidecar-mode=true", "-main-container-name=sandbox"];
        assert_eq!(site(&named, &[]), Site::Beside("sandbox".to_owned()));
        let told = [("ENABLE_SIDECAR_MODE", "true")];
        assert_eq!(site(&[], &told), Site::Beside("main".to_owned()));
        assert_eq!(site(&["-enable-sidecar-mode=false"], &told), Site::Own);
    }
}
