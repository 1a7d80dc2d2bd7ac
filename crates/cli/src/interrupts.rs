//! Being told to stop.

use anyhow::Result;

/// Ctrl-C, the signal that service managers send, and that of a terminal that is closed.
pub(crate) struct Interrupts {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// None where `nohup` or the like wants us to outlive the terminal.
    hang_up: Option<tokio::signal::unix::Signal>,
}

/// A command was told to stop before it was done.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal")]
pub(crate) struct Stopped {
    /// What a shell reports of a command that the signal ended.
    pub(crate) code: i32,
}

impl Interrupts {
    /// Listens from now on; before, each of the signals ends the process.
    pub(crate) fn listen() -> Result<Interrupts> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Interrupts {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: match is_ignored(libc::SIGHUP) {
                true => None,
                false => Some(signal(SignalKind::hangup())?),
            },
        })
    }

    /// Waits for the next of them.
    pub(crate) async fn first(&mut self) -> Stopped {
        let hung_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        let signal = tokio::select! {
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = hung_up => libc::SIGHUP,
        };
        Stopped { code: 128 + signal }
    }
}

/// Whether whoever started us chose that a signal does nothing to us.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
