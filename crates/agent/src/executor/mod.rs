//! The executor: runs a session's code over the one supervisor, says what it returned and
//! which files it left, and takes and gives files of the workspace.

mod changes;
mod files;
mod program;
mod results;
mod run;
mod shell;

use std::{path::Path, sync::Arc};

use futures::stream::BoxStream;
use sandlot_api::executor::{
    FileChunk, FilePart, ReadRequest, RunEvent, RunRequest, Written, executor_server::Executor,
};
use tonic::{Request, Response, Status, Streaming};

use crate::agent::Agent;

pub(crate) use results::Results;

/// Serves the executor's gRPC calls.
#[derive(Clone)]
pub(crate) struct ExecutorDoor {
    agent: Arc<Agent>,
    results: Arc<Results>,
}

impl ExecutorDoor {
    /// A door to this agent that keeps what code returned below `state`.
    pub(crate) fn new(agent: Arc<Agent>, state: &Path) -> Self {
        let results = Arc::new(Results::new(state.join("results")));
        Self { agent, results }
    }
}

#[tonic::async_trait]
impl Executor for ExecutorDoor {
    type RunStream = BoxStream<'static, Result<RunEvent, Status>>;
    type ReadStream = BoxStream<'static, Result<FileChunk, Status>>;

    async fn run(&self, request: Request<RunRequest>) -> Result<Response<Self::RunStream>, Status> {
        run::run(&self.agent, &self.results, request.into_inner())
            .await
            .map(Response::new)
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
