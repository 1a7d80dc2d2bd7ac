//! What a user of the supervisor notices: commands, their output, their ends.

mod ends;
mod floods;
mod once;
mod trees;

use std::{sync::Arc, time::Duration};

use sandlot_supervisor::{
    Chunk, Key, Launch, Limits, Memory, Outcome, Reader, Run, Stream, Supervisor,
};
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

struct Fixture {
    supervisor: Supervisor,
    dir: TempDir,
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::open(&dir.path().join("state"), Limits::default())
        .await
        .unwrap();
    Fixture { supervisor, dir }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// A shell script with a usual PATH and short grace.
fn script(text: &str) -> Launch {
    let mut launch = Launch::new(["/bin/sh", "-c", text]);
    launch
        .env
        .push(("PATH".into(), std::env::var_os("PATH").unwrap()));
    launch.grace = Duration::from_millis(300);
    launch.memory = Memory::Passing;
    launch
}

impl Fixture {
    async fn run(&self, launch: Launch) -> Run {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.supervisor
            .start(key(&format!("run {number}")), launch)
            .await
            .unwrap()
    }

    async fn finish(&self, launch: Launch) -> (Arc<Outcome>, String, String) {
        let run = self.run(launch).await;
        let outcome = ended(&run).await;
        let out = read_all(run.output(Stream::Stdout, 0)).await;
        let err = read_all(run.output(Stream::Stderr, 0)).await;
        (
            outcome,
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        )
    }
}

async fn ended(run: &Run) -> Arc<Outcome> {
    tokio::time::timeout(LONG, run.ended())
        .await
        .expect("ends in time")
        .expect("its supervisor is there")
}

async fn read_all(mut reader: Reader) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = tokio::time::timeout(LONG, reader.next())
        .await
        .unwrap()
        .unwrap()
    {
        match chunk {
            Chunk::Bytes(bytes) => all.extend_from_slice(&bytes),
            Chunk::Missing(bytes) => panic!("{bytes} bytes are missing"),
        }
    }
    all
}

/// Reads until the command has said `word`.
async fn wait_for(run: &Run, word: &str) -> String {
    let mut reader = run.output(Stream::Stdout, 0);
    let mut text = String::new();
    while !text.contains(word) {
        match tokio::time::timeout(LONG, reader.next())
            .await
            .unwrap()
            .unwrap()
        {
            Some(Chunk::Bytes(bytes)) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            other => panic!("ended with {other:?} after {text:?}, before {word:?}"),
        }
    }
    text
}

/// Whether a process lives: there and no zombie.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

/// Waits for something to become true.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}
