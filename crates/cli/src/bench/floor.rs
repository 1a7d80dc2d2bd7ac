//! What the machine itself takes for what everything else is made of. The bars were set where a
//! page is on disk in 0.2 ms; a machine that is slower, or shared with others, is seen here.

use std::{
    fs::{self, File},
    io::Write,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::report::{Report, Samples};

/// How often each is done.
const TIMES: usize = 300;
/// A thread that is to be woken has slept for so long: long enough for its core to sleep as well.
const SLEEP: Duration = Duration::from_millis(2);
const PAGE: [u8; 4096] = [7; 4096];

/// Measures the machine, and adds it to a report.
pub(super) fn measure(report: &mut Report) -> Result<()> {
    let (disk, waking) = (disk().context("the disk could not be measured")?, waking());
    report.latency("the machine itself: a page on disk", &disk, None, None);
    report.latency("the machine itself: a thread woken", &waking, None, None);
    Ok(())
}

/// Appends pages to a file, each synced before the next.
fn disk() -> Result<Samples> {
    let path = std::env::temp_dir().join(format!("sandlot-floor-{}", std::process::id()));
    let mut file = File::create_new(&path)?;
    // Open and without a name, so that nothing is left however this ends.
    fs::remove_file(&path)?;
    let mut samples = Samples::default();
    for _ in 0..TIMES {
        let begun = Instant::now();
        file.write_all(&PAGE)?;
        file.sync_data()?;
        samples.add(begun.elapsed());
    }
    Ok(samples)
}

/// Sends the time to a thread that sleeps.
fn waking() -> Samples {
    let (send, sent) = mpsc::channel::<Instant>();
    let sleeper = thread::spawn(move || {
        let mut samples = Samples::default();
        for begun in sent {
            samples.add(begun.elapsed());
        }
        samples
    });
    for _ in 0..TIMES {
        thread::sleep(SLEEP);
        // It lives until the channel is dropped.
        let _ = send.send(Instant::now());
    }
    drop(send);
    sleeper.join().unwrap_or_default()
}
