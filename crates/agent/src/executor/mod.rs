//! The executor: runs a session's code over the one supervisor, says what it returned and
//! which files it left, and takes and gives files of the workspace.

mod called_off;
mod changes;
mod files;
mod given;
mod headcount;
mod program;
mod results;
mod run;
mod shell;
mod spare;
mod told;

use std::{path::Path, sync::Arc};

use futures::stream::BoxStream;
use sandlot_api::executor::{
    FileChunk, FilePart, PrepareRequest, Prepared, ReadRequest, RunEvent, RunRequest, StopRequest,
    Stopped, Written, executor_server::Executor,
};
use tonic::{Request, Response, Status, Streaming};

use crate::agent::Agent;

pub(crate) use results::Results;

use called_off::CalledOff;
use headcount::Headcount;
use spare::Spares;

/// Serves the executor's gRPC calls.
#[derive(Clone)]
pub(crate) struct ExecutorDoor {
    agent: Arc<Agent>,
    results: Arc<Results>,
    spares: Arc<Spares>,
    headcount: Arc<Headcount>,
    called_off: Arc<CalledOff>,
}

impl ExecutorDoor {
    /// A door to this agent that keeps what code returned below `state`. With `python_ahead` an
    /// interpreter waits from now on.
    pub(crate) fn new(agent: Arc<Agent>, state: &Path, python_ahead: bool) -> Self {
        let results = Arc::new(Results::new(state.join("results")));
        let spares = Arc::new(Spares::new(agent.clone(), state.join("given")));
        run::make_ahead(&results);
        if python_ahead {
            let spares = spares.clone();
            tokio::spawn(async move { spares.prepare_ahead().await });
        }
        Self {
            agent,
            results,
            spares,
            headcount: Arc::default(),
            called_off: Arc::default(),
        }
    }
}

#[tonic::async_trait]
impl Executor for ExecutorDoor {
    type RunStream = BoxStream<'static, Result<RunEvent, Status>>;
    type ReadStream = BoxStream<'static, Result<FileChunk, Status>>;

    async fn run(&self, request: Request<RunRequest>) -> Result<Response<Self::RunStream>, Status> {
        run::run(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<Stopped>, Status> {
        run::stop(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn prepare(
        &self,
        request: Request<PrepareRequest>,
    ) -> Result<Response<Prepared>, Status> {
        let PrepareRequest { env, briefly } = request.into_inner();
        let env = self.agent.environment.with(env);
        self.spares.prepare(env, !briefly).await;
        Ok(Response::new(Prepared {}))
    }

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        files::read(&self.agent.grounds, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn write(
        &self,
        request: Request<Streaming<FilePart>>,
    ) -> Result<Response<Written>, Status> {
        files::write(&self.agent.grounds, request.into_inner())
            .await
            .map(Response::new)
    }
}
