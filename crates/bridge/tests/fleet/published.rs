//! Robots of the published protocol: what their agents send and hear.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use sandlot_api::robot::{Command, CommandResultState, Job, RobotPhase, Task};
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage, TOKEN, job, state, task_state};

/// A client without a login, as `mosquitto_pub` is.
pub(crate) struct Agent {
    client: AsyncClient,
    wire: EventLoop,
}

impl Agent {
    /// One that calls itself so at the broker.
    pub(crate) fn new(stage: &Stage, name: &str) -> Self {
        let port = stage.broker.address.port();
        let mut options = MqttOptions::new(name, "127.0.0.1", port);
        // It says nothing while a test looks elsewhere, however long that takes.
        options.set_keep_alive(10 * PATIENCE);
        let (client, wire) = AsyncClient::new(options, 64);
        Self { client, wire }
    }

    /// Says something, as soon as it next listens.
    pub(crate) async fn say(&self, topic: &str, what: Value) {
        self.client
            .publish(topic, QoS::AtLeastOnce, false, what.to_string())
            .await
            .unwrap();
    }

    /// Listens to a topic from now on.
    pub(crate) async fn hear(&mut self, topic: &str) {
        self.client
            .subscribe(topic, QoS::AtLeastOnce)
            .await
            .unwrap();
        loop {
            if let Event::Incoming(Packet::SubAck(_)) = self.wire.poll().await.unwrap() {
                return;
            }
        }
    }

    /// Registers, again and again until there is an answer, as agents do: nobody listens before
    /// the bridge has come.
    pub(crate) async fn register(&mut self, what: Value) -> Value {
        let robot = what["robotId"].as_str().unwrap();
        let answers = format!("k8s4r/robots/{robot}/response");
        loop {
            self.say("k8s4r/register", what.clone()).await;
            let answer = self.next(&answers);
            if let Ok(answer) = tokio::time::timeout(Duration::from_secs(2), answer).await {
                return answer;
            }
        }
    }

    /// The next message on a topic.
    pub(crate) async fn next(&mut self, topic: &str) -> Value {
        serde_json::from_slice(&self.next_bytes(topic).await).unwrap()
    }

    /// Says what is still to be said until something has come about.
    pub(crate) async fn talks_until<T>(&mut self, what: impl Future<Output = T>) -> T {
        let talking = async { while self.wire.poll().await.is_ok() {} };
        tokio::select! {
            seen = what => seen,
            () = talking => panic!("the broker has put the agent out"),
        }
    }

