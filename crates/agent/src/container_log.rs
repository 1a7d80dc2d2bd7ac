//! Long output is told in the container's own log too, where all of it can be read when a task's
//! status has room for the beginning and the end only.
//!
//! The log is shared by everything in the container, so output stands there in blocks, each under
//! a line that says whose it is and where it belongs: `[KEY stdout from byte 131072]`.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use sandlot_supervisor::{Chunk, Key, Run, Stream};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// How many runs are known to have been told of; beyond that some may be told of twice.
const REMEMBERED: usize = 4096;

type Sink = Box<dyn AsyncWrite + Send + Unpin>;

/// The container's log, which is the agent's own standard output.
pub(crate) struct ContainerLog {
    /// Locked for a block at a time.
    sink: Arc<tokio::sync::Mutex<Sink>>,
    told: Mutex<HashSet<Key>>,
}

impl ContainerLog {
    pub(crate) fn new(sink: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self {
            sink: Arc::new(tokio::sync::Mutex::new(Box::new(sink))),
            told: Mutex::default(),
        }
    }

    /// Tells what a run prints, each stream once it is longer than `beyond` bytes. Asking again
    /// tells nothing twice.
    pub(crate) fn tell(&self, run: &Run, beyond: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED {
            told.clear();
        }
        if !told.insert(run.key().clone()) {
            return;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (run, sink) = (run.clone(), self.sink.clone());
            // Ends with the run, or with the agent.
            tokio::spawn(async move {
                if let Err(error) = follow(run, stream, beyond, sink).await {
                    // The log is gone, or the disk; the caller hears of neither through us.
                    eprintln!("sandlot-agent: output could not be told in the log: {error}");
                }
            });
        }
    }
}

async fn follow(
    run: Run,
    stream: Stream,
    beyond: u64,
    sink: Arc<tokio::sync::Mutex<Sink>>,
) -> io::Result<()> {
    let name = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    // Nothing is read, or kept, of a stream that stays short.
    let mut rest = run.output(stream, beyond);
    let mut next = rest.next().await?;
    if next.is_none() {
        return Ok(());
    }
    let mut first = run.output(stream, 0);
    while first.offset() < beyond {
        let at = first.offset();
        match first.read()? {
            Some(Chunk::Bytes(bytes)) => {
                let here = usize::try_from(beyond - at).unwrap_or(usize::MAX);
                let piece = bytes.slice(..bytes.len().min(here));
                write(&sink, run.key(), name, at, &piece).await?;
            }
            Some(Chunk::Missing(_)) => {}
            None => break,
        }
    }
    drop(first);
    while let Some(chunk) = next {
        if let Chunk::Bytes(bytes) = chunk {
            let at = rest.offset() - bytes.len() as u64;
            write(&sink, run.key(), name, at, &bytes).await?;
        }
        next = rest.next().await?;
    }
    Ok(())
}

async fn write(
    sink: &tokio::sync::Mutex<Sink>,
    key: &Key,
    stream: &str,
    at: u64,
    bytes: &Bytes,
) -> io::Result<()> {
    let mut sink = sink.lock().await;
    let head = format!("[{key} {stream} from byte {at}]\n");
    sink.write_all(head.as_bytes()).await?;
    sink.write_all(bytes).await?;
    if !bytes.ends_with(b"\n") {
        sink.write_all(b"\n").await?;
    }
    sink.flush().await
}
