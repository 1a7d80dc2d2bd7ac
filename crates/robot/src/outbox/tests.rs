use std::fs;

use proptest::prelude::*;
use sandlot_api::robot::{
    TaskState,
    wire::{AttemptKey, TaskReport},
};

use super::*;

fn news(uid: &str, state: TaskState) -> News {
    News::Task(Box::new(TaskReport {
        key: AttemptKey {
            uid: uid.to_owned(),
            ..AttemptKey::default()
        },
        state,
        ..TaskReport::default()
    }))
}

fn sent(outbox: &mut Outbox) -> Vec<i64> {
    let mut numbers = Vec::new();
    while let Some(message) = outbox.next() {
        numbers.extend(message.reports.iter().map(|report| report.sequence));
    }
    numbers
}

/// Reports something, and waits until it is on the disk.
async fn push(outbox: &mut Outbox, uid: &str, state: TaskState) {
    let what = news(uid, state);
    outbox.push(Timestamp::UNIX_EPOCH, what).await.unwrap();
    outbox.flushed().await;
}

fn acknowledged(outbox: &Outbox, sequence: i64) -> Acknowledged {
    Acknowledged {
        spool: outbox.spool.clone(),
        sequence,
    }
}

#[tokio::test]
async fn reports_wait_for_their_acknowledgement_over_connections_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path()).unwrap();
    for uid in ["a", "b", "c"] {
        push(&mut outbox, uid, TaskState::Running).await;
    }
    assert_eq!(sent(&mut outbox), [1, 2, 3]);
    assert!(sent(&mut outbox).is_empty(), "once over each connection");
    outbox.begin();
    assert_eq!(sent(&mut outbox), [1, 2, 3]);
    outbox.acknowledge(&acknowledged(&outbox, 2)).await.unwrap();
    outbox.close().await;

    let mut outbox = Outbox::open(folder.path()).unwrap();
    assert_eq!(sent(&mut outbox), [3]);
    push(&mut outbox, "d", TaskState::Running).await;
    assert_eq!(sent(&mut outbox), [4]);
    outbox.acknowledge(&acknowledged(&outbox, 4)).await.unwrap();
    outbox.close().await;
    let mut outbox = Outbox::open(folder.path()).unwrap();
    push(&mut outbox, "e", TaskState::Running).await;
    assert_eq!(sent(&mut outbox), [5], "numbers are never used twice");
}

#[tokio::test]
async fn an_acknowledgement_of_another_count_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path()).unwrap();
    push(&mut outbox, "a", TaskState::Running).await;
    let old = acknowledged(&outbox, 1);
    outbox.close().await;
    fs::remove_file(folder.path().join("outbox.jsonl")).unwrap();
    let mut outbox = Outbox::open(folder.path()).unwrap();
    push(&mut outbox, "b", TaskState::Running).await;
    outbox.acknowledge(&old).await.unwrap();
    assert_eq!(outbox.depth(), 1);
}

#[tokio::test]
async fn a_full_outbox_gives_up_what_later_reports_say_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path()).unwrap();
    push(&mut outbox, "alone", TaskState::Completed).await;
    for _ in 0..3 {
        push(&mut outbox, "often", TaskState::Running).await;
    }
    outbox.make_room();
    assert_eq!(sent(&mut outbox), [1, 3, 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn wherever_the_power_goes_whole_lines_are_found_again(
        count in 1usize..20, cut in 0usize..4000, known in 0i64..20
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let numbers = runtime.block_on(cut_off(count, cut, known));
        let (numbers, is_whole) = numbers;
        prop_assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
        prop_assert!(numbers.last().is_none_or(|last| *last <= count as i64));
        if is_whole {
            let first = if known <= count as i64 { known + 1 } else { 1 };
            let expected: Vec<_> = (first..=count as i64).collect();
            prop_assert_eq!(numbers, expected);
        }
    }
}

/// What is found of so many reports in a file that is cut, and whether it was cut at all.
async fn cut_off(count: usize, cut: usize, known: i64) -> (Vec<i64>, bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path()).unwrap();
    for number in 0..count {
        push(&mut outbox, &number.to_string(), TaskState::Running).await;
    }
    let told = acknowledged(&outbox, known);
    outbox.acknowledge(&told).await.unwrap();
    outbox.close().await;
    let path = folder.path().join("outbox.jsonl");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..cut.min(whole.len())]).unwrap();
    let mut outbox = Outbox::open(folder.path()).unwrap();
    (sent(&mut outbox), cut >= whole.len())
}
