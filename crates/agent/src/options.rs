//! What the agent was asked to do: its command line and its own variables.

mod task_executor;

use std::{
    ffi::{OsStr, OsString},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use lexopt::{Arg, Parser, ValueExt};
use sandlot_access::{AGENT_KEY, OPERATOR_KEYS, PrivateKey, PublicKey};
use sandlot_api::executor::PYTHON_AHEAD;

use crate::tasks::Site;
use task_executor::{TASK_EXECUTOR, task_executor};

/// What `--help` says.
const HELP: &str = "\
sandlot-agent: runs commands in a sandbox, once, whole and bounded

  sandlot-agent [OPTIONS]                   serve, as a sidecar
  sandlot-agent run [OPTIONS] -- CMD ARG…   serve beside the container's own command
  sandlot-agent install FOLDER              copy this program into a folder

Options, and the variables that say the same:
  --workspace FOLDER   where commands work                  SANDLOT_WORKSPACE    [/workspace]
  --state-dir FOLDER   where records and output are kept    SANDLOT_STATE_DIR
  --grpc-port PORT     gRPC, may be given more than once    SANDLOT_GRPC_PORT    [50051 and 9090]
  --http-port PORT     health over HTTP, 0 for none         SANDLOT_HTTP_PORT    [8080; none with run]
  --tasks-addr ADDR    the task executor's HTTP             SANDLOT_TASKS_ADDR   [none]
  --python-ahead       a Python interpreter waits for code  SANDLOT_PYTHON_AHEAD=true
  --plain              serve gRPC to anybody, without TLS   SANDLOT_PLAIN=true
  --help, --version

Called task-executor, it takes that program's options and variables, and serves nothing else:
see task-executor --help.

Who may call is told by variables: SANDLOT_OPERATOR_KEYS, the callers' public keys, and
SANDLOT_AGENT_KEY, the agent's own private key.
";

/// What `--version` says.
const VERSION: &str = concat!("sandlot-agent ", env!("CARGO_PKG_VERSION"), "\n");

/// What to do.
#[derive(Clone, Debug)]
pub enum Task {
    /// Serve the doors, with the container's own command where there is one.
    Serve(Options),
    /// Copy this program into a folder.
    Install(PathBuf),
    /// Say this and be done.
    Say(String),
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where commands work and files go.
    pub workspace: PathBuf,
    /// Where records and output are kept; the first place that works if not said.
    pub state: Option<PathBuf>,
    /// The ports of the gRPC door.
    pub grpc_ports: Vec<u16>,
    /// The port of the health door, if any.
    pub http_port: Option<u16>,
    /// Where the task executor's HTTP is served, if anywhere.
    pub tasks: Option<SocketAddr>,
    /// Where its tasks run.
    pub site: Site,
    /// Whether a Python interpreter waits for code from the start on.
    pub python_ahead: bool,
    /// Who may call.
    pub callers: Callers,
    /// The container's own command; `None` for a sidecar.
    pub command: Option<Vec<OsString>>,
}

/// Who may call the gRPC door.
#[derive(Clone, Debug)]
pub enum Callers {
    /// Whoever reaches it.
    Anybody,
    /// Who proves to have one of these keys; the agent proves to have its own.
    Holders {
        /// The agent's own key.
        own: PrivateKey,
        /// The callers' keys.
        callers: Vec<PublicKey>,
    },
}

/// What is wrong with the command line.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A word that means nothing here.
    #[error("{0}; see --help")]
    Usage(#[from] lexopt::Error),
    /// The command to run is missing.
    #[error("run needs a command: sandlot-agent run -- CMD ARG…")]
    NoCommand,
    /// Nobody said who may call.
    #[error(
        "who may call? set SANDLOT_OPERATOR_KEYS and SANDLOT_AGENT_KEY, or let anybody in with --plain"
    )]
    NoCallers,
    /// A variable has a value that makes no sense.
    #[error("the variable {name} is {value:?}, which is not {wanted}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}

