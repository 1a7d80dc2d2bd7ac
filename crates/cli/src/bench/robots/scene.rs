//! What the robots of a measurement meet: a Mosquitto and a bridge.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use sandlot_bridge::simulated::Simulated;
use tokio::process::{Child, Command};

use super::{
    super::subject::{Machine, resident_mib},
    BEAT, PATIENCE, name,
};
use crate::fleet::TOKEN;

/// A Mosquitto and a bridge in processes of their own.
pub(super) struct Scene {
    port: u16,
    pages: u16,
    bridge: Child,
    _broker: Child,
}

/// What the bridge has done so far.
pub(super) struct Look {
    pub(super) cpu: f64,
    pub(super) beats: f64,
    pub(super) writes: f64,
}

impl Scene {
    /// Starts both, beside a cluster.
    pub(super) async fn set(machine: &Machine) -> Result<Self> {
        let folder = machine.folder().join("mosquitto");
        fs::create_dir_all(&folder)?;
        let (port, pages) = (free_port()?, free_port()?);
        let bridge = |more: &[&str]| -> Result<Command> {
            let mut command = Command::new(std::env::current_exe()?);
            let log = fs::File::create(machine.folder().join("bridge.log"))?;
            command
                .args([
                    "bridge",
                    "--namespace",
                    "fleet",
                    "--password",
                    "bridge",
                    "--token",
                    TOKEN,
                ])
                .arg("--kubeconfig")
                .arg(machine.folder().join("kubeconfig"))
                .args(["--broker-url", &format!("tcp://127.0.0.1:{port}")])
                .args(["--listen", &format!("127.0.0.1:{pages}")])
                .arg("--mosquitto")
                .arg(&folder)
                .args(more)
                .stdout(Stdio::null())
                .stderr(log)
                .kill_on_drop(true);
            Ok(command)
        };
        if !bridge(&["--configure-only"])?.status().await?.success() {
            bail!("Mosquitto's configuration could not be written");
        }
        let broker = start_mosquitto(&folder)?;
        wait_for(port).await?;
        let bridge = bridge(&[])?.spawn()?;
        wait_for(pages).await?;
        Ok(Self {
            port,
            pages,
            bridge,
            _broker: broker,
        })
    }

    /// A robot that is to live here.
    pub(super) fn robot(&self, number: u32) -> Simulated {
        Simulated {
            id: name(number),
            broker: ("127.0.0.1".to_owned(), self.port),
            token: TOKEN.to_owned(),
            login: true,
            beat: BEAT,
            work: Duration::ZERO,
            labels: Vec::new(),
            fails: None,
        }
    }

    /// Where the broker listens.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What the bridge says of itself.
    pub(super) async fn look(&self) -> Result<Look> {
        let text = page(self.pages).await?;
        let count = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok())
                .unwrap_or(0.0)
        };
        Ok(Look {
            cpu: self.cpu_seconds()?,
            beats: count("k8s4r_beats_total "),
            writes: count("k8s4r_api_writes_total "),
        })
    }

    fn pid(&self) -> Result<u32> {
        self.bridge.id().context("the bridge has ended")
    }

    /// Memory resident in the bridge now, in MiB.
    pub(super) fn resident(&self) -> Result<f64> {
        resident_mib(self.pid()?)
    }

    /// Processor time that the bridge has used.
    fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        let after = stat.rsplit_once(") ").context("no process name")?.1;
        let fields: Vec<&str> = after.split(' ').collect();
        // Fields 14 and 15 of the whole line, in hundredths of a second.
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<f64>().ok())
        };
        Ok((ticks(11).context("no utime")? + ticks(12).context("no stime")?) / 100.0)
    }
}

/// Sees to it that so many files may be open here, and in the processes that are started.
pub(super) fn open_files(wanted: u64) -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let granted = match most < wanted {
        true => setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted),
        false => setrlimit(Resource::RLIMIT_NOFILE, most, most),
    };
    granted.with_context(|| {
        format!("{wanted} connections need as many open files; raise the limit with ulimit -n, or run this as root")
    })
}

fn start_mosquitto(folder: &Path) -> Result<Child> {
    let conf = folder.join("mosquitto.conf");
    // It would change to a user that may not read what is in here.
    let mut text = fs::read_to_string(&conf)?;
    text.push_str("user root\n");
    fs::write(&conf, text)?;
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    let log = fs::File::create(folder.join("mosquitto.log"))?;
    Command::new("mosquitto")
        .env("PATH", path)
        .arg("-c")
        .arg(&conf)
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("mosquitto cannot be started; it comes with the Debian package of that name")
}

async fn wait_for(port: u16) -> Result<()> {
    let started = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_err()
    {
        if started.elapsed() > PATIENCE {
            bail!("nobody listens on port {port}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The bridge's metrics.
async fn page(port: u16) -> Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: bridge\r\nConnection: close\r\n\r\n")
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
