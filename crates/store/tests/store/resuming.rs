//! Many writers, and watchers who drop and resume as they please: what they see is history.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sandlot_store::{Change, Config, Event, Expect, Key, Range, Record, Store, Watch};

const WRITERS: u64 = 8;
const WATCHERS: u64 = 16;
const WRITES: usize = 30;

/// One acknowledged write.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    revision: u64,
    key: Key,
    value: Bytes,
    deleted: bool,
}

impl Written {
    fn new(record: &Record<()>, deleted: bool) -> Self {
        let Record {
            key,
            revision,
            value,
            ..
        } = record;
        Written {
            revision: *revision,
            key: key.clone(),
            value: value.clone(),
            deleted,
        }
    }
}

/// What a watcher went through.
#[derive(Debug)]
enum Seen {
    /// It listed the records as of a revision.
    Listed(u64, Vec<(Key, u64)>),
    /// It was told of a change and of the version before.
    Change(Written, Option<u64>),
    /// It dropped its watch and resumed after a revision.
    Resumed(u64),
}

#[test]
fn watchers_in_memory_see_every_change_once_and_in_order() {
    for seed in 0..150 {
        play(seed, Config::in_memory());
    }
}

#[test]
fn watchers_on_disk_see_every_change_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 150..200 {
        // All but a few versions of the past go to disk.
        let config = Config {
            history_bytes: 100,
            ..Config::at(folder.path().join(format!("{seed}.db")))
        };
        play(seed, config);
    }
}

