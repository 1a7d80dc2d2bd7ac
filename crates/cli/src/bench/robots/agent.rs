//! A real robot among the simulated ones: its agent in a process of its own.

use std::{fs, path::PathBuf, process::Stdio};

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

use super::super::subject::{Machine, resident_mib};
use crate::fleet::TOKEN;

/// What it is called.
pub(super) const NAME: &str = "real";
/// The agent by itself, as it is installed on robots.
const PROGRAM: &str = "sandlot-robot";

/// A robot's agent.
pub(super) struct Agent {
    process: Child,
    /// Whether it is the program that is installed on robots, or this one.
    pub(super) by_itself: bool,
}

impl Agent {
    /// Starts one that comes to the broker at this port.
    pub(super) fn start(machine: &Machine, port: u16) -> Result<Self> {
        let by_itself = find();
        let mut command = match &by_itself {
            Some(program) => Command::new(program),
            None => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("robot");
                command
            }
        };
        let log = fs::File::create(machine.folder().join("agent.log"))?;
        let process = command
            .args(["--robot-id", NAME, "--token", TOKEN])
            .args(["--broker-url", &format!("tcp://127.0.0.1:{port}")])
            .arg("--work-dir")
            .arg(machine.folder().join("agent"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("the robot's agent cannot be started")?;
        Ok(Self {
            process,
            by_itself: by_itself.is_some(),
        })
    }

    /// Memory resident in it now, in MiB.
    pub(super) fn resident(&self) -> Result<f64> {
        resident_mib(self.process.id().context("the robot's agent has ended")?)
    }
}

/// The agent by itself, beside this program or on the PATH.
fn find() -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    let beside = here.parent().map(|folder| folder.join(PROGRAM));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).map(|folder| folder.join(PROGRAM));
    beside
        .into_iter()
        .chain(folders)
        .find(|file| file.is_file())
}
