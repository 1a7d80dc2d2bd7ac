//! A thousand tasks on real agents, while whoever has to do with them is killed, and what is said
//! is said again, late and out of order.

mod broker;
mod echo;
mod stage;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use kube::{ResourceExt, api::ListParams};
use rand::RngExt;
use sandlot_api::robot::{Job, JobState, Task, TaskState};
use serde_json::{Value, json};

use broker::Broker;
use stage::Stage;

/// How many robots there are.
const ROBOTS: usize = 5;
/// How many tasks each job has.
const TASKS: usize = 20;
/// How long all of it may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(1200);

/// Each task writes its uid once more into a file: that is the effect that counts.
fn job(name: &str, effects: &str) -> Value {
    json!({
        "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "Job", "metadata": { "name": name },
        "spec": { "name": name, "type": "batch", "taskGroups": [{
            "name": "main",
            "count": TASKS,
            // A start that was cut short is not tried again where it may have happened after all.
            "reschedulePolicy": { "unlimited": true, "delay": "100ms", "delayFunction": "constant" },
            "tasks": [{
                "name": "run", "driver": "raw_exec",
                "config": { "execConfig": { "command": "/bin/sh", "args": ["-c", "echo $TASK_UID >> $EFFECTS"] } },
                "env": { "EFFECTS": effects },
            }],
        }] },
    })
}

fn has_completed(job: &Job) -> bool {
    job.status.as_ref().and_then(|status| status.state) == Some(JobState::Completed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_dispatches_take_effect_once_whoever_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::set(folder, Broker::embedded().await, ROBOTS).await;
    everything_once(stage, 50, |_| false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dispatches_through_mosquitto_take_effect_once_whoever_is_killed() {
    let Some(program) = broker::find_mosquitto() else {
        eprintln!("SKIPPED: there is no Mosquitto on this machine (apt install mosquitto)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::mosquitto(program, folder.path().join("mosquitto")).await;
    let stage = Stage::set(folder, broker, ROBOTS).await;
    // It, and not only chance, is killed too.
    everything_once(stage, 15, |number| number % 3 == 1).await;
}

/// Makes so many jobs and kills somebody after each; the broker where that is said. In the end
/// everything must have happened, and once.
async fn everything_once(mut stage: Stage, jobs: usize, is_brokers_turn: fn(usize) -> bool) {
    let echo = tokio::spawn(echo::echo(stage.port));
    let effects = stage.folder.path().join("effects");
    let started = Instant::now();
    let mut kills = BTreeMap::<&str, usize>::new();
    for number in 0..jobs {
        let name = format!("job-{number}");
        stage.make(job(&name, &effects.display().to_string())).await;
        let killed = match is_brokers_turn(number) {
            true => stage.kill_broker().await,
            false => stage.kill_somebody().await,
        };
        *kills.entry(killed).or_default() += 1;
        let pause = rand::rng().random_range(50..400);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    loop {
        let all = stage.api::<Job>().list(&ListParams::default()).await;
        let all = all.unwrap().items;
        let open: Vec<&Job> = all.iter().filter(|job| !has_completed(job)).collect();
        if open.is_empty() {
            break;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{} jobs do not end, after {kills:?}: {:#?}",
            open.len(),
            stage.open_tasks().await
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    echo.abort();
    let text = fs::read_to_string(&effects).unwrap();
    let mut seen = BTreeSet::new();
    for uid in text.lines() {
        assert!(seen.insert(uid), "{uid} took effect twice, after {kills:?}");
    }
    let tasks = stage.api::<Task>().list(&ListParams::default()).await;
    let mut completed = 0;
    for task in tasks.unwrap().items {
        let uid = task.uid().unwrap();
        match task.status.as_ref().and_then(|status| status.state) {
            Some(TaskState::Completed) => {
                completed += 1;
                assert!(seen.contains(uid.as_str()), "{uid} was lost: {task:#?}");
            }
            // Another attempt was made for it.
            Some(TaskState::Failed) => {}
            _ => panic!("left behind: {task:#?}"),
        }
    }
    assert_eq!(completed, jobs * TASKS);
    println!(
        "{completed} tasks in {:?}, {} attempts took effect, kills: {kills:?}",
        started.elapsed(),
        seen.len()
    );
    stage.end().await;
}