/// Runs writers and watchers against a store, and compares what they saw.
fn play(seed: u64, config: Config) {
    // Every other time history is short, so that watchers lag and expire.
    let short = seed % 2 == 1;
    let config = Config {
        history_revisions: if short { 20 } else { 10_000 },
        history_age: Duration::from_secs(if short { 0 } else { 300 }),
        writes_in_flight: 1 + seed as usize % 9,
        ..config
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let (history, watchers) = runtime.block_on(async {
        let store = Store::open(config).unwrap();
        let start = |number| StdRng::seed_from_u64(seed << 8 | number);
        let watchers: Vec<_> = (0..WATCHERS)
            .map(|number| tokio::spawn(watch(store.clone(), start(number))))
            .collect();
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| tokio::spawn(write(store.clone(), start(100 + number))))
            .collect();
        let mut history = Vec::new();
        for writer in writers {
            history.extend(writer.await.unwrap());
        }
        store.close().await;
        let mut seen = Vec::new();
        for watcher in watchers {
            seen.push(watcher.await.unwrap());
        }
        (history, seen)
    });
    let history = in_order(history);
    for (range, seen) in watchers {
        compare(&history, &range, &seen).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

fn any_key(random: &mut StdRng) -> Key {
    Key::new(
        *["pods", "nodes"].choose(random).unwrap(),
        *["x", "y", "z"].choose(random).unwrap(),
        *["a", "b"].choose(random).unwrap(),
    )
}

/// Writes at random, and returns what was acknowledged.
async fn write(store: Store<()>, mut random: StdRng) -> Vec<Written> {
    let mut acknowledged = Vec::new();
    for _ in 0..WRITES {
        let key = any_key(&mut random);
        let current = if random.random() {
            store.get(&key)
        } else {
            store.latest(&key)
        };
        let expect = current.map_or(Expect::Absent, |record| Expect::Revision(record.revision));
        let deleted = expect != Expect::Absent && random.random_ratio(1, 3);
        let render = |revision: u64| Bytes::from(format!("version {revision}"));
        let change = if deleted {
            Change::delete((), render)
        } else {
            Change::put((), render)
        };
        if let Ok(record) = store.write(key, expect, change).await {
            acknowledged.push(Written::new(&record, deleted));
        }
        if random.random_ratio(1, 4) {
            tokio::task::yield_now().await;
        }
    }
    acknowledged
}

/// Watches a random range until the store is closed, dropping and resuming at random, some of the
/// time ahead of the disk.
async fn watch(store: Store<()>, mut random: StdRng) -> (Range, Vec<Seen>) {
    let mut range = Range::all(any_key(&mut random).kind);
    if random.random() {
        range.namespace = Some(any_key(&mut random).namespace);
    }
    let mut seen = Vec::new();
    let mut last;
    let (_, mut watch) = relist(&store, &range, &mut seen, random.random());
    loop {
        match watch.next().await {
            None => return (range, seen),
            Some(Ok(Event {
                record,
                previous,
                deleted,
                ..
            })) => {
                last = record.revision;
                let previous = previous.map(|previous| previous.revision);
                seen.push(Seen::Change(Written::new(&record, deleted), previous));
            }
            Some(Err(_)) => (last, watch) = relist(&store, &range, &mut seen, random.random()),
        }
        if random.random_ratio(1, 5) {
            let after = if random.random() {
                last
            } else {
                watch.progress()
            };
            drop(watch);
            for _ in 0..random.random_range(0..30) {
                tokio::task::yield_now().await;
            }
            let ahead = random.random();
            let resumed = match ahead {
                true => store.watch_ahead(range.clone(), after),
                false => store.watch(range.clone(), after),
            };
            watch = match resumed {
                Ok(watch) => {
                    seen.push(Seen::Resumed(after));
                    watch
                }
                Err(_) => relist(&store, &range, &mut seen, ahead).1,
            };
        }
    }
}

fn relist(store: &Store<()>, range: &Range, seen: &mut Vec<Seen>, ahead: bool) -> (u64, Watch<()>) {
    let (listing, watch) = match ahead {
        true => store.list_and_watch_ahead(range.clone()),
        false => store.list_and_watch(range.clone()),
    };
    let versions = |record: &Arc<Record<()>>| (record.key.clone(), record.revision);
    seen.push(Seen::Listed(
        listing.revision,
        listing.records.iter().map(versions).collect(),
    ));
    (listing.revision, watch)
}

/// All writes by revision, which leave no gap.
fn in_order(mut history: Vec<Written>) -> Vec<Written> {
    history.sort_by_key(|written| written.revision);
    for (index, written) in history.iter().enumerate() {
        assert_eq!(
            written.revision,
            index as u64 + 1,
            "a revision is missing or double"
        );
        assert_eq!(written.value, format!("version {}", written.revision));
    }
    history
}

/// Where in history a watcher is, and what lives there in its range.
#[derive(Default)]
struct Place {
    at: u64,
    live: BTreeMap<Key, u64>,
}

impl Place {
    /// Moves on to just after a revision, and counts what the watcher would miss.
    fn advance(&mut self, history: &[Written], range: &Range, to: u64) -> usize {
        let mut passed = 0;
        let between = |written: &&Written| self.at < written.revision && written.revision <= to;
        for written in history.iter().filter(between) {
            if range.contains(&written.key) {
                passed += 1;
                match written.deleted {
                    true => self.live.remove(&written.key),
                    false => self.live.insert(written.key.clone(), written.revision),
                };
            }
        }
        self.at = self.at.max(to);
        passed
    }
}

/// Whether what a watcher saw is what happened.
fn compare(history: &[Written], range: &Range, seen: &[Seen]) -> Result<(), String> {
    let mut place = Place::default();
    for step in seen {
        match step {
            Seen::Listed(revision, versions) => {
                // A list is of what is on disk, and who ran ahead had come further.
                if *revision < place.at {
                    place = Place::default();
                }
                place.advance(history, range, *revision);
                let expected: Vec<_> = place.live.clone().into_iter().collect();
                if *versions != expected {
                    return Err(format!(
                        "at {revision}: listed {versions:?}, not {expected:?}"
                    ));
                }
            }
            Seen::Resumed(after) => {
                if place.advance(history, range, *after) > 0 {
                    return Err(format!("progress {after} ran ahead of delivery"));
                }
            }
            Seen::Change(change, previous) => {
                if previous.as_ref() != place.live.get(&change.key) {
                    return Err(format!("{change:?} replaced {previous:?}"));
                }
                let real = &history[change.revision as usize - 1];
                if real != change || place.advance(history, range, change.revision) != 1 {
                    return Err(format!("{change:?} came double, late or early"));
                }
            }
        }
    }
    match place.advance(history, range, u64::MAX) {
        0 => Ok(()),
        missed => Err(format!("the last {missed} changes never came")),
    }
}
