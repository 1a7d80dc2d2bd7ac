//! A process under write load is killed again and again: nothing it acknowledged is lost.
//!
//! The child is this very test program, told by its environment to write instead of to test.
//! Writer `w` makes its `n`th write only when the one before is acknowledged, and what the
//! write does follows from `n` alone; so after a crash each key must be as after its last
//! acknowledged write, or as after the one that was on its way.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sandlot_store::{Change, Config, Expect, Key, Store};

const ROUNDS: u64 = 100;
const WRITERS: usize = 8;
const DATABASE: &str = "SANDLOT_TEST_CRASH_DATABASE";
const COUNTS: &str = "SANDLOT_TEST_CRASH_COUNTS";

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    if let Ok(database) = env::var(DATABASE) {
        return write_until_killed(Path::new(&database));
    }
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("data.db");
    let mut random = StdRng::seed_from_u64(7);
    let mut past = Past {
        revision: 0,
        counts: [0; WRITERS],
    };
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut child = spawn(&database, &past.counts);
        let (before, counts) = (past.revision, past.counts);
        kill_under_load(
            &mut child,
            &mut past,
            Duration::from_micros(random.random_range(0..30_000)),
        );
        acknowledged += past.counts.iter().sum::<u64>() - counts.iter().sum::<u64>();
        assert!(past.revision > before, "round {round}: nothing was written");
        past.check(&database);
    }
    assert!(
        acknowledged > ROUNDS * 10,
        "only {acknowledged} writes: no load to speak of"
    );
}

/// What is known to be on disk.
struct Past {
    revision: u64,
    /// How many writes of each writer were acknowledged.
    counts: [u64; WRITERS],
}

impl Past {
    fn acknowledge(&mut self, line: &str) {
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().unwrap());
        let (writer, count, revision) = (
            numbers.next().unwrap(),
            numbers.next().unwrap(),
            numbers.next().unwrap(),
        );
        let counted = &mut self.counts[usize::try_from(writer).unwrap()];
        assert_eq!(
            count,
            *counted + 1,
            "a write of writer {writer} was lost or done twice"
        );
        *counted = count;
        self.revision = self.revision.max(revision);
    }

    /// Opens what the killed process left, and takes note of writes it could not acknowledge.
    fn check(&mut self, database: &Path) {
        let store = Store::<()>::open(Config::at(database)).unwrap();
        assert!(store.revision() >= self.revision, "the revision went back");
        self.revision = store.revision();
        for (writer, count) in self.counts.iter_mut().enumerate() {
            let found = store.get(&key(writer)).map(|record| record.value.clone());
            if found != outcome(*count) {
                *count += 1;
                assert_eq!(
                    found,
                    outcome(*count),
                    "writer {writer} lost write {}",
                    *count - 1
                );
            }
        }
    }
}

fn key(writer: usize) -> Key {
    Key::new("counters", "crash", format!("writer-{writer}"))
}

/// What lives at a writer's key after its `n`th write: every fourth is a deletion.
fn outcome(n: u64) -> Option<Bytes> {
    (!n.is_multiple_of(4)).then(|| Bytes::from(format!("{n} ").repeat(300)))
}

fn spawn(database: &Path, counts: &[u64]) -> Child {
    let counts: Vec<_> = counts.iter().map(u64::to_string).collect();
    Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::nothing_acknowledged_is_lost_when_the_process_is_killed",
        ])
        .arg("--nocapture")
        .env(DATABASE, database)
        .env(COUNTS, counts.join(" "))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills the child a while after its first acknowledgement, and takes in all it acknowledged.
fn kill_under_load(child: &mut Child, past: &mut Past, pause: Duration) {
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = output
        .split(b'\n')
        .map(|line| String::from_utf8(line.unwrap()).unwrap());
    // Whatever comes before is the test program's own chatter.
    assert!(
        lines.any(|line| line.ends_with("begin")),
        "the child did not start"
    );
    // A line cut off by the kill has no full stop.
    let mut acknowledged = lines.filter_map(|line| Some(line.strip_suffix('.')?.to_owned()));
    past.acknowledge(&acknowledged.next().expect("an acknowledged write"));
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(pause);
            child.kill().unwrap();
            child.wait().unwrap();
        });
        acknowledged.for_each(|line| past.acknowledge(&line));
    });
}

/// The child's part.
fn write_until_killed(database: &Path) {
    let counts = env::var(COUNTS).unwrap();
    let counts = counts.split(' ').map(|count| count.parse::<u64>().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::open(Config::at(database)).unwrap();
        println!("begin");
        let writers: Vec<_> = counts
            .enumerate()
            .map(|(writer, count)| tokio::spawn(write(store.clone(), writer, count)))
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

async fn write(store: Store<()>, writer: usize, mut count: u64) {
    loop {
        count += 1;
        let expect = store
            .get(&key(writer))
            .map(|record| Expect::Revision(record.revision));
        let change = match outcome(count) {
            Some(value) => Change::put((), move |_| value),
            None => Change::delete((), |_| Bytes::new()),
        };
        let written = store
            .write(key(writer), expect.unwrap_or(Expect::Absent), change)
            .await;
        let line = format!("{writer} {count} {}.\n", written.unwrap().revision);
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}
