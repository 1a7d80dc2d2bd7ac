//! An agent that pretends: `say X` prints, `fail N` exits, `hang` runs until it is killed or
//! released. What has been asked for under a key is never started twice.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::Stream;
use sandlot_api::agent::{
    ExecLog, ExecRequest, FileRequest, FileResponse, ResetRequest, ResetResponse, RunsReply,
    RunsRequest, ShellInput, ShellOutput, SignalRequest, SignalResponse,
    agent_service_server::{AgentService, AgentServiceServer},
};
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

#[derive(Default)]
pub struct PretendAgent {
    runs: Mutex<HashMap<String, Arc<Run>>>,
    files: Mutex<HashMap<String, (String, String)>>,
    resets: Mutex<usize>,
}

struct Run {
    command: Vec<String>,
    /// How often it was asked for.
    asked: Mutex<usize>,
    end: watch::Sender<Option<i32>>,
}

impl PretendAgent {
    pub async fn serve() -> (Arc<Self>, u16) {
        let agent = Arc::new(Self::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = AgentServiceServer::new(Door(agent.clone()));
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        (agent, port)
    }

    /// The commands that were started, in no order.
    pub fn started(&self) -> Vec<String> {
        let runs = self.runs.lock().unwrap();
        runs.values().map(|run| run.command.join(" ")).collect()
    }

    /// How often anything was asked for, counting attaches.
    pub fn asked(&self) -> usize {
        let runs = self.runs.lock().unwrap();
        runs.values().map(|run| *run.asked.lock().unwrap()).sum()
    }

    /// The files written so far, by path.
    pub fn files(&self) -> HashMap<String, String> {
        self.files.lock().unwrap().values().cloned().collect()
    }

    pub fn resets(&self) -> usize {
        *self.resets.lock().unwrap()
    }

    /// Lets everything that hangs come to a good end.
    pub fn release(&self) {
        for run in self.runs.lock().unwrap().values() {
            run.end
                .send_if_modified(|end| end.is_none().then(|| *end = Some(0)).is_some());
        }
    }

    /// Whether something that hung was killed.
    pub fn killed(&self) -> bool {
        self.runs
            .lock()
            .unwrap()
            .values()
            .any(|run| *run.end.borrow() == Some(-9))
    }

    /// Waits until so many commands have been started.
    pub async fn until_started(&self, count: usize) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while self.started().len() < count {
            assert!(
                tokio::time::Instant::now() < deadline,
                "only {:?} started",
                self.started()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn until_killed(&self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !self.killed() {
            assert!(tokio::time::Instant::now() < deadline, "nothing was killed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

struct Door(Arc<PretendAgent>);

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AgentService for Door {
    type ExecuteStream = Frames<ExecLog>;
    type InteractiveShellStream = Frames<ShellOutput>;

    async fn execute(
        &self,
        request: Request<ExecRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let request = request.into_inner();
        let run = {
            let mut runs = self.0.runs.lock().unwrap();
            if request.attach_only && !runs.contains_key(&request.key) {
                return Err(Status::not_found("never started"));
            }
            let fresh = || {
                Arc::new(Run {
                    command: request.command.clone(),
                    asked: Mutex::new(0),
                    end: watch::Sender::new(None),
                })
            };
            runs.entry(request.key.clone())
                .or_insert_with(fresh)
                .clone()
        };
        *run.asked.lock().unwrap() += 1;
        let (word, rest) = run.command.split_first().expect("a command");
        let rest = rest.join(" ");
        let (output, code) = match word.as_str() {
            "say" => (format!("{rest}\n"), Some(0)),
            "fail" => (String::new(), rest.parse().ok()),
            _ => (String::new(), None),
        };
        let limit = Duration::from_millis(request.timeout_millis.max(1) as u64);
        let mut ended = run.end.subscribe();
        let frames = async_stream(move |frame| async move {
            if !output.is_empty() {
                let _ = frame
                    .send(Ok(ExecLog {
                        stdout: output,
                        pid: 7,
                        ..ExecLog::default()
                    }))
                    .await;
            }
            let code = match code {
                Some(code) => Some(code),
                None => match tokio::time::timeout(limit, ended.wait_for(Option::is_some)).await {
                    Ok(Ok(code)) => *code,
                    _ => None,
                },
            };
            let last = ExecLog {
                done: true,
                exit_code: code.unwrap_or(124).max(0),
                timed_out: code.is_none(),
                signal: if code == Some(-9) { 9 } else { 0 },
                ..ExecLog::default()
            };
            let _ = frame.send(Ok(last)).await;
        });
        Ok(Response::new(frames))
    }

    async fn update_files(
        &self,
        request: Request<FileRequest>,
    ) -> Result<Response<FileResponse>, Status> {
        let request = request.into_inner();
        let mut files = self.0.files.lock().unwrap();
        for (path, content) in request.files {
            if path.starts_with("/proc") {
                let message = format!("{path}: read-only");
                return Ok(Response::new(FileResponse {
                    success: false,
                    message,
                }));
            }
            files.entry(request.key.clone()).or_insert((path, content));
        }
        Ok(Response::new(FileResponse {
            success: true,
            message: String::new(),
        }))
    }

    async fn signal_process(
        &self,
        request: Request<SignalRequest>,
    ) -> Result<Response<SignalResponse>, Status> {
        if let Some(run) = self.0.runs.lock().unwrap().get(&request.get_ref().key) {
            run.end.send_replace(Some(-9));
        }
        Ok(Response::new(SignalResponse {
            success: true,
            message: String::new(),
        }))
    }

    async fn reset(&self, _: Request<ResetRequest>) -> Result<Response<ResetResponse>, Status> {
        *self.0.resets.lock().unwrap() += 1;
        Ok(Response::new(ResetResponse {
            success: true,
            message: String::new(),
        }))
    }

    async fn runs(&self, _: Request<RunsRequest>) -> Result<Response<RunsReply>, Status> {
        let runs = self.0.runs.lock().unwrap();
        let hangs = |run: &Run| run.command[0] == "hang" && run.end.borrow().is_none();
        let going = runs.iter().filter(|(_, run)| hangs(run));
        let keys = going.map(|(key, _)| key.clone()).collect();
        Ok(Response::new(RunsReply { keys }))
    }

    async fn interactive_shell(
        &self,
        _: Request<Streaming<ShellInput>>,
    ) -> Result<Response<Self::InteractiveShellStream>, Status> {
        Err(Status::unimplemented("no shell on this stage"))
    }
}

/// A stream fed by a future.
fn async_stream<T, F>(
    feed: impl FnOnce(tokio::sync::mpsc::Sender<Result<T, Status>>) -> F,
) -> Frames<T>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    tokio::spawn(feed(sender));
    Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))
}
