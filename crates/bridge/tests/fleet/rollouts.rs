//! How an edit of a job reaches what runs, on robots that are there all the time.

use std::{collections::BTreeMap, time::Duration};

use kube::{ResourceExt, api::ListParams};
use sandlot_api::robot::{Job, RolloutState, Task, TaskGroup, names};
use serde_json::{Value, json};

use crate::stage::Stage;

/// How many robots there are, and replicas on them.
const ROBOTS: i32 = 4;

/// A job of one group that goes on for ever, or the change that makes it another.
fn service(command: &str, update: Value) -> Value {
    let task = json!({
        "name": "run", "driver": "raw_exec", "config": { "execConfig": { "command": command } },
    });
    let group = json!({ "name": "main", "count": ROBOTS, "update": update, "tasks": [task] });
    json!({
        "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "Job", "metadata": { "name": "web" },
        "spec": { "name": "web", "type": "service", "taskGroups": [group] },
    })
}

/// So careful, and quick.
fn update(more: Value) -> Value {
    let mut update = json!({ "minHealthyTime": "100ms", "maxParallel": 1 });
    for (field, value) in more.as_object().unwrap() {
        update[field] = value.clone();
    }
    update
}

/// Robots on which `first` runs and is known to work. On so many of them `bad` fails.
async fn settled(failing: i32) -> Stage {
    let mut stage = Stage::set(|_| {}).await;
    for number in 0..ROBOTS {
        stage.robot(&format!("robot-{number}"), |robot| {
            robot.work = Duration::from_secs(3600);
            robot.fails = (number < failing).then(|| "bad".to_owned());
        });
    }
    let _: Job = stage.make(service("first", update(json!({})))).await;
    let known = |group: &TaskGroup| group.annotations().contains_key(names::STABLE_TEMPLATE);
    stage.until("web-main", known).await;
    stage
}

async fn edit(stage: &Stage, command: &str, more: Value) {
    let changed = service(command, update(more));
    let _: Job = stage
        .change("web", json!({ "spec": changed["spec"] }))
        .await;
}

/// Waits until the rollout of the group as it is now stands somewhere.
async fn until(stage: &Stage, state: RolloutState, updated: i32) -> TaskGroup {
    let stands = |group: &TaskGroup| {
        let status = group.status.as_ref();
        let current = status.is_some_and(|status| {
            status.observed_generation == group.metadata.generation
                && group.metadata.generation > Some(1)
        });
        let rollout = status.and_then(|status| status.rollout.as_ref());
        current
            && rollout.is_some_and(|rollout| rollout.state == state && rollout.updated == updated)
    };
    stage.until("web-main", stands).await
}

/// How many tasks of each command are to go on.
async fn commands(stage: &Stage) -> BTreeMap<String, i32> {
    let mut commands = BTreeMap::new();
    let tasks = stage.api::<Task>().list(&ListParams::default()).await;
    for task in tasks.unwrap().items {
        let state = task.status.as_ref().and_then(|status| status.state);
        if !task.is_stopped() && !state.unwrap_or_default().is_terminal() {
            let config = task.spec.config.exec_config.unwrap();
            *commands.entry(config.command).or_default() += 1;
        }
    }
    commands
}

/// Waits until all replicas run this.
async fn all_run(stage: &Stage, command: &str) {
    let wanted = BTreeMap::from([(command.to_owned(), ROBOTS)]);
    let waiting = async {
        while commands(stage).await != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(crate::stage::PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{:?} run", commands(stage).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_goes_to_a_canary_and_on_when_it_is_promoted() {
    let stage = settled(0).await;
    edit(&stage, "second", json!({ "canary": 1 })).await;
    until(&stage, RolloutState::AwaitingPromotion, 1).await;
    assert_eq!(commands(&stage).await["first"], ROBOTS - 1);
    edit(&stage, "second", json!({ "canary": 1, "promote": true })).await;
    until(&stage, RolloutState::Completed, ROBOTS).await;
    all_run(&stage, "second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_edit_changes_nothing_until_it_goes_on() {
    let stage = settled(0).await;
    edit(&stage, "second", json!({ "paused": true })).await;
    until(&stage, RolloutState::Paused, 0).await;
    assert_eq!(commands(&stage).await["first"], ROBOTS);
    edit(&stage, "second", json!({ "maxParallel": 2 })).await;
    until(&stage, RolloutState::Completed, ROBOTS).await;
    all_run(&stage, "second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_fails_leads_back_to_what_worked() {
    let stage = settled(ROBOTS).await;
    edit(&stage, "bad", json!({ "canary": 1, "autoRevert": true })).await;
    let reverted = |group: &TaskGroup| {
        let rollout = group
            .status
            .as_ref()
            .and_then(|status| status.rollout.as_ref());
        rollout.is_some_and(|rollout| rollout.state == RolloutState::Reverted)
    };
    stage.until("web-main", reverted).await;
    all_run(&stage, "first").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_fails_too_often_is_given_up_and_the_rest_stays() {
    let stage = settled(ROBOTS).await;
    edit(&stage, "bad", json!({ "abortThresholdPercent": 20 })).await;
    let group = until(&stage, RolloutState::Aborted, 1).await;
    let rollout = group.status.unwrap().rollout.unwrap();
    assert_eq!(rollout.failed, 1, "one of four is more than 20 %");
    // The one that failed is given what worked after a while.
    assert!(commands(&stage).await["first"] >= ROBOTS - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_fails_seldom_goes_on() {
    let stage = settled(1).await;
    edit(
        &stage,
        "bad",
        json!({ "abortThresholdPercent": 50, "maxParallel": 2 }),
    )
    .await;
    let group = until(&stage, RolloutState::Completed, ROBOTS).await;
    let rollout = group.status.unwrap().rollout.unwrap();
    // What fails is moved after a while, and another may have come to that robot in between; with
    // more than half of them failing it would not have been completed.
    assert!(rollout.failed <= 2, "{rollout:?}");
    assert_eq!(rollout.failed + rollout.healthy, ROBOTS);
}
