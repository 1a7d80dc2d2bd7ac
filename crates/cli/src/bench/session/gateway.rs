//! A `sandlot gateway` in a process of its own.

use std::{fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

/// Where sessions' pods live.
pub(super) const NAMESPACE: &str = "sandbox-runtime";
/// The template of sessions that name none.
pub(super) const TEMPLATE: &str = "python-basic";
/// How long it may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// What it says when it serves.
const SERVES: &str = "Sessions are served on ";

/// A running gateway.
pub(super) struct Gateway {
    process: Child,
    address: String,
}

impl Gateway {
    /// Starts one beside the machine that keeps its things in this folder.
    pub(super) async fn start(folder: &Path, warm: i32) -> Result<Self> {
        let log = folder.join("gateway.log");
        let written = fs::File::create(&log)?;
        let key = fs::read_to_string(folder.join("data/operator.key"))?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["gateway", "--kubeconfig"])
            .arg(folder.join("kubeconfig"))
            .arg("--data-dir")
            .arg(folder.join("gateway"))
            .env("PORT", "0")
            .env("SANDLOT_OPERATOR_KEY", key)
            .env("DEFAULT_TEMPLATE_ID", TEMPLATE)
            .env("DEFAULT_TEMPLATE_IMAGE", "host")
            .env("KUBERNETES_NAMESPACE", NAMESPACE)
            .env("WARM_POOL_DEFAULT_SIZE", warm.to_string())
            .env("MAX_UPLOAD_FILE_SIZE_MB", "2048")
            .stdin(Stdio::null())
            .stdout(written.try_clone()?)
            .stderr(written)
            .kill_on_drop(true)
            .spawn()?;
        let started = std::time::Instant::now();
        loop {
            let said = fs::read_to_string(&log)?;
            let serves = said.lines().find_map(|line| line.strip_prefix(SERVES));
            if let Some(address) = serves {
                let address = address.trim().to_owned();
                return Ok(Self { process, address });
            }
            if let Some(status) = process.try_wait()? {
                bail!("sandlot gateway ended with {status}:\n{said}");
            }
            if started.elapsed() > PATIENCE {
                bail!("sandlot gateway was not ready in time:\n{said}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where it serves, as the beginning of an address.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The most memory that was ever resident in it, in MiB.
    pub(super) fn most_resident_mib(&self) -> Result<f64> {
        let pid = self.process.id().context("sandlot gateway has ended")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let most = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .context("no VmHWM")?;
        let kib: f64 = most.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    /// Stops it in order.
    pub(super) async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.process.id() {
            let mut kill = Command::new("kill");
            kill.args(["-INT", &pid.to_string()]).status().await?;
        }
        let ended = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        ended.context("sandlot gateway did not stop")??;
        Ok(())
    }
}
