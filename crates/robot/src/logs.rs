//! What tasks print, when somebody asks: the end of it, or all of it as it comes.

use std::{collections::HashMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use sandlot_api::robot::wire::{LogChunk, LogRequest, LogStream};
use sandlot_supervisor::{Chunk, Run, Stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// So many requests are answered at a time.
const MOST: usize = 8;
/// The most bytes of output in one message.
const PIECE: usize = 32 << 10;
/// How long the next one waits: some megabytes a second, which whoever reads can keep up with, and
/// which leave room for what else the robot says.
const PACE: Duration = Duration::from_millis(5);
/// How long output is followed for somebody who does not say, and for anybody at most.
const PATIENCE: Duration = Duration::from_secs(300);
const LONGEST: Duration = Duration::from_secs(3600);

/// Requests that are being answered.
pub(crate) struct Logs {
    answers: mpsc::Sender<(String, LogChunk)>,
    going: HashMap<String, CancellationToken>,
}

impl Logs {
    pub(crate) fn new(answers: mpsc::Sender<(String, LogChunk)>) -> Self {
        Self {
            answers,
            going: HashMap::new(),
        }
    }

    /// Takes a request. `run` is the task's present run, if the robot knows one.
    pub(crate) fn take(&mut self, request: LogRequest, run: Option<Run>) {
        self.going.retain(|_, going| !going.is_cancelled());
        if request.cancel {
            if let Some(going) = self.going.remove(&request.id) {
                going.cancel();
            }
            return;
        }
        let refused = match &run {
            None => Some("this robot knows no such task".to_owned()),
            Some(_) if self.going.len() >= MOST => Some(format!(
                "{MOST} requests are being answered already: try again later"
            )),
            Some(_) => None,
        };
        let Some(run) = run.filter(|_| refused.is_none()) else {
            let chunk = LogChunk {
                end: true,
                error: refused,
                ..LogChunk::default()
            };
            // With no room for it, whoever asked asks again.
            let _ = self.answers.try_send((request.id, chunk));
            return;
        };
        let stop = CancellationToken::new();
        if let Some(before) = self.going.insert(request.id.clone(), stop.clone()) {
            before.cancel();
        }
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let limit = request
                .seconds
                .map_or(PATIENCE, Duration::from_secs)
                .min(LONGEST);
            let answering = tokio::time::timeout(limit, answer(&request, &run, &answers));
            if let Some(Err(_)) = stop.run_until_cancelled(answering).await {
                let chunk = LogChunk {
                    end: true,
                    error: Some("it was followed for long enough: ask again".to_owned()),
                    ..LogChunk::default()
                };
                let _ = answers.send((request.id, chunk)).await;
            }
            stop.cancel();
        });
    }
}

async fn answer(request: &LogRequest, run: &Run, answers: &mpsc::Sender<(String, LogChunk)>) {
    let stream = match request.stream {
        LogStream::Stdout => Stream::Stdout,
        LogStream::Stderr => Stream::Stderr,
    };
    let from = match request.tail_bytes {
        Some(tail) => run.written(stream).saturating_sub(tail),
        None => 0,
    };
    let mut reader = run.output(stream, from);
    let mut sequence = 0;
    let mut say = async |data: &[u8], end: bool, error: Option<String>| {
        let chunk = LogChunk {
            sequence,
            data: STANDARD.encode(data),
            end,
            error,
        };
        sequence += 1;
        answers.send((request.id.clone(), chunk)).await.is_ok()
    };
    loop {
        let next = match request.follow {
            true => reader.next().await,
            false => reader.read(),
        };
        match next {
            Ok(Some(Chunk::Bytes(bytes))) => {
                for piece in bytes.chunks(PIECE) {
                    if !say(piece, false, None).await {
                        return;
                    }
                    tokio::time::sleep(PACE).await;
                }
            }
            Ok(Some(Chunk::Missing(_))) => {}
            Ok(None) => {
                say(&[], true, None).await;
                return;
            }
            Err(error) => {
                say(&[], true, Some(error.to_string())).await;
                return;
            }
        }
    }
}