    async fn next_bytes(&mut self, topic: &str) -> Vec<u8> {
        let hearing = async {
            loop {
                if let Event::Incoming(Packet::Publish(message)) = self.wire.poll().await.unwrap()
                    && message.topic == topic
                {
                    return message.payload.to_vec();
                }
            }
        };
        let heard = tokio::time::timeout(PATIENCE, hearing).await;
        heard.unwrap_or_else(|_| panic!("nothing is said on {topic}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_agent_registers_works_and_is_heard_on_both_revisions_topics() {
    let stage = Stage::set(|_| {}).await;
    let mut agent = Agent::new(&stage, "k8s4r-agent-old-1");
    agent.hear("k8s4r/robots/old-1/response").await;
    agent.hear("robots/old-1/tasks/dispatch").await;
    agent.hear("k8s4r/robots/old-1/tasks/dispatch").await;
    let device = json!({ "hostname": "old", "os": "linux", "arch": "arm64" });
    let register = json!({ "robotId": "old-1", "token": TOKEN, "deviceInfo": device });
    let answer = agent.register(register).await;
    assert_eq!(answer["success"], true, "{answer}");
    stage.phase("old-1", RobotPhase::Online).await;
    let _: Job = stage.make(job("old", 1)).await;
    let order = agent.next("robots/old-1/tasks/dispatch").await;
    assert_eq!(order["action"], "create");
    assert_eq!(
        order["task"]["spec"]["config"]["execConfig"]["command"],
        "true"
    );
    let uid = order["task"]["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let status = |state: &str, code: i32| {
        json!({
            "taskUid": uid, "robotName": "old-1", "state": state, "exitCode": code,
            "message": "", "updatedAt": "2025-01-01T00:00:00Z", "event": "Started",
        })
    };
    agent
        .say(
            &format!("robots/old-1/tasks/{uid}/status"),
            status("running", 0),
        )
        .await;
    agent
        .say(
            &format!("k8s4r/robots/old-1/tasks/{uid}/status"),
            status("exited", 0),
        )
        .await;
    // A late word does not bring it back to life.
    agent
        .say(
            &format!("robots/old-1/tasks/{uid}/status"),
            status("running", 0),
        )
        .await;
    let waiting = stage.until("old", |job: &Job| state(job) == "Completed");
    agent.talks_until(waiting).await;
    let task = stage.api::<Task>().get("old-main-r0-run").await.unwrap();
    assert_eq!(task_state(&task), "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_agents_beat_is_answered_and_one_with_a_wrong_token_is_none() {
    let stage = Stage::set(|settings| settings.timeout = Duration::from_secs(3)).await;
    let mut agent = Agent::new(&stage, "k8s4r-agent-old-1");
    agent.hear("k8s4r/robots/old-1/response").await;
    agent
        .register(json!({ "robotId": "old-1", "token": TOKEN }))
        .await;
    agent.hear("k8s4r/response/old-1").await;
    let beat = |token: &str| json!({ "robotId": "old-1", "token": token });
    agent.say("k8s4r/heartbeat", beat(TOKEN)).await;
    let said = json!({ "success": true, "message": "heartbeat received", "robotId": "old-1" });
    // What it was told of its registration may come first.
    while agent.next("k8s4r/response/old-1").await != said {}
    // Somebody else's words do not keep it alive.
    let beating = async {
        loop {
            agent.say("k8s4r/heartbeat", beat("guess")).await;
            // A few times in each timeout.
            let listening = async { while agent.wire.poll().await.is_ok() {} };
            let _ = tokio::time::timeout(Duration::from_millis(500), listening).await;
        }
    };
    tokio::select! {
        _ = stage.phase("old-1", RobotPhase::Offline) => {}
        () = beating => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_agent_is_told_commands_in_words() {
    let stage = Stage::set(|_| {}).await;
    let mut agent = Agent::new(&stage, "k8s4r-agent-old-1");
    agent.hear("k8s4r/robots/old-1/response").await;
    agent.hear("k8s4r/commands/old-1").await;
    let register = json!({ "robotId": "old-1", "token": TOKEN });
    agent.register(register).await;
    stage.phase("old-1", RobotPhase::Online).await;
    let _: Command = stage
        .make(json!({
            "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "Command", "metadata": { "name": "dock" },
            "spec": { "robots": ["old-1"], "verb": "dock", "args": ["at", "3"], "deadline": "1h" },
        }))
        .await;
    assert_eq!(agent.next_bytes("k8s4r/commands/old-1").await, b"dock at 3");
    // It answers nothing, but was told.
    let told = |command: &Command| {
        let status = command.status.as_ref();
        let results = status.and_then(|status| status.results.as_ref());
        results.is_some_and(|all| all[0].state == CommandResultState::Running)
    };
    stage.until("dock", told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bad_is_refused_and_disturbs_nobody() {
    let mut stage = Stage::set(|_| {}).await;
    stage.robot("arm-1", |_| {});
    stage.works("arm-1").await;
    let mut agent = Agent::new(&stage, "stranger");
    agent.hear("k8s4r/robots/arm-1/response").await;
    let takeover = json!({ "robotId": "arm-1", "token": TOKEN });
    agent.say("k8s4r/register", takeover).await;
    // What the robot itself is told on its own connections is heard there too.
    loop {
        let answer = agent.next("k8s4r/robots/arm-1/response").await;
        if answer["success"] == false {
            break;
        }
    }
    agent
        .say(
            "k8s4r/register",
            json!({ "robotId": "evil/+/#", "token": TOKEN }),
        )
        .await;
    agent
        .say(
            "k8s4r/register",
            json!({ "robotId": "guest", "token": "guess" }),
        )
        .await;
    agent.say("k8s4r/register", json!([1, 2, 3])).await;
    agent
        .say(
            "k8s4r/register",
            json!({ "robotId": "after", "token": TOKEN }),
        )
        .await;
    tokio::spawn(async move { while agent.wire.poll().await.is_ok() {} });
    stage.phase("after", RobotPhase::Online).await;
    let robots = stage.api::<sandlot_api::robot::Robot>();
    assert!(robots.get_opt("guest").await.unwrap().is_none());
    stage.phase("arm-1", RobotPhase::Online).await;
}
