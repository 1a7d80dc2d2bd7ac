//! Several bridges at once, of which one works.

use sandlot_api::robot::{Job, RobotPhase};
use serde_json::json;

use crate::{
    published::Agent,
    stage::{Stage, TOKEN, job, state},
};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_bridges_one_works_and_the_other_takes_its_place() {
    let mut stage = Stage::set(|settings| {
        settings.leader_election = true;
        settings.identity = "one".to_owned();
    })
    .await;
    let mut agent = Agent::new(&stage, "published");
    let orders = "robots/arm-1/tasks/dispatch";
    agent.hear(orders).await;
    agent.hear("k8s4r/robots/arm-1/response").await;
    agent
        .register(json!({ "robotId": "arm-1", "token": TOKEN }))
        .await;
    stage.phase("arm-1", RobotPhase::Online).await;
    // The first works; this one waits for its turn.
    stage.start_another_bridge("two");
    for name in ["first", "second"] {
        let _: Job = stage.make(job(name, 1)).await;
        // An order that came twice would be found in the place of the next.
        let order = agent.next(orders).await;
        assert_eq!(order["action"], "create");
        assert_eq!(
            order["task"]["metadata"]["name"],
            format!("{name}-main-r0-run")
        );
        let uid = order["task"]["metadata"]["uid"].as_str().unwrap();
        let ended =
            json!({ "taskUid": uid, "robotName": "arm-1", "state": "exited", "exitCode": 0 });
        agent
            .say(&format!("robots/arm-1/tasks/{uid}/status"), ended)
            .await;
        let done = stage.until(name, |job: &Job| state(job) == "Completed");
        agent.talks_until(done).await;
        if name == "first" {
            stage.stop_bridge().await;
        }
    }
}
