//! The task executor's own command line and variables, for pods that start it by its name.

use std::{ffi::OsString, path::PathBuf};

use lexopt::{Arg, Parser, ValueExt};

use super::{Callers, Options, OptionsError, Task, VERSION, address, keys};
use crate::tasks::Site;

/// The name under which the agent is nothing but a task executor.
pub(super) const TASK_EXECUTOR: &str = "task-executor";

/// What `--help` says.
const HELP: &str = "\
task-executor: runs the tasks of its pod, over HTTP

  task-executor [OPTIONS]

Options, with one dash or two, and the variables that say the same:
  -listen-addr ADDR          LISTEN_ADDR           where it listens [0.0.0.0:5758]
  -data-dir FOLDER           DATA_DIR              where tasks are kept [/var/lib/sandbox/tasks]
  -enable-sidecar-mode       ENABLE_SIDECAR_MODE   run tasks in the container beside this one
                                                   [where the pod shares its processes]
  -main-container-name NAME  MAIN_CONTAINER_NAME   which one that is [main]
  -help, -version

Taken and not needed, because no container runtime is asked and a container's log is its output:
  -cri-socket, -log-dir, -log-max-size, -log-max-backups, -log-max-age

SANDLOT_OPERATOR_KEYS, the callers' public keys, and SANDLOT_AGENT_KEY, its own private key, let
nobody else call; without them everybody may who reaches it.
";

/// Reads the task executor's own options, which have one dash.
pub(super) fn task_executor(
    words: impl Iterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Task, OptionsError> {
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
            Arg::Long("help" | "h") => return Ok(Task::Say(HELP.to_owned())),
            Arg::Long("version") => return Ok(Task::Say(VERSION.to_owned())),
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
    Ok(Task::Serve(Options {
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
        python_ahead: false,
        callers,
        command: None,
    }))
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
    use super::super::parse;
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
    fn who_asks_for_help_gets_it_however_many_dashes() {
        for word in ["-h", "-help", "--help", "--h"] {
            let line = ["task-executor", word].map(OsString::from);
            let Ok(Task::Say(help)) = parse(line, |_| None) else {
                panic!("{word} is answered")
            };
            assert!(help.starts_with("task-executor:") && help.contains("-listen-addr"));
        }
        let wrong = ["task-executor", "-helpme"].map(OsString::from);
        assert!(parse(wrong, |_| None).is_err());
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
