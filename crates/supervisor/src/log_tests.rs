use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;
use crate::stock::Owner;

const KEEP: Keep = Keep {
    head: 100,
    tail: 1000,
};

/// A log in this folder, with what is there of it.
fn log_in(dir: &tempfile::TempDir) -> Arc<Log> {
    log_that_keeps(dir, KEEP)
}

fn log_that_keeps(dir: &tempfile::TempDir, keep: Keep) -> Arc<Log> {
    let names = std::fs::read_dir(dir.path()).unwrap();
    let starts = names.filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_prefix("stdout.")?.parse().ok()
    });
    let stock = Arc::new(Stock::new(dir.path(), Owner::One));
    Log::open(dir.path().join("stdout"), keep, starts, stock).unwrap()
}

fn write(log: &Log, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let moved = log
            .append(|file, at, room| {
                let part = &bytes[..bytes.len().min(room)];
                file.write_all_at(part, at)?;
                Ok(part.len())
            })
            .unwrap();
        bytes = &bytes[moved..];
    }
}

fn read_all(reader: &mut Reader) -> Vec<Chunk> {
    std::iter::from_fn(|| reader.read().unwrap()).collect()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

/// Puts pieces together; a gap becomes its length.
fn joined(chunks: &[Chunk]) -> (Vec<u8>, u64) {
    let (mut bytes, mut missing) = (Vec::new(), 0);
    for chunk in chunks {
        match chunk {
            Chunk::Bytes(part) => bytes.extend_from_slice(part),
            Chunk::Missing(gap) => missing += gap,
        }
    }
    (bytes, missing)
}

#[test]
fn small_output_is_kept_whole() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(&dir);
    write(&log, &pattern(900));
    assert_eq!(joined(&read_all(&mut log.reader(0))), (pattern(900), 0));
    assert_eq!(
        joined(&read_all(&mut log.reader(850))).0,
        pattern(900)[850..]
    );
}

#[test]
fn of_a_flood_the_head_and_the_tail_are_kept_and_the_disk_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(&dir);
    let all = pattern(3_000_000);
    write(&log, &all);
    let (bytes, missing) = joined(&read_all(&mut log.reader(0)));
    assert_eq!(bytes.len() as u64 + missing, 3_000_000);
    assert_eq!(bytes[..100], all[..100]);
    let tail = bytes.len() - 100;
    assert!(tail >= 1000, "only {tail} bytes of the tail");
    assert_eq!(bytes[100..], all[all.len() - tail..]);
    let on_disk: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(on_disk < 300_000, "{on_disk} bytes on disk");
}

#[test]
fn a_log_opened_again_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    write(&log_in(&dir), &pattern(60_000)[..50]);
    let log = log_in(&dir);
    assert_eq!(log.written(), 50);
    write(&log, &pattern(60_000)[50..]);
    assert!(joined(&read_all(&mut log.reader(0))) == (pattern(60_000), 0));
}

#[test]
fn what_could_not_be_stored_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(&dir);
    write(&log, b"before");
    log.skip(10);
    write(&log, b"after");
    let expected = [
        Chunk::Bytes("before".into()),
        Chunk::Missing(10),
        Chunk::Bytes("after".into()),
    ];
    assert_eq!(read_all(&mut log.reader(0)), expected);
}

#[tokio::test(start_paused = true)]
async fn an_attached_reader_holds_the_stream_back_but_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(&dir);
    let mut reader = log.reader(0);
    write(&log, &pattern(3_000_000));
    assert!(log.is_full());
    let waited = tokio::time::Instant::now();
    log.has_room().await;
    assert!(waited.elapsed() >= PATIENCE, "the reader had its time");
    let (_, missing) = joined(&read_all(&mut reader));
    assert!(missing > 0, "then it lost its place");
}

#[tokio::test]
async fn a_reader_that_goes_away_gives_room_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(&dir);
    let reader = log.reader(0);
    write(&log, &pattern(3_000_000));
    let waiting = tokio::spawn({
        let log = log.clone();
        async move { log.has_room().await }
    });
    drop(reader);
    tokio::time::timeout(Duration::from_secs(5), waiting)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_reader_follows_until_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(&dir);
    let mut reader = log.reader(0);
    let following = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            all.push(chunk);
        }
        joined(&all).0
    });
    for part in pattern(500).chunks(50) {
        write(&log, part);
        tokio::task::yield_now().await;
    }
    log.end();
    assert_eq!(following.await.unwrap(), pattern(500));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_byte_is_either_read_in_place_or_counted_missing(
        writes in prop::collection::vec(1usize..40_000, 1..20),
        head in 0u64..5_000,
        tail in 0u64..200_000,
        from in 0u64..300_000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let log = log_that_keeps(&dir, Keep { head, tail });
        let total: usize = writes.iter().sum();
        let all = pattern(total);
        let mut rest = &all[..];
        for length in writes {
            let (part, later) = rest.split_at(length);
            write(&log, part);
            rest = later;
        }
        let mut reader = log.reader(from);
        let mut at = from as usize;
        while let Some(chunk) = reader.read().unwrap() {
            match chunk {
                Chunk::Bytes(bytes) => {
                    prop_assert_eq!(&all[at..at + bytes.len()], &bytes[..]);
                    at += bytes.len();
                }
                Chunk::Missing(gap) => {
                    at += gap as usize;
                    prop_assert!(at as u64 > head, "the head is never missing");
                    prop_assert!((total - at) as u64 >= tail, "the tail is never missing");
                }
            }
        }
        prop_assert_eq!(at, total.max(from as usize));
    }
}

#[test]
fn whoever_reads_of_a_run_that_was_forgotten_finds_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(&dir);
    write(&log, &pattern(1500));
    let mut reader = log.reader(0);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert_eq!(joined(&read_all(&mut reader)), (Vec::new(), 1500));
}
