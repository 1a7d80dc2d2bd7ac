//! Robots come, jobs go to them, and what came of them is told.

use std::{collections::BTreeSet, time::Duration};

use kube::api::{DeleteParams, ListParams};
use sandlot_api::robot::{Job, Robot, RobotPhase, Task, TaskGroup};
use serde_json::json;

use crate::{
    listener::Listener,
    stage::{Stage, job, state, task_state},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_on_a_robot_that_registered_itself() {
    let mut stage = Stage::set(|_| {}).await;
    stage.robot("arm-1", |_| {});
    let robot = stage.phase("arm-1", RobotPhase::Online).await;
    let status = robot.status.unwrap();
    assert_eq!(
        robot.spec.description.as_deref(),
        Some("Registered by agent")
    );
    assert_eq!(
        status.device_info.unwrap().hostname.as_deref(),
        Some("arm-1")
    );
    let _: Job = stage.make(job("hello", 1)).await;
    let done = stage
        .until("hello", |job: &Job| state(job) == "Completed")
        .await;
    let status = done.status.unwrap();
    assert_eq!(
        (
            status.total_tasks,
            status.succeeded_tasks,
            status.failed_tasks
        ),
        (1, 1, 0)
    );
    let task = stage.api::<Task>().get("hello-main-r0-run").await.unwrap();
    let status = task.status.unwrap();
    assert_eq!(status.exit_code, Some(0));
    assert_eq!(status.logs.as_deref(), Some("simulated\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_spread_over_robots_that_fit() {
    let mut stage = Stage::set(|_| {}).await;
    for id in ["a", "b", "c", "d"] {
        let label = if id == "d" { "south" } else { "north" };
        stage.robot(id, |robot| {
            robot.labels = vec![("site".to_owned(), label.to_owned())]
        });
    }
    for id in ["a", "b", "c", "d"] {
        stage.works(id).await;
    }
    let mut manifest = job("spread", 3);
    manifest["spec"]["robotSelector"] = json!({ "site": "north" });
    let _: Job = stage.make(manifest).await;
    stage
        .until("spread", |job: &Job| state(job) == "Completed")
        .await;
    let of_job = ListParams::default().labels("job=spread");
    let tasks = stage.api::<Task>().list(&of_job).await.unwrap();
    let robots: BTreeSet<_> = tasks
        .items
        .iter()
        .filter_map(|task| task.spec.target_robot.as_deref())
        .collect();
    assert_eq!(robots, BTreeSet::from(["a", "b", "c"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_until_a_robot_fits() {
    let mut stage = Stage::set(|_| {}).await;
    let _: Job = stage.make(job("early", 1)).await;
    let waits = |group: &TaskGroup| {
        let status = group.status.as_ref();
        let why = status.and_then(|status| status.status_description.as_deref());
        why.is_some_and(|why| why.contains("wait for a robot"))
    };
    stage.until("early-main", waits).await;
    stage.robot("late", |_| {});
    stage
        .until("early", |job: &Job| state(job) == "Completed")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_important_job_finds_room_first() {
    let mut stage = Stage::set(|_| {}).await;
    for (name, priority) in [("first", 10), ("second", 90)] {
        let mut manifest = job(name, 1);
        manifest["spec"]["priority"] = json!(priority);
        // All that a robot has.
        manifest["spec"]["taskGroups"][0]["tasks"][0]["resources"] = json!({ "cpu": "4" });
        let _: Job = stage.make(manifest).await;
        let waits = |group: &TaskGroup| group.status.is_some();
        stage.until(&format!("{name}-main"), waits).await;
    }
    stage.robot("arm-1", |_| {});
    let over = |task: &Task| task_state(task) == "completed";
    let important = stage.until("second-main-r0-run", over).await;
    let other = stage.until("first-main-r0-run", over).await;
    let (important, other) = (important.status.unwrap(), other.status.unwrap());
    assert!(important.finished_at.unwrap().0 <= other.started_at.unwrap().0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_job_is_stopped_on_its_robot_before_it_is_gone() {
    let mut stage = Stage::set(|_| {}).await;
    stage.robot("arm-1", |robot| robot.work = Duration::from_secs(3600));
    let _: Job = stage.make(job("long", 1)).await;
    stage
        .until("long-main-r0-run", |task: &Task| {
            task_state(task) == "running"
        })
        .await;
    stage
        .api::<Job>()
        .delete("long", &DeleteParams::default())
        .await
        .unwrap();
    stage.gone::<Job>("long").await;
    assert!(
        stage
            .api::<Task>()
            .get_opt("long-main-r0-run")
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_is_stopped_and_kept() {
    let mut stage = Stage::set(|_| {}).await;
    stage.robot("arm-1", |robot| robot.work = Duration::from_secs(3600));
    let _: Job = stage.make(job("long", 1)).await;
    stage
        .until("long-main-r0-run", |task: &Task| {
            task_state(task) == "running"
        })
        .await;
    let _: Job = stage
        .change("long", json!({ "spec": { "cancel": true } }))
        .await;
    stage
        .until("long", |job: &Job| state(job) == "Cancelled")
        .await;
    let task = stage.api::<Task>().get("long-main-r0-run").await.unwrap();
    assert_eq!(task_state(&task), "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_that_is_killed_is_offline_through_its_will_and_comes_back() {
    let mut stage = Stage::set(|_| {}).await;
    let life = stage.robot("arm-1", |_| {});
    stage.works("arm-1").await;
    life.cancel();
    let robot = stage.phase("arm-1", RobotPhase::Offline).await;
    assert_eq!(
        robot.status.unwrap().message.as_deref(),
        Some("Connection lost")
    );
    // As after a lost disk: only with somebody's leave does the token let it in again.
    let wish = json!({ "spec": { "credential": { "renew": true } } });
    let _: Robot = stage.change("arm-1", wish).await;
    stage.robot("arm-1", |_| {});
    stage.phase("arm-1", RobotPhase::Online).await;
    let taken_back = |robot: &Robot| {
        let wish = robot.spec.credential.as_ref();
        wish.is_none_or(|wish| wish.renew.is_none())
    };
    stage.until("arm-1", taken_back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_over_the_restart_of_a_bridge() {
    let mut stage = Stage::set(|_| {}).await;
    stage.robot("arm-1", |robot| robot.work = Duration::from_secs(1));
    stage.phase("arm-1", RobotPhase::Online).await;
    let mut listener = Listener::new(&stage).await;
    let _: Job = stage.make(job("over", 1)).await;
    stage
        .until("over-main-r0-run", |task: &Task| {
            task_state(task) == "running"
        })
        .await;
    stage.stop_bridge().await;
    // It ends while nobody is there to write it down.
    listener.until("arm-1", "Completed").await;
    stage.start_bridge();
    let done = stage
        .until("over", |job: &Job| state(job) == "Completed")
        .await;
    assert_eq!(done.status.unwrap().succeeded_tasks, 1);
}