/// Reads the command line, which begins with the program's name, and the agent's own variables
/// through `variable`.
pub fn parse(
    words: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Task, OptionsError> {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    if Path::new(&program).file_name() == Some(OsStr::new(TASK_EXECUTOR)) {
        return task_executor(words, variable);
    }
    let mut parser = Parser::from_args(words);
    let mut given = Given::from_variables(&variable)?;
    let mut running = false;
    let mut ports = Vec::new();
    while let Some(word) = parser.next()? {
        match word {
            Arg::Value(value) if value == "run" && !running => running = true,
            Arg::Value(value) if value == "install" => {
                return Ok(Task::Install(parser.value()?.into()));
            }
            Arg::Value(value) if running => {
                let command = std::iter::once(value).chain(parser.raw_args()?).collect();
                return given.finish(ports, Some(command)).map(Task::Serve);
            }
            Arg::Long("workspace") => given.workspace = Some(parser.value()?.into()),
            Arg::Long("state-dir") => given.state = Some(parser.value()?.into()),
            Arg::Long("grpc-port") => ports.push(parser.value()?.parse()?),
            Arg::Long("http-port") => given.http_port = Some(parser.value()?.parse()?),
            Arg::Long("tasks-addr") => given.tasks = Some(parser.value()?.parse()?),
            Arg::Long("python-ahead") => given.python_ahead = true,
            Arg::Long("plain") => given.plain = true,
            Arg::Long("help") | Arg::Short('h') => return Ok(Task::Say(HELP.to_owned())),
            Arg::Long("version") => return Ok(Task::Say(VERSION.to_owned())),
            other => return Err(other.unexpected().into()),
        }
    }
    if running {
        Err(OptionsError::NoCommand)
    } else {
        given.finish(ports, None).map(Task::Serve)
    }
}

/// An address, where Go programs may leave out the host.
fn address(name: &'static str, value: String) -> Result<SocketAddr, OptionsError> {
    let full = if value.starts_with(':') {
        format!("0.0.0.0{value}")
    } else {
        value.clone()
    };
    full.parse().map_err(|_| OptionsError::Variable {
        name,
        value,
        wanted: "an address such as 0.0.0.0:5758",
    })
}

#[derive(Default)]
struct Given {
    workspace: Option<PathBuf>,
    state: Option<PathBuf>,
    grpc_port: Option<u16>,
    http_port: Option<u16>,
    tasks: Option<SocketAddr>,
    python_ahead: bool,
    plain: bool,
    keys: Option<(PrivateKey, Vec<PublicKey>)>,
}

impl Given {
    fn from_variables(variable: &impl Fn(&str) -> Option<String>) -> Result<Self, OptionsError> {
        let port = |name| match variable(name) {
            None => Ok(None),
            Some(value) => match value.parse() {
                Ok(port) => Ok(Some(port)),
                Err(_) => Err(OptionsError::Variable {
                    name,
                    value,
                    wanted: "a port",
                }),
            },
        };
        let is_true = |name| variable(name).is_some_and(|value| value == "true");
        Ok(Self {
            workspace: variable("SANDLOT_WORKSPACE").map(PathBuf::from),
            state: variable("SANDLOT_STATE_DIR").map(PathBuf::from),
            grpc_port: port("SANDLOT_GRPC_PORT")?,
            http_port: port("SANDLOT_HTTP_PORT")?,
            tasks: variable("SANDLOT_TASKS_ADDR")
                .map(|value| address("SANDLOT_TASKS_ADDR", value))
                .transpose()?,
            python_ahead: is_true(PYTHON_AHEAD),
            plain: is_true("SANDLOT_PLAIN"),
            keys: keys(variable)?,
        })
    }

    fn finish(
        self,
        mut grpc_ports: Vec<u16>,
        command: Option<Vec<OsString>>,
    ) -> Result<Options, OptionsError> {
        if grpc_ports.is_empty() {
            grpc_ports = self
                .grpc_port
                .map_or_else(|| vec![50051, 9090], |port| vec![port]);
        }
        // Beside a user's own server, a port that nobody asked for is better left free.
        let usual = if command.is_some() { 0 } else { 8080 };
        let http_port = Some(self.http_port.unwrap_or(usual)).filter(|port| *port != 0);
        let callers = match self.keys {
            // Asked for is asked for: whoever starts the agent knows both.
            _ if self.plain => Callers::Anybody,
            Some((own, callers)) => Callers::Holders { own, callers },
            None => return Err(OptionsError::NoCallers),
        };
        Ok(Options {
            workspace: self.workspace.unwrap_or_else(|| "/workspace".into()),
            state: self.state,
            grpc_ports,
            http_port,
            tasks: self.tasks,
            site: Site::Own,
            python_ahead: self.python_ahead,
            callers,
            command,
        })
    }
}

/// The keys that the variables give, both or none.
fn keys(
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Option<(PrivateKey, Vec<PublicKey>)>, OptionsError> {
    let (Some(own), Some(callers)) = (variable(AGENT_KEY), variable(OPERATOR_KEYS)) else {
        return Ok(None);
    };
    let bad = |name, value| OptionsError::Variable {
        name,
        value,
        wanted: "the base64 of a key",
    };
    // A secret is not repeated in a message.
    let own = own.parse().map_err(|_| bad(AGENT_KEY, "…".to_owned()))?;
    let callers = PublicKey::list(&callers).map_err(|_| bad(OPERATOR_KEYS, callers))?;
    Ok(Some((own, callers)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Task, OptionsError> {
        let plain = |name: &str| (name == "SANDLOT_PLAIN").then(|| "true".to_owned());
        parse(words(line), plain)
    }

    /// A command line, the program's name included.
    fn words(line: &str) -> impl Iterator<Item = OsString> {
        std::iter::once("/x/sandlot-agent")
            .chain(line.split_whitespace())
            .map(OsString::from)
    }

    fn serve(line: &str) -> Options {
        match read(line).unwrap() {
            Task::Serve(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sidecar_serves_where_its_clients_look() {
        let options = serve("");
        assert_eq!(
            (options.grpc_ports, options.http_port),
            (vec![50051, 9090], Some(8080))
        );
        assert_eq!(
            serve("--grpc-port 9090 --http-port=81 --workspace /w").workspace,
            PathBuf::from("/w")
        );
    }

    #[test]
    fn the_command_keeps_its_own_options() {
        let options = serve("run --plain -- sh -c --help -- x");
        assert_eq!(options.command.unwrap(), ["sh", "-c", "--help", "--", "x"]);
        assert!(matches!(options.callers, Callers::Anybody) && options.http_port.is_none());
        assert_eq!(serve("run sleep 1").command.unwrap(), ["sleep", "1"]);
    }

    #[test]
    fn somebody_must_say_who_may_call() {
        let own = PrivateKey::generate().unwrap();
        let keys = |name: &str| match name {
            AGENT_KEY => Some(own.reveal()),
            OPERATOR_KEYS => Some(own.public().unwrap().to_string()),
            _ => None,
        };
        assert!(matches!(
            parse(words(""), |_| None),
            Err(OptionsError::NoCallers)
        ));
        let Task::Serve(options) = parse(words(""), keys).unwrap() else {
            panic!("serves")
        };
        assert!(matches!(options.callers, Callers::Holders { callers, .. } if callers.len() == 1));
        let bad = parse(words(""), |name| keys(name).map(|_| "secret".to_owned()))
            .unwrap_err()
            .to_string();
        assert!(bad.contains(AGENT_KEY) && !bad.contains("secret"), "{bad}");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(matches!(read("run"), Err(OptionsError::NoCommand)));
        assert!(
            read("--no-such")
                .unwrap_err()
                .to_string()
                .contains("--no-such")
        );
        let error = parse(words(""), |name| {
            (name == "SANDLOT_HTTP_PORT").then(|| "eighty".to_owned())
        })
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the variable SANDLOT_HTTP_PORT is \"eighty\", which is not a port"
        );
    }
}
