//! `sandlot-agent`: runs beside user code in a pod and does there what the operator asks.
//!
//! One supervisor, several doors: gRPC as the sidecar's clients speak it, the task executor's
//! HTTP, HTTP for health.
//! What it remembers of runs lies in a volume of the pod where there is one, so that a restarted
//! container still knows what it has run. Commands of the agent's own user can write there too. A
//! command that does can make its own runs count as ended or lost, which it could bring about
//! anyway; keys are made of objects' uids, which nobody knows before, so it cannot prepare anything
//! for runs to come, and nobody else's are kept there: a reset forgets them all.
//!
//! It is small and static, so that it can be put into any container without touching the
//! image, where it starts the container's own command and answers for it.

mod agent;
mod changes;
mod container;
mod container_log;
mod environment;
mod executor;
mod files;
mod grpc;
mod install;
mod notebook;
mod options;
mod reset;
mod serve;
mod tasks;

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use install::install;
pub use options::{Callers, Options, OptionsError, Task, parse};
pub use tasks::Site;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    agent::Agent,
    container::MainCommand,
    environment::Environment,
    executor::ExecutorDoor,
    grpc::GrpcDoor,
    serve::{listen, listen_at, serve_grpc, serve_health, serve_routes},
    tasks::Tasks,
};

/// How long what runs may take to go when the agent goes.
const FAREWELL: Duration = Duration::from_secs(5);

/// Where records are kept when nobody says: the first that can be written to.
const STATE_PLACES: [&str; 3] = [
    "/var/lib/sandlot-agent",
    "/run/sandlot-agent",
    "/tmp/.sandlot-agent",
];

/// Why the agent does not serve.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No port of the gRPC door could be had.
    #[error("no gRPC port could be opened ({0}): choose others with --grpc-port")]
    NoPort(io::Error),
    /// Records have no place.
    #[error(
        "no folder for records can be written to ({0}): mount one and name it with --state-dir"
    )]
    NoState(io::Error),
    /// The keys are of no use.
    #[error("the keys in the variables are of no use: {0}")]
    Access(#[from] sandlot_access::AccessError),
    /// The container's own command does not start.
    #[error("the container's command could not be started: {0}")]
    Command(io::Error),
    /// The system refused something else.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl AgentError {
    /// The exit code for it.
    pub fn code(&self) -> i32 {
        match self {
            Self::Command(error) => container::code_of_failed_start(error),
            _ => 1,
        }
    }
}

/// Serves as asked until the container's command ends or the agent is told to go. Returns the
/// exit code.
pub async fn serve(
    options: Options,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<i32, AgentError> {
    container::adopt_orphans();
    let tls = match &options.callers {
        Callers::Anybody => None,
        Callers::Holders { own, callers } => {
            close_to_others()?;
            Some(TlsAcceptor::from(sandlot_access::server(own, callers)?))
        }
    };
    let environment = Environment::new(variables);
    let main = options
        .command
        .map(|argv| MainCommand::new(argv, environment.plain()));
    // The ports first: nobody else in this container has run yet, so nobody else can have them.
    let listeners = grpc_listeners(&options.grpc_ports)?;
    let health = options.http_port.map(listen).transpose();
    let executor = options
        .tasks
        .map(listen_at)
        .transpose()
        .map_err(AgentError::NoPort)?;
    let state = state_folder(options.state)?;
    let agent = Agent::open(options.workspace, &state, environment, main.clone())
        .await
        .map_err(AgentError::NoState)?;
    let agent = Arc::new(agent);

    let stop = CancellationToken::new();
    let grpc = tokio::spawn(serve_grpc(
        GrpcDoor::new(agent.clone()),
        ExecutorDoor::new(agent.clone(), &state, options.python_ahead),
        listeners,
        tls.clone(),
        stop.clone(),
    ));
    match health {
        Ok(None) => {}
        Ok(Some(listener)) => {
            tokio::spawn(serve_health(listener, stop.clone()));
        }
        Err(error) => eprintln!("sandlot-agent: no health door: {error}"),
    }
    if let Some(listener) = executor {
        let tasks = Tasks::open(agent.clone(), options.site, &state)
            .await
            .map_err(AgentError::NoState)?;
        tokio::spawn(serve_routes(
            tasks::router(tasks),
            listener,
            tls,
            stop.clone(),
        ));
    }
    let lived = container::live(main).await.map_err(AgentError::Command);
    stop.cancel();
    let _ = tokio::time::timeout(FAREWELL, agent.supervisor.kill_all()).await;
    grpc.abort();
    lived
}

/// Closes this process's memory and start environment, where its key is, to everybody with
/// the same uid.
fn close_to_others() -> io::Result<()> {
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}

/// Opens as many of the ports as can be had, at least one.
fn grpc_listeners(ports: &[u16]) -> Result<Vec<tokio::net::TcpListener>, AgentError> {
    let (mut open, mut failed) = (Vec::new(), None);
    for port in ports {
        match listen(*port) {
            Ok(listener) => open.push(listener),
            Err(error) => {
                eprintln!("sandlot-agent: port {port}: {error}");
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if open.is_empty() => Err(AgentError::NoPort(error)),
        _ => Ok(open),
    }
}

fn state_folder(wanted: Option<PathBuf>) -> Result<PathBuf, AgentError> {
    if let Some(wanted) = wanted {
        return Ok(wanted);
    }
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for place in STATE_PLACES {
        match writable(Path::new(place)) {
            Ok(()) => return Ok(place.into()),
            Err(error) => refused = error,
        }
    }
    Err(AgentError::NoState(refused))
}

fn writable(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK)?;
    Ok(())
}
