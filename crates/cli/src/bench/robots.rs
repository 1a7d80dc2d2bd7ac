//! `sandlot bench robots`: many simulated robots through a real Mosquitto, and one bridge.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use sandlot_api::robot::{Job, JobState, Robot, RobotPhase, Task, TaskState};
use sandlot_bridge::simulated::Simulated;
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    report::{Bar, Report, Samples},
    sight::Sight,
    subject::{Machine, resident_mib},
};
use crate::fleet::TOKEN;

/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the beats are watched.
const STEADY: Duration = Duration::from_secs(40);
/// How often a robot beats.
const BEAT: Duration = Duration::from_secs(30);
/// How many robots register at the same time.
const TOGETHER: u32 = 200;
/// How many robots a job is fanned out to.
const FAN: u32 = 1000;

/// Robots that come, beat, work, and are killed.
pub(super) async fn measure(robots: u32) -> Result<Report> {
    let mut report = Report::new("robots");
    // A connection is an open file, here and at the broker.
    open_files(u64::from(robots) + 1000)?;
    let (machine, _) = Machine::start(&[
        "--ephemeral",
        "--missing-images",
        "host",
        "--mqtt-listen",
        "127.0.0.1:0",
    ])
    .await?;
    let client = machine.client().await?;
    namespace(&client).await?;
    let scene = Scene::set(&machine).await?;
    let online = Sight::open(api::<Robot>(&client), |robot| {
        stands(robot, RobotPhase::Online)
    })
    .await?;
    let offline = Sight::open(api::<Robot>(&client), |robot| {
        stands(robot, RobotPhase::Offline)
    })
    .await?;

    let started = Instant::now();
    let mut living = JoinSet::new();
    let mut lives = BTreeMap::new();
    for number in 0..robots {
        let cancel = CancellationToken::new();
        living.spawn(scene.robot(number).live(cancel.clone()));
        lives.insert(number, cancel);
        if (number + 1) % TOGETHER == 0 {
            online.of(&name(number), PATIENCE).await?;
        }
    }
    for number in 0..robots {
        online.of(&name(number), PATIENCE).await?;
    }
    report.number(
        format!("{robots} robots registered"),
        started.elapsed().as_secs_f64(),
        "s",
        None,
    );

    // What is under way is finished first.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = scene.look().await?;
    let watched = Instant::now();
    tokio::time::sleep(STEADY).await;
    let after = scene.look().await?;
    let seconds = watched.elapsed().as_secs_f64();
    let beats = after.beats - before.beats;
    report.number("beats a minute", beats * 60.0 / seconds, "", None);
    report.number(
        "processor time of the bridge",
        (after.cpu - before.cpu) / seconds,
        "cores",
        Some(Bar::AtMost(1.0)),
    );
    report.number(
        "resident memory of the bridge",
        scene.resident()?,
        "MiB",
        Some(Bar::AtMost(256.0)),
    );
    let share = (after.writes - before.writes) / beats.max(1.0) * 100.0;
    report.number(
        "API writes to a hundred beats",
        share,
        "",
        Some(Bar::AtMost(1.0)),
    );

    let done = Sight::open(api::<Job>(&client), completed).await?;
    let jobs = api::<Job>(&client);
    let mut samples = Samples::default();
    for number in 0..110 {
        let job = job(&format!("one-{number}"), 1)?;
        let started = Instant::now();
        jobs.create(&PostParams::default(), &job).await?;
        let took = done.of(&format!("one-{number}"), PATIENCE).await? - started;
        if number >= 10 {
            samples.add(took);
        }
    }
    report.latency(
        "trivial job, create → completed seen by a watcher",
        &samples,
        Some(50.0),
        None,
    );

    let fan = FAN.min(robots);
    let begun = Sight::open(api::<Task>(&client), has_begun).await?;
    let started = Instant::now();
    jobs.create(&PostParams::default(), &job("fan", fan)?)
        .await?;
    let mut last = started;
    for number in 0..fan {
        last = last.max(
            begun
                .of(&format!("fan-main-r{number}-run"), PATIENCE)
                .await?,
        );
    }
    let dispatched = last - started;
    report.number(
        format!("a job on {fan} robots: all dispatched"),
        dispatched.as_secs_f64(),
        "s",
        Some(Bar::AtMost(3.0)),
    );
    let took = done.of("fan", PATIENCE).await? - started;
    report.number(
        format!("a job on {fan} robots: all completed"),
        took.as_secs_f64(),
        "s",
        None,
    );

    let mut samples = Samples::default();
    for number in 0..20.min(robots) {
        let started = Instant::now();
        if let Some(life) = lives.get(&number) {
            life.cancel();
        }
        samples.add(offline.of(&name(number), PATIENCE).await? - started);
    }
    report.latency(
        "a killed robot, until Offline is seen",
        &samples,
        None,
        Some(2000.0),
    );
    report
        .note("robots are simulated: their tasks end as they begin, all else is as with real ones");
    report.note("the broker is a Mosquitto with the configuration that the bridge writes");
    living.shutdown().await;
    machine.stop().await?;
    Ok(report)
}

/// A Mosquitto and a bridge in processes of their own.
struct Scene {
    port: u16,
    pages: u16,
    bridge: Child,
    _broker: Child,
}

/// What the bridge has done so far.
struct Look {
    cpu: f64,
    beats: f64,
    writes: f64,
}

impl Scene {
    async fn set(machine: &Machine) -> Result<Self> {
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

    fn robot(&self, number: u32) -> Simulated {
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

    async fn look(&self) -> Result<Look> {
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

    fn resident(&self) -> Result<f64> {
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
fn open_files(wanted: u64) -> Result<()> {
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

async fn namespace(client: &Client) -> Result<()> {
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let namespace = k8s_openapi::api::core::v1::Namespace {
        metadata: ObjectMeta {
            name: Some("fleet".to_owned()),
            ..ObjectMeta::default()
        },
        ..Default::default()
    };
    namespaces
        .create(&PostParams::default(), &namespace)
        .await?;
    Ok(())
}

fn api<K>(client: &Client) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), "fleet")
}

fn name(number: u32) -> String {
    format!("robot-{number}")
}

fn stands(robot: &Robot, phase: RobotPhase) -> bool {
    robot.status.as_ref().and_then(|status| status.phase) == Some(phase)
}

fn completed(job: &Job) -> bool {
    job.status.as_ref().and_then(|status| status.state) == Some(JobState::Completed)
}

/// Its robot has heard of it.
fn has_begun(task: &Task) -> bool {
    let state = task.status.as_ref().and_then(|status| status.state);
    state.unwrap_or_default() > TaskState::Pending
}

fn job(name: &str, count: u32) -> Result<Job> {
    let task = json!({ "name": "run", "driver": "raw_exec", "config": { "execConfig": { "command": "true" } } });
    let job: Value = json!({
        "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "Job", "metadata": { "name": name },
        "spec": { "name": name, "taskGroups": [{ "name": "main", "count": count, "tasks": [task] }] },
    });
    Ok(serde_json::from_value(job)?)
}
