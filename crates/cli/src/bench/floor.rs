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

/// The processors' time until now, in the kernel's ticks: all of it, and what was not given to
/// this machine although it wanted it. Of a virtual machine that is what others had of its host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Clock {
    all: u64,
    stolen: u64,
}

impl Clock {
    /// Now. Zero where the kernel does not tell.
    pub(super) fn now() -> Clock {
        Clock::read(&fs::read_to_string("/proc/stat").unwrap_or_default()).unwrap_or_default()
    }

    fn read(stat: &str) -> Option<Clock> {
        let ticks = stat.lines().next()?.strip_prefix("cpu ")?;
        // Guests' time, which comes behind these, is counted among them already.
        let ticks: Vec<u64> = ticks
            .split_whitespace()
            .take(8)
            .map_while(|one| one.parse().ok())
            .collect();
        Some(Clock {
            all: ticks.iter().sum(),
            stolen: *ticks.get(7)?,
        })
    }

    /// How much of the time since then was stolen, in percent.
    fn stolen_since(self, then: Clock) -> f64 {
        let all = self.all.saturating_sub(then.all).max(1);
        100.0 * self.stolen.saturating_sub(then.stolen) as f64 / all as f64
    }
}

/// Measures the machine, and adds it to a report, with what was stolen since `begun`.
pub(super) fn measure(report: &mut Report, begun: Clock) -> Result<()> {
    let stolen = Clock::now().stolen_since(begun);
    report.number(
        "the machine itself: processor time others of its host had",
        stolen,
        "%",
        None,
    );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stolen_is_a_share_of_all_that_passed() {
        let then = Clock::read("cpu  10 0 10 60 10 0 5 5 7 0\ncpu0 1 1").unwrap();
        let now = Clock::read("cpu  50 0 30 80 10 0 5 25 9 0\n").unwrap();
        assert_eq!(now.stolen_since(then), 20.0);
        assert_eq!(then.stolen_since(then), 0.0);
        assert_eq!(Clock::read("intr 5"), None);
    }
}
