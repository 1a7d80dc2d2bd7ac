//! What was asked for when a run began, as far as a later supervisor needs it.

use std::{io, sync::OnceLock, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    launch::{Keep, Key, Launch, Memory},
    stock::Pipes,
};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) key: Key,
    /// For people, and to notice a key used for two commands.
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: Option<String>,
    /// Which boot of the machine it belongs to.
    pub(crate) boot: String,
    pub(crate) memory: Memory,
    pub(crate) keep: Keep,
    pub(crate) terminal: bool,
    /// The pipes it speaks through.
    pub(crate) pipes: Pipes,
    pub(crate) grace: Duration,
    pub(crate) timeout: Option<Duration>,
    /// When its time is up, on the clock that counts since boot.
    pub(crate) deadline: Option<Duration>,
}

impl Record {
    /// The record of a run that has no pipes yet.
    pub(crate) fn new(key: Key, launch: &Launch) -> io::Result<Self> {
        Ok(Self {
            key,
            argv: launch
                .argv
                .iter()
                .map(|a| a.to_string_lossy().into_owned())
                .collect(),
            cwd: launch
                .cwd
                .as_ref()
                .map(|cwd| cwd.to_string_lossy().into_owned()),
            boot: boot_id()?,
            memory: launch.memory,
            keep: launch.keep,
            terminal: launch.terminal.is_some(),
            pipes: Pipes::none(),
            grace: launch.grace,
            timeout: launch.timeout,
            deadline: launch
                .timeout
                .map(|timeout| since_boot().saturating_add(timeout)),
        })
    }

    /// What is left to say of a run that is lost: its key.
    pub(crate) fn lost(key: Key) -> io::Result<Self> {
        let nothing: [&str; 0] = [];
        Self::new(key, &Launch::new(nothing))
    }
}

/// Names this boot of the machine. No process lives to see another.
pub(crate) fn boot_id() -> io::Result<String> {
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(KNOWN.get_or_init(|| read.trim().to_owned()).clone())
}

/// Time since the machine booted, sleep included.
pub(crate) fn since_boot() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_or(Duration::ZERO, Duration::from)
}
