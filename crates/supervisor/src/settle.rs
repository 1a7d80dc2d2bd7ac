//! Brings what was written down of ended runs to the disk, many at once.
//!
//! Nobody waits for this: until it is done, a power cut makes of the run one that is lost. Each
//! run settled by itself would make the file system turn its journal for that run alone, and
//! every other commit on the disk wait for it.

use std::{fs::File, io, os::fd::AsRawFd, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::record::Folder;

/// How long outcomes are gathered.
const GATHER: Duration = Duration::from_millis(200);
/// How many are settled together, with two descriptors each.
const TOGETHER: usize = 64;
/// How many may wait. One that finds no room is left to the kernel, which comes round to it.
const ROOM: usize = 1024;

/// Takes the folders of runs whose outcome was written down.
pub(crate) type Settling = mpsc::Sender<Folder>;

/// A place to hand folders in, and whom they go to.
pub(crate) fn channel() -> (Settling, mpsc::Receiver<Folder>) {
    mpsc::channel(ROOM)
}

/// Settles what is handed in until it is time to close, and then the rest of it.
pub(crate) async fn settle(mut written: mpsc::Receiver<Folder>, closing: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        let first = closing.run_until_cancelled(written.recv_many(&mut batch, TOGETHER));
        if first.await == Some(0) {
            return;
        }
        let gathering = tokio::time::sleep(GATHER);
        let leaving = closing.run_until_cancelled(gathering).await.is_none();
        while batch.len() < TOGETHER
            && let Ok(folder) = written.try_recv()
        {
            batch.push(folder);
        }
        let folders = std::mem::take(&mut batch);
        let last = folders.is_empty();
        // A panic there is a bug that costs nobody more than a power cut at this moment would.
        let _ = tokio::task::spawn_blocking(move || settle_all(&folders)).await;
        if leaving && last {
            return;
        }
    }
}

/// A run that was forgotten meanwhile has nothing to settle; one that cannot be settled is left
/// to the kernel.
fn settle_all(folders: &[Folder]) {
    let open = |folder: &Folder| {
        let outcome = File::open(folder.join("outcome.json"))?;
        Ok::<_, io::Error>((outcome, File::open(folder.path())?))
    };
    let files: Vec<_> = folders
        .iter()
        .filter_map(|folder| open(folder).ok())
        .collect();
    // All find their places on the disk first: then one turn of the journal takes all of them.
    for (outcome, _) in &files {
        begin_writing(outcome);
    }
    for (outcome, folder) in &files {
        let _ = outcome.sync_all().and_then(|()| folder.sync_all());
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
        why,
    };

    fn ended(runs: &std::path::Path, name: &str) -> (Folder, Outcome) {
        let key = Key::new(name).unwrap();
        let folder = Folder::of(runs, &key);
        let record = Record::new(key, &Launch::new(["true"])).unwrap();
        folder.create(&record).unwrap();
        let outcome = why::outcome(&record, End::Lost, None, jiff::Timestamp::now());
        folder.finish(&outcome).unwrap();
        (folder, outcome)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_closes_leaves_nothing_unsettled() {
        let dir = tempfile::tempdir().unwrap();
        let (hand_in, written) = channel();
        let runs: Vec<_> = (0..TOGETHER + 3)
            .map(|number| ended(dir.path(), &format!("run/{number}")))
            .collect();
        let closing = CancellationToken::new();
        for (folder, _) in &runs {
            hand_in.try_send(folder.clone()).unwrap();
        }
        // One that was forgotten before its turn came is passed over.
        runs[0].0.remove().unwrap();
        closing.cancel();
        settle(written, closing).await;
        assert!(hand_in.is_closed());
        for (folder, outcome) in &runs[1..] {
            assert_eq!(folder.outcome().as_ref(), Some(outcome));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_last_who_could_hand_something_in() {
        let (hand_in, written) = channel();
        drop(hand_in);
        settle(written, CancellationToken::new()).await;
    }
}
