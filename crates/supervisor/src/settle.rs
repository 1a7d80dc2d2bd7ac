//! Brings what was written down of ended runs to the disk, many at once.
//!
//! Nobody waits for this: until it is done, a power cut makes of the run one that is lost. Each
//! run settled by itself would make the file system turn its journal for that run alone, and
//! every other commit on the disk wait for it.

use std::{fs::File, os::fd::AsRawFd, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::sheet::Sheet;

/// How long outcomes are gathered. On one disk fifty supervisors turned its journal 250 times a
/// second when it was a fifth of that.
const GATHER: Duration = Duration::from_secs(1);
/// How many are settled together, with a descriptor each.
const TOGETHER: usize = 64;
/// How many may wait. One that finds no room is left to the kernel, which comes round to it.
const ROOM: usize = 1024;

/// Takes the sheets of runs whose outcome was written down.
pub(crate) type Settling = mpsc::Sender<Sheet>;

/// A place to hand sheets in, and whom they go to.
pub(crate) fn channel() -> (Settling, mpsc::Receiver<Sheet>) {
    mpsc::channel(ROOM)
}

/// Settles what is handed in until it is time to close, and then the rest of it.
pub(crate) async fn settle(mut written: mpsc::Receiver<Sheet>, closing: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        let first = closing.run_until_cancelled(written.recv_many(&mut batch, TOGETHER));
        if first.await == Some(0) {
            return;
        }
        let gathering = tokio::time::sleep(GATHER);
        let leaving = closing.run_until_cancelled(gathering).await.is_none();
        while batch.len() < TOGETHER
            && let Ok(sheet) = written.try_recv()
        {
            batch.push(sheet);
        }
        let sheets = std::mem::take(&mut batch);
        let last = sheets.is_empty();
        // A panic there is a bug that costs nobody more than a power cut at this moment would.
        let _ = tokio::task::spawn_blocking(move || settle_all(&sheets)).await;
        if leaving && last {
            return;
        }
    }
}

/// A run that was forgotten meanwhile has nothing to settle; one that cannot be settled is left
/// to the kernel.
fn settle_all(sheets: &[Sheet]) {
    let files: Vec<_> = sheets
        .iter()
        .filter_map(|sheet| File::open(sheet.path()).ok())
        .collect();
    // All find their places on the disk first: then one turn of the journal takes all of them.
    files.iter().for_each(begin_writing);
    let runs = sheets.first().map(|sheet| File::open(sheet.runs()));
    for file in files.iter().chain(runs.iter().flatten()) {
        let _ = file.sync_all();
    }
}

/// Asks the kernel to begin to write a file's pages to the disk, without waiting for them.
fn begin_writing(file: &File) {
    // SAFETY: an open descriptor and constants; a file system that cannot do it says so, and the
    // sync that follows does all of the work.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        launch::{Key, Launch},
        outcome::{End, Outcome},
        record::Record,
        stock::{Owner, Stock},
        why,
    };

    fn ended(runs: &std::path::Path, name: &str) -> (Sheet, Outcome) {
        let key = Key::new(name).unwrap();
        let sheet = Sheet::of(runs, &key);
        let record = Record::new(key, &Launch::new(["true"])).unwrap();
        sheet
            .create(&record, &Stock::new(runs, Owner::One))
            .unwrap();
        let outcome = why::outcome(&record, End::Lost, None, jiff::Timestamp::now());
        sheet.finish(&outcome).unwrap();
        (sheet, outcome)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_closes_leaves_nothing_unsettled() {
        let dir = tempfile::tempdir().unwrap();
        let (hand_in, written) = channel();
        let runs: Vec<_> = (0..TOGETHER + 3)
            .map(|number| ended(dir.path(), &format!("run/{number}")))
            .collect();
        let closing = CancellationToken::new();
        for (sheet, _) in &runs {
            hand_in.try_send(sheet.clone()).unwrap();
        }
        // One that was forgotten before its turn came is passed over.
        runs[0].0.remove().unwrap();
        closing.cancel();
        settle(written, closing).await;
        assert!(hand_in.is_closed());
        for (sheet, outcome) in &runs[1..] {
            assert_eq!(sheet.outcome().as_ref(), Some(outcome));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_last_who_could_hand_something_in() {
        let (hand_in, written) = channel();
        drop(hand_in);
        settle(written, CancellationToken::new()).await;
    }
}
