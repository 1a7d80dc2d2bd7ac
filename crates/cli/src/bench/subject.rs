//! The machine under measurement: a `sandlot up` in a process and a folder of its own.

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::process::{Child, Command};

/// How long a start may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `sandlot up`.
pub(super) struct Machine {
    folder: PathBuf,
    process: Child,
}

impl Machine {
    /// Starts one on an empty folder, and says how long it took to be ready.
    pub(super) async fn start(options: &[&str]) -> Result<(Machine, Duration)> {
        let folder =
            std::env::temp_dir().join(format!("sandlot-bench-{}-{}", std::process::id(), fresh()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Machine::spawn(folder, options).await
    }

    async fn spawn(folder: PathBuf, options: &[&str]) -> Result<(Machine, Duration)> {
        let log = fs::File::create(folder.join("up.log"))?;
        // One of an earlier start would lead to a port where nobody listens any more.
        let _ = fs::remove_file(folder.join("kubeconfig"));
        let started = Instant::now();
        let process = Command::new(std::env::current_exe()?)
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.join("data"))
            .arg("--kubeconfig")
            .arg(folder.join("kubeconfig"))
            .args(options)
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut machine = Machine { folder, process };
        machine.ready(started).await?;
        Ok((machine, started.elapsed()))
    }

    async fn ready(&mut self, started: Instant) -> Result<()> {
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.process.try_wait()? {
                bail!("sandlot up ended with {status}:\n{}", self.log());
            }
            if let Ok(client) = self.client().await {
                let request = http::Request::get("/readyz").body(Vec::new())?;
                if client.request_text(request).await.is_ok() {
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!(
            "sandlot up was not ready after {} s:\n{}",
            PATIENCE.as_secs(),
            self.log()
        )
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("up.log")).unwrap_or_default()
    }

    /// A client of its own connections, over HTTPS.
    pub(super) async fn client(&self) -> Result<Client> {
        Ok(Client::try_from(self.config().await?)?)
    }

    /// Where it listens, and who we are there.
    pub(super) async fn config(&self) -> Result<Config> {
        let kubeconfig = Kubeconfig::read_from(self.folder.join("kubeconfig"))?;
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.read_timeout = None;
        Ok(config)
    }

    /// Memory resident in the process now, in MiB.
    pub(super) fn resident_mib(&self) -> Result<f64> {
        resident_mib(self.process.id().context("sandlot up has ended")?)
    }

    /// Where it keeps things.
    pub(super) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Stops it in order, and starts another on the same folder.
    pub(super) async fn restart(mut self, options: &[&str]) -> Result<(Machine, Duration)> {
        self.interrupt().await?;
        let folder = std::mem::take(&mut self.folder);
        Machine::spawn(folder, options).await
    }

    async fn interrupt(&mut self) -> Result<()> {
        if let Some(pid) = self.process.id() {
            // Ctrl-C, as a person would stop it.
            Command::new("kill")
                .args(["-INT", &pid.to_string()])
                .status()
                .await?;
            tokio::time::timeout(PATIENCE, self.process.wait())
                .await
                .context("sandlot up did not stop")??;
        }
        Ok(())
    }

    /// Stops it and removes what it kept.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.interrupt().await
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !self.folder.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Memory resident in a process now, in MiB.
pub(super) fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// A number that no other machine of this process has.
fn fresh() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
