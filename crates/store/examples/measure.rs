//! Measures a store on this machine: `cargo run --release -p sandlot-store --example measure`.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sandlot_store::{Change, Config, Expect, Key, Range, Store};

const VALUE: usize = 2048;

fn main() {
    let folder = tempfile::tempdir_in(".").expect("a folder to write to");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build();
    runtime.expect("a runtime").block_on(async {
        // First, while nothing has been allocated and freed yet.
        ten_thousand_records(&folder.path().join("memory.db")).await;
        one_writer(&folder.path().join("one.db")).await;
        many_writers(&folder.path().join("many.db")).await;
        hundred_watchers(&folder.path().join("watched.db")).await;
        restart(&folder.path().join("restart.db")).await;
    });
}

fn open(path: &Path) -> Store<()> {
    Store::open(Config::at(path)).expect("a store")
}

async fn create(store: &Store<()>, name: String) {
    let put = Change::put((), |_| Bytes::from(vec![b'x'; VALUE]));
    let key = Key::new("things", "default", name);
    store
        .write(key, Expect::Absent, put)
        .await
        .expect("a write");
}

/// Creates records with so many writers, and returns how long each write took.
async fn create_all(store: &Store<()>, writers: usize, each: usize) -> Vec<Duration> {
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut took = Vec::with_capacity(each);
                for number in 0..each {
                    let begun = Instant::now();
                    create(&store, format!("thing-{writer}-{number}")).await;
                    took.push(begun.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.expect("a writer"));
    }
    took
}

fn report(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("{what}: p50 {p50:.2?}, p99 {p99:.2?}");
}

async fn one_writer(path: &Path) {
    let store = open(path);
    report(
        "one writer, a durable write",
        create_all(&store, 1, 3000).await,
    );
}

async fn many_writers(path: &Path) {
    let store = open(path);
    let begun = Instant::now();
    let took = create_all(&store, 64, 500).await;
    let rate = took.len() as f64 / begun.elapsed().as_secs_f64();
    report(&format!("64 writers, {rate:.0} durable writes/s"), took);
    let stats = store.stats();
    println!(
        "  in {} commits of {:.2?}",
        stats.commits,
        stats.commit_time / stats.commits as u32
    );
}

async fn hundred_watchers(path: &Path) {
    let store = open(path);
    let watchers: Vec<_> = (0..100)
        .map(|_| {
            let mut watch = store.watch(Range::all("things"), 0).expect("a watch");
            tokio::spawn(async move {
                let mut arrived = Vec::new();
                while let Some(Ok(event)) = watch.next().await {
                    arrived.push((event.revision, Instant::now()));
                }
                arrived
            })
        })
        .collect();
    let mut acknowledged = Vec::new();
    for number in 0..1000 {
        create(&store, format!("thing-{number}")).await;
        acknowledged.push(Instant::now());
    }
    store.close().await;
    let mut took = Vec::new();
    for watcher in watchers {
        for (revision, at) in watcher.await.expect("a watcher") {
            took.push(at.saturating_duration_since(acknowledged[revision as usize - 1]));
        }
    }
    report("100 watchers, from acknowledgement to delivery", took);
}

async fn ten_thousand_records(path: &Path) {
    let before = resident();
    let store = open(path);
    create_all(&store, 64, 10_000 / 64 + 1).await;
    let after = resident();
    println!(
        "10,000 records of 2 KiB: {} KiB resident",
        after.saturating_sub(before)
    );
    let begun = Instant::now();
    let listing = store.list(&Range::all("things"));
    println!(
        "  listed {} in {:.2?}",
        listing.records.len(),
        begun.elapsed()
    );
}

async fn restart(path: &Path) {
    let store = open(path);
    create_all(&store, 1000, 100).await;
    store.close().await;
    drop(store);
    let begun = Instant::now();
    let store = open(path);
    println!("restart with 100,000 records: {:.2?}", begun.elapsed());
    assert_eq!(store.list(&Range::all("things")).records.len(), 100_000);
}

/// This process's resident memory in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}
