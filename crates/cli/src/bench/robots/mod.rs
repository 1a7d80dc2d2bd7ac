//! `sandlot bench robots`: many simulated robots through a real Mosquitto, and one bridge.

mod agent;
mod scene;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use sandlot_api::robot::{Constraint, Job, JobState, Operand, Robot, RobotPhase, Task, TaskState};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    report::{Bar, Report, Samples},
    sight::Sight,
    subject::Machine,
};
use agent::Agent;
use scene::{Look, Scene, open_files};

/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(300);
/// For how long nothing may have been written before the beats are watched: then all that came
/// with the robots' coming is done.
const SETTLE: Duration = Duration::from_secs(5);
/// How long the beats are watched.
const STEADY: Duration = Duration::from_secs(40);
/// How often a robot beats.
const BEAT: Duration = Duration::from_secs(30);
/// How many robots register at the same time.
const TOGETHER: u32 = 200;
/// How many jobs of one task are timed, and how many go before that are not.
const JOBS: (u32, u32) = (100, 10);
/// How many robots a job is fanned out to.
const FAN: u32 = 1000;
/// How many robots are killed.
const KILLED: u32 = 20;

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
    let mut fleet = Fleet::default();
    fleet.come(&client, &scene, robots, &mut report).await?;
    watch_beats(&scene, &mut report).await?;
    let what = "trivial job, create → completed seen by a watcher";
    one_by_one(&client, "one", what, None, &mut report).await?;
    on_a_real_robot(&client, &machine, &scene, &mut report).await?;
    fan_out(&client, FAN.min(robots), &mut report).await?;
    fleet
        .are_killed(&client, KILLED.min(robots), &mut report)
        .await?;
    report
        .note("all robots but one are simulated: their tasks end as they begin, all else is as with real ones");
    report.note("the broker is a Mosquitto with the configuration that the bridge writes");
    fleet.living.shutdown().await;
    machine.stop().await?;
    Ok(report)
}

/// Robots that live.
#[derive(Default)]
struct Fleet {
    living: JoinSet<()>,
    /// How each is killed.
    lives: BTreeMap<u32, CancellationToken>,
}

impl Fleet {
    /// Robots come, many at a time.
    async fn come(
        &mut self,
        client: &Client,
        scene: &Scene,
        robots: u32,
        report: &mut Report,
    ) -> Result<()> {
        let online = Sight::open(api::<Robot>(client), |robot| {
            stands(robot, RobotPhase::Online)
        })
        .await?;
        let started = Instant::now();
        for number in 0..robots {
            let cancel = CancellationToken::new();
            self.living.spawn(scene.robot(number).live(cancel.clone()));
            self.lives.insert(number, cancel);
            if (number + 1) % TOGETHER == 0 {
                online.of(&name(number), PATIENCE).await?;
            }
        }
        for number in 0..robots {
            online.of(&name(number), PATIENCE).await?;
        }
        let took = started.elapsed().as_secs_f64();
        report.number(format!("{robots} robots registered"), took, "s", None);
        Ok(())
    }

    /// Some are killed, and their wills are heard.
    async fn are_killed(
        &mut self,
        client: &Client,
        killed: u32,
        report: &mut Report,
    ) -> Result<()> {
        let offline = Sight::open(api::<Robot>(client), |robot| {
            stands(robot, RobotPhase::Offline)
        })
        .await?;
        let mut samples = Samples::default();
        for number in 0..killed {
            let started = Instant::now();
            if let Some(life) = self.lives.get(&number) {
                life.cancel();
            }
            samples.add(offline.of(&name(number), PATIENCE).await? - started);
        }
        let what = "a killed robot, until Offline is seen";
        report.latency(what, &samples, None, Some(2000.0));
        Ok(())
    }
}

/// What it costs the bridge that robots beat and nothing else happens.
async fn watch_beats(scene: &Scene, report: &mut Report) -> Result<()> {
    let before = settle(scene, report).await?;
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
    report.number(
        "API writes to a hundred beats",
        (after.writes - before.writes) / beats.max(1.0) * 100.0,
        "",
        Some(Bar::AtMost(1.0)),
    );
    Ok(())
}

