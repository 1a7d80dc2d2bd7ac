//! A thousand tasks on real agents, while whoever has to do with them is killed, and what is said
//! is said again, late and out of order.

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

use stage::Stage;

/// How many robots there are.
const ROBOTS: usize = 5;
/// How many jobs, and tasks of each.
const JOBS: usize = 50;
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
    let mut stage = Stage::set(ROBOTS).await;
    let echo = tokio::spawn(echo::echo(stage.port));
    let effects = stage.folder.path().join("effects");
    let started = Instant::now();
    let mut kills = BTreeMap::<&str, usize>::new();
    for number in 0..JOBS {
        let name = format!("job-{number}");
        stage.make(job(&name, &effects.display().to_string())).await;
        *kills.entry(stage.kill_somebody().await).or_default() += 1;
        let pause = rand::rng().random_range(50..400);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    loop {
        let jobs = stage.api::<Job>().list(&ListParams::default()).await;
        let jobs = jobs.unwrap().items;
        let open: Vec<&Job> = jobs.iter().filter(|job| !has_completed(job)).collect();
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
    assert_eq!(completed, JOBS * TASKS);
    println!(
        "{completed} tasks in {:?}, {} attempts took effect, kills: {kills:?}",
        started.elapsed(),
        seen.len()
    );
    stage.end().await;
}
