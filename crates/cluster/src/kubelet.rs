//! What the API asks of whoever runs the pods: logs, exec, attach, port-forward, stats.
//!
//! On a real cluster the API server calls the kubelet over HTTPS; here the node is
//! handed over as this trait, and the API does the wire protocols itself.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// A future that owns what it needs.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// Bytes to read, whoever makes them.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes to write, whoever takes them.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Which container of which pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRef {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container; never empty, the API resolves the default.
    pub container: String,
}

/// What part of a log is wanted.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Keep on reading as the container writes.
    pub follow: bool,
    /// The log of the container's last run, not the present one.
    pub previous: bool,
    /// Only so many lines from the end.
    pub tail_lines: Option<u64>,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only what was written since this time.
    pub since: Option<jiff::Timestamp>,
    /// Begin each line with its time.
    pub timestamps: bool,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

/// The streams of an exec or attach. What the client did not ask for is `None`.
pub struct Streams {
    /// From the client to the process.
    pub stdin: Option<Reader>,
    /// From the process to the client.
    pub stdout: Option<Writer>,
    /// From the process to the client; `None` with a terminal.
    pub stderr: Option<Writer>,
    /// Whether the process gets a terminal.
    pub tty: bool,
    /// Sizes of the client's terminal as they change.
    pub resize: mpsc::Receiver<TerminalSize>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0 is success; 128 + n is death by signal n.
    pub code: i32,
}

/// Why the node could not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KubeletError {
    /// There is no such pod or container on this node.
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense for the container's present state.
    #[error("{0}")]
    BadRequest(String),
    /// Something failed on the node.
    #[error("{0}")]
    Internal(String),
}

/// Resource use of one container at one moment.
#[derive(Clone, Debug, Default)]
pub struct ContainerUsage {
    /// The container's name.
    pub name: String,
    /// CPU in use, in billionths of a core.
    pub cpu_nanocores: u64,
    /// Memory in use.
    pub memory_bytes: u64,
}

/// Resource use of one pod at one moment.
#[derive(Clone, Debug, Default)]
pub struct PodUsage {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// Each of its containers.
    pub containers: Vec<ContainerUsage>,
}

/// Whoever runs the pods.
pub trait Kubelet: Send + Sync + 'static {
    /// A container's log.
    fn logs(
        &self,
        of: ContainerRef,
        options: LogOptions,
    ) -> BoxFuture<'_, Result<BoxStream<'static, std::io::Result<Bytes>>, KubeletError>>;

    /// Runs a command in a container, until it ends or the future is dropped.
    fn exec(
        &self,
        of: ContainerRef,
        command: Vec<String>,
        streams: Streams,
    ) -> BoxFuture<'_, Result<Exit, KubeletError>>;

    /// Joins the streams of a container's main process, until it ends or the future is dropped.
    fn attach(
        &self,
        of: ContainerRef,
        streams: Streams,
    ) -> BoxFuture<'_, Result<Exit, KubeletError>>;

    /// Connects to a port inside a pod.
    fn connect(
        &self,
        namespace: String,
        pod: String,
        port: u16,
    ) -> BoxFuture<'_, Result<(Reader, Writer), KubeletError>>;

    /// What every pod uses now.
    fn usage(&self) -> BoxFuture<'_, Vec<PodUsage>>;
}
