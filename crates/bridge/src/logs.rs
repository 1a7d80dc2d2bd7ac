//! Output of tasks on its way from robots to those who asked for it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use sandlot_api::robot::wire::{LogChunk, LogRequest, LogStream};
use tokio::sync::mpsc;

/// How many readers there are at most, and how many pieces may wait for one; who reads slower
/// misses nothing but the end: it is cut off and may ask again.
const READERS: usize = 256;
const WAITING: usize = 64;
/// How long a robot may say nothing to somebody who does not follow.
const SILENCE: Duration = Duration::from_secs(15);
/// After how many seconds a robot stops telling one who follows.
const FOLLOW: u64 = 3600;

/// Somebody wants to read what a task prints.
pub(crate) struct Ask {
    /// The Task's name.
    pub(crate) task: String,
    pub(crate) stream: LogStream,
    pub(crate) tail_bytes: Option<u64>,
    pub(crate) follow: bool,
    /// Where the pieces go.
    pub(crate) to: mpsc::Sender<LogChunk>,
}

/// Those who read.
#[derive(Default)]
pub(crate) struct Readers {
    open: HashMap<String, Reader>,
    requests: Vec<(String, LogRequest)>,
    last: u64,
}

struct Reader {
    robot: String,
    task: String,
    follow: bool,
    heard: Instant,
    /// The number of the piece that comes next.
    next: u64,
    to: mpsc::Sender<LogChunk>,
}

impl Readers {
    /// Passes a request on to the robot that has the task.
    pub(crate) fn open(&mut self, ask: Ask, robot: &str, task: &str) {
        self.close_idle();
        if self.open.len() >= READERS {
            refuse(&ask.to, "too many are reading: try again later");
            return;
        }
        self.last += 1;
        let id = format!("{:x}-{:016x}", self.last, rand::random::<u64>());
        self.requests.push((
            robot.to_owned(),
            LogRequest {
                id: id.clone(),
                task: task.to_owned(),
                stream: ask.stream,
                tail_bytes: ask.tail_bytes,
                follow: ask.follow,
                cancel: false,
                seconds: ask.follow.then_some(FOLLOW),
            },
        ));
        let reader = Reader {
            robot: robot.to_owned(),
            task: task.to_owned(),
            follow: ask.follow,
            heard: Instant::now(),
            next: 0,
            to: ask.to,
        };
        self.open.insert(id, reader);
    }

    /// A robot has sent a piece.
    pub(crate) fn hear(&mut self, robot: &str, id: &str, chunk: LogChunk) {
        let Some(reader) = self.open.get_mut(id).filter(|reader| reader.robot == robot) else {
            return;
        };
        reader.heard = Instant::now();
        // Said twice, as anything may be.
        if chunk.sequence < reader.next && chunk.error.is_none() {
            return;
        }
        let end = chunk.end || chunk.error.is_some();
        // One that has missed a piece must not take what comes next for it.
        let missed = chunk.sequence > reader.next;
        reader.next = chunk.sequence.saturating_add(1);
        let gone = missed || reader.to.try_send(chunk).is_err();
        if end || gone {
            self.close(id, !end);
        }
    }

    /// What robots are to be asked now.
    pub(crate) fn requests(&mut self) -> Vec<(String, LogRequest)> {
        std::mem::take(&mut self.requests)
    }

    fn close(&mut self, id: &str, tell: bool) {
        let Some(reader) = self.open.remove(id) else {
            return;
        };
        if tell {
            let request = LogRequest {
                id: id.to_owned(),
                task: reader.task,
                cancel: true,
                ..LogRequest::default()
            };
            self.requests.push((reader.robot, request));
        }
    }

    /// Lets go of those who have left, or wait for a robot that says nothing.
    pub(crate) fn close_idle(&mut self) {
        let idle = |reader: &Reader| !reader.follow && reader.heard.elapsed() > SILENCE;
        let over: Vec<String> = self
            .open
            .iter()
            .filter(|(_, reader)| reader.to.is_closed() || idle(reader))
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            if let Some(reader) = self.open.get(&id) {
                refuse(&reader.to, "the robot does not answer");
            }
            self.close(&id, true);
        }
    }
}

/// Tells a reader that there is nothing to read.
pub(crate) fn refuse(to: &mpsc::Sender<LogChunk>, why: &str) {
    let chunk = LogChunk {
        end: true,
        error: Some(why.to_owned()),
        ..LogChunk::default()
    };
    // One that has no room for it will see the end all the same.
    let _ = to.try_send(chunk);
}

/// A line to a reader.
pub(crate) fn line() -> (mpsc::Sender<LogChunk>, mpsc::Receiver<LogChunk>) {
    mpsc::channel(WAITING)
}