/// Waits until nothing is written any more.
async fn settle(scene: &Scene, report: &mut Report) -> Result<Look> {
    let started = Instant::now();
    let mut known = scene.look().await?;
    while started.elapsed() < PATIENCE {
        tokio::time::sleep(SETTLE).await;
        let now = scene.look().await?;
        if now.writes <= known.writes {
            break;
        }
        known = now;
    }
    let took = started.elapsed().as_secs_f64();
    report.number("nothing more to write of them after", took, "s", None);
    scene.look().await
}

/// The same on a robot that does what it is told, and what that robot's agent takes.
async fn on_a_real_robot(
    client: &Client,
    machine: &Machine,
    scene: &Scene,
    report: &mut Report,
) -> Result<()> {
    let online = Sight::open(api::<Robot>(client), |robot| {
        stands(robot, RobotPhase::Online)
    })
    .await?;
    let agent = Agent::start(machine, scene.port())?;
    online.of(agent::NAME, PATIENCE).await?;
    report.number(
        "resident memory of a robot's agent",
        agent.resident()?,
        "MiB",
        agent.by_itself.then_some(Bar::AtMost(10.0)),
    );
    if !agent.by_itself {
        report.note("the agent was this whole program: put sandlot-robot beside it or on the PATH to measure that");
    }
    let what = "trivial job on a real robot, create → completed seen";
    one_by_one(client, "real", what, Some(agent::NAME), report).await?;
    let after = "resident memory of a robot's agent after its jobs";
    report.number(after, agent.resident()?, "MiB", None);
    Ok(())
}

/// Jobs of one trivial task, one after the other, on a certain robot or on any.
async fn one_by_one(
    client: &Client,
    kind: &str,
    what: &str,
    robot: Option<&str>,
    report: &mut Report,
) -> Result<()> {
    let done = Sight::open(api::<Job>(client), completed).await?;
    let jobs = api::<Job>(client);
    let mut samples = Samples::default();
    let (timed, before) = JOBS;
    for number in 0..before + timed {
        let name = format!("{kind}-{number}");
        let mut job = job(&name, 1)?;
        job.spec.constraints = robot.map(only);
        let started = Instant::now();
        jobs.create(&PostParams::default(), &job).await?;
        let took = done.of(&name, PATIENCE).await? - started;
        if number >= before {
            samples.add(took);
        }
    }
    report.latency(what, &samples, Some(50.0), None);
    Ok(())
}

/// One job on many robots.
async fn fan_out(client: &Client, robots: u32, report: &mut Report) -> Result<()> {
    let begun = Sight::open(api::<Task>(client), has_begun).await?;
    let done = Sight::open(api::<Job>(client), completed).await?;
    let started = Instant::now();
    api::<Job>(client)
        .create(&PostParams::default(), &job("fan", robots)?)
        .await?;
    let mut last = started;
    for number in 0..robots {
        let task = format!("fan-main-r{number}-run");
        last = last.max(begun.of(&task, PATIENCE).await?);
    }
    report.number(
        format!("a job on {robots} robots: all dispatched"),
        (last - started).as_secs_f64(),
        "s",
        Some(Bar::AtMost(3.0)),
    );
    let took = done.of("fan", PATIENCE).await? - started;
    report.number(
        format!("a job on {robots} robots: all completed"),
        took.as_secs_f64(),
        "s",
        None,
    );
    Ok(())
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

/// That a job is for this robot and no other.
fn only(robot: &str) -> Vec<Constraint> {
    vec![Constraint {
        l_target: Some("${robot.name}".to_owned()),
        operand: Some(Operand::Equal),
        r_target: Some(robot.to_owned()),
        ..Constraint::default()
    }]
}

fn job(name: &str, count: u32) -> Result<Job> {
    let task = json!({ "name": "run", "driver": "raw_exec", "config": { "execConfig": { "command": "true" } } });
    let job: Value = json!({
        "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "Job", "metadata": { "name": name },
        "spec": { "name": name, "taskGroups": [{ "name": "main", "count": count, "tasks": [task] }] },
    });
    Ok(serde_json::from_value(job)?)
}
