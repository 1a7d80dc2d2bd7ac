//! What becomes of work when its robot is drained, or gone, and when robots come.

use std::{collections::BTreeSet, time::Duration};

use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use sandlot_api::robot::{Job, Robot, RobotPhase, Task};
use serde_json::{Value, json};

use crate::{
    published::Agent,
    stage::{Stage, TOKEN, job, task_state},
};

/// A job of one group that goes on for ever.
fn lasting(name: &str, kind: &str, disconnect: Value) -> Value {
    let mut manifest = job(name, 1);
    manifest["spec"]["type"] = kind.into();
    manifest["spec"]["taskGroups"][0]["disconnect"] = disconnect;
    manifest["spec"]["taskGroups"][0]["tasks"][0]["killTimeout"] = "1s".into();
    manifest
}

fn runs(task: &Task) -> bool {
    task_state(task) == "running"
}

#[tokio::test(flavor = "multi_thread")]
async fn work_leaves_a_robot_that_is_drained_and_nothing_new_comes_to_it() {
    let mut stage = Stage::set(|_| {}).await;
    for id in ["a", "b"] {
        stage.robot(id, |_| {});
        stage.works(id).await;
    }
    let _: Job = stage.make(lasting("serve", "service", Value::Null)).await;
    let task = stage.until("serve-main-r0-run", runs).await;
    let first = task.spec.target_robot.unwrap();
    let _: Robot = stage
        .change(&first, json!({ "spec": { "drain": true } }))
        .await;
    let moved = |task: &Task| runs(task) && task.spec.target_robot.as_ref() != Some(&first);
    let task = stage.until("serve-main-r0-run", moved).await;
    let closed = |robot: &Robot| {
        let conditions = robot.status.iter().flat_map(|status| &status.conditions);
        let mut conditions = conditions.flatten();
        conditions.any(|one| one.type_ == "Schedulable" && one.reason == "Cordoned")
    };
    stage.until(&first, closed).await;
    // With nowhere else to go it stays where it is.
    let second = task.spec.target_robot.clone().unwrap();
    let _: Robot = stage
        .change(&second, json!({ "spec": { "drain": true } }))
        .await;
    stage.until(&second, closed).await;
    let stays = stage.api::<Task>().get("serve-main-r0-run").await.unwrap();
    assert_eq!(stays.uid(), task.uid());
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_a_robot_that_is_gone_is_done_elsewhere_only_where_its_group_wants_that() {
    let mut stage = Stage::set(|_| {}).await;
    let life = stage.robot("a", |_| {});
    stage.works("a").await;
    let replace = json!({ "action": "replace", "after": "1s" });
    let _: Job = stage.make(lasting("moves", "service", replace)).await;
    let _: Job = stage.make(lasting("waits", "service", Value::Null)).await;
    for task in ["moves-main-r0-run", "waits-main-r0-run"] {
        stage.until(task, runs).await;
    }
    stage.robot("b", |_| {});
    stage.works("b").await;
    life.cancel();
    stage.phase("a", RobotPhase::Offline).await;
    let lost = |task: &Task| task_state(task) == "lost";
    stage.until("moves-main-r0-run", lost).await;
    let task = stage.until("moves-main-r0-run-a1", runs).await;
    assert_eq!(task.spec.target_robot.as_deref(), Some("b"));
    let waits = stage.api::<Task>().get("waits-main-r0-run").await.unwrap();
    assert_eq!(task_state(&waits), "running", "nobody knows better");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_job_does_not_wait_for_ever_for_a_robot_that_is_gone() {
    let mut stage = Stage::set(|_| {}).await;
    let life = stage.robot("a", |_| {});
    let _: Job = stage.make(lasting("serve", "service", Value::Null)).await;
    stage.until("serve-main-r0-run", runs).await;
    life.cancel();
    stage.phase("a", RobotPhase::Offline).await;
    let jobs = stage.api::<Job>();
    jobs.delete("serve", &DeleteParams::default())
        .await
        .unwrap();
    stage.gone::<Job>("serve").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_job_is_on_every_robot_and_comes_with_the_next() {
    let mut stage = Stage::set(|_| {}).await;
    for id in ["a", "b"] {
        stage.robot(id, |_| {});
        stage.works(id).await;
    }
    let _: Job = stage.make(lasting("log", "system", Value::Null)).await;
    for replica in 0..2 {
        stage.until(&format!("log-main-r{replica}-run"), runs).await;
    }
    stage.robot("c", |_| {});
    stage.until("log-main-r2-run", runs).await;
    let of_job = ListParams::default().labels("job=log");
    let tasks = stage.api::<Task>().list(&of_job).await.unwrap();
    let robots: BTreeSet<String> = tasks
        .items
        .into_iter()
        .filter_map(|task| task.spec.target_robot)
        .collect();
    assert_eq!(robots, ["a", "b", "c"].map(str::to_owned).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_whose_beats_stop_is_offline_until_the_next_one() {
    let stage = Stage::set(|settings| settings.timeout = Duration::from_secs(1)).await;
    let mut agent = Agent::new(&stage, "published");
    agent.hear("k8s4r/robots/arm-1/response").await;
    let me = json!({ "robotId": "arm-1", "token": TOKEN });
    agent.register(me.clone()).await;
    let robot = stage.phase("arm-1", RobotPhase::Offline).await;
    let status = robot.status.unwrap();
    assert_eq!(status.message.as_deref(), Some("Heartbeat timeout"));
    agent.say("k8s4r/heartbeat", me).await;
    agent
        .talks_until(stage.phase("arm-1", RobotPhase::Online))
        .await;
}
