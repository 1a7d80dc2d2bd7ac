//! The gRPC door: `arl.sidecar.AgentService`, as existing clients of the sidecar call it.

mod execute;
mod shell;
mod text;

use std::sync::{Arc, PoisonError};

use futures::stream::BoxStream;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandlot_api::agent::{
    ExecLog, ExecRequest, FileRequest, FileResponse, ResetRequest, ResetResponse, RunsReply,
    RunsRequest, ShellInput, ShellOutput, SignalRequest, SignalResponse,
    agent_service_server::AgentService,
};
use sandlot_supervisor::Key;
use tonic::{Request, Response, Status, Streaming};

use crate::{agent::Agent, files};

/// Serves the agent's gRPC calls.
#[derive(Clone)]
pub(crate) struct GrpcDoor(Arc<Agent>);

impl GrpcDoor {
    /// A door to this agent.
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Self(agent)
    }
}

#[tonic::async_trait]
impl AgentService for GrpcDoor {
    type ExecuteStream = BoxStream<'static, Result<ExecLog, Status>>;
    type InteractiveShellStream = BoxStream<'static, Result<ShellOutput, Status>>;

    async fn update_files(
        &self,
        request: Request<FileRequest>,
    ) -> Result<Response<FileResponse>, Status> {
        let agent = self.0.clone();
        let request = request.into_inner();
        let work = move || update_files(&agent, request);
        let (success, message) = match tokio::task::spawn_blocking(work).await.map_err(broken)? {
            Ok(message) => (true, message),
            Err(message) => (false, message),
        };
        Ok(Response::new(FileResponse { success, message }))
    }

    async fn execute(
        &self,
        request: Request<ExecRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        execute::execute(&self.0, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn signal_process(
        &self,
        request: Request<SignalRequest>,
    ) -> Result<Response<SignalResponse>, Status> {
        let (success, message) = match self.signal(request.into_inner()).await {
            Ok(message) => (true, message),
            Err(message) => (false, message),
        };
        Ok(Response::new(SignalResponse { success, message }))
    }

    async fn reset(
        &self,
        request: Request<ResetRequest>,
    ) -> Result<Response<ResetResponse>, Status> {
        let (success, message) = match self.0.reset(request.into_inner().preserve_files).await {
            Ok(message) => (true, message),
            Err(message) => (false, message),
        };
        Ok(Response::new(ResetResponse { success, message }))
    }

    async fn interactive_shell(
        &self,
        request: Request<Streaming<ShellInput>>,
    ) -> Result<Response<Self::InteractiveShellStream>, Status> {
        shell::open(&self.0, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn runs(&self, _: Request<RunsRequest>) -> Result<Response<RunsReply>, Status> {
        let runs = self.0.supervisor.runs();
        let going = runs.iter().filter(|run| run.outcome().is_none());
        let keys = going.map(|run| run.key().to_string()).collect();
        Ok(Response::new(RunsReply { keys }))
    }
}

/// Updates files, or repeats the answer when that was done under the same key before.
fn update_files(agent: &Agent, request: FileRequest) -> Result<String, String> {
    let FileRequest {
        base_path,
        files,
        patch,
        blobs,
        key,
        patch_path,
    } = request;
    let diff = files::Diff {
        text: &patch,
        path: Some(patch_path.as_str()).filter(|path| !path.is_empty()),
    };
    let files = files
        .into_iter()
        .map(|(path, text)| (path, text.into()))
        .chain(blobs);
    let update = || {
        files::update(&agent.grounds, &base_path, files, &diff).map_err(|error| error.to_string())
    };
    if key.is_empty() {
        return update().map(|changes| told(&changes));
    }
    // Held throughout: a second request with the key waits for the first one's answer.
    let mut answers = agent.answers.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(answer) = answers.get(&key) {
        return Ok(answer.to_owned());
    }
    let answer = told(&update()?);
    answers
        .keep(key, answer.clone())
        .map_err(|error| format!("the files are written, but not noted: {error}"))?;
    Ok(answer)
}

impl GrpcDoor {
    async fn signal(&self, request: SignalRequest) -> Result<String, String> {
        if !request.key.is_empty() {
            return self.signal_run(request).await;
        }
        let signal = parse_signal(&request.signal)?;
        // 0 and negative numbers mean groups and everybody; 1 is the agent or the pod's own.
        if request.pid <= 1 || request.pid == std::process::id().cast_signed() {
            return Err(format!(
                "process {} is not one that can be signalled",
                request.pid
            ));
        }
        kill(Pid::from_raw(request.pid), signal)
            .map_err(|error| format!("process {}: {}", request.pid, error.desc()))?;
        Ok(format!("sent {signal} to process {}", request.pid))
    }

    async fn signal_run(&self, request: SignalRequest) -> Result<String, String> {
        let key = Key::new(request.key).map_err(|error| error.to_string())?;
        let found = self
            .0
            .supervisor
            .find(&key)
            .await
            .map_err(|error| error.to_string())?;
        let run = found.ok_or_else(|| format!("no run has the key {key}"))?;
        if request.stop {
            run.stop();
            run.swept().await;
            return Ok(format!("{key} is stopped, none of its processes is left"));
        }
        let signal = parse_signal(&request.signal)?;
        let count = run.signal(signal).await;
        Ok(format!("sent {signal} to {count} processes of {key}"))
    }
}

/// A signal by name, with or without SIG, in any case, or by number.
fn parse_signal(name: &str) -> Result<Signal, String> {
    let upper = name.trim().to_uppercase();
    let full = if upper.starts_with("SIG") {
        upper.clone()
    } else {
        format!("SIG{upper}")
    };
    let by_number = || Signal::try_from(upper.parse::<i32>().ok()?).ok();
    full.parse()
        .ok()
        .or_else(by_number)
        .ok_or_else(|| format!("{name:?} is not a signal: use TERM, INT, KILL, …"))
}

fn told(changes: &[files::Change]) -> String {
    match changes {
        [] => "nothing to do".to_owned(),
        [one] => format!("updated {}", one.path()),
        many => format!("updated {} files", many.len()),
    }
}

/// An error that only a bug can cause.
fn broken(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_any_usual_name() {
        for name in ["TERM", "SIGTERM", "sigterm", "15", " term "] {
            assert_eq!(parse_signal(name), Ok(Signal::SIGTERM), "{name:?}");
        }
        assert!(
            parse_signal("HELLO").is_err()
                && parse_signal("").is_err()
                && parse_signal("0").is_err()
        );
    }
}
