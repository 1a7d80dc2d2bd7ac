//! The task executor's HTTP.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Agent, LONG, free_port, lives};

struct Executor {
    agent: Agent,
    port: u16,
}

fn words(address: &str) -> [&str; 5] {
    ["--plain", "--http-port", "0", "--tasks-addr", address]
}

impl Executor {
    fn start() -> Self {
        let port = free_port();
        Self {
            agent: Agent::start(&words(&format!("127.0.0.1:{port}")), &[]),
            port,
        }
    }

    /// A request and its answer: the status and the body.
    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.agent.client().await;
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .unwrap();
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(LONG, stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            serde_json::from_str(body).unwrap_or(Value::Null),
        )
    }

    async fn set(&self, tasks: Value) -> (u16, Value) {
        self.ask("POST", "/setTasks", tasks).await
    }

    /// Waits until the list of tasks is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let (_, tasks) = self.ask("GET", "/getTasks", Value::Null).await;
                if wanted(&tasks) {
                    return tasks;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LONG, waiting)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"))
    }
}

fn task(name: &str, script: &str) -> Value {
    json!({ "name": name, "process": { "command": ["/bin/sh", "-c"], "args": [script], "env": [{ "name": "GREETING", "value": "hello" }] } })
}

#[tokio::test]
async fn a_task_is_pushed_again_and_again_and_runs_once() {
    let executor = Executor::start();
    let wanted = json!([task("b-0", "echo $GREETING >> said; exit 3")]);
    for _ in 0..3 {
        assert_eq!(executor.set(wanted.clone()).await.0, 200);
    }
    let tasks = executor
        .until("it ends", |tasks| {
            !tasks[0]["processStatus"]["terminated"].is_null()
        })
        .await;
    assert_eq!(
        tasks[0]["processStatus"]["terminated"]["exitCode"],
        json!(3)
    );
    assert_eq!(executor.set(wanted).await.0, 200);
    assert_eq!(executor.agent.read("workspace/said"), "hello\n");
}

#[tokio::test]
async fn a_task_no_longer_wanted_goes_with_its_whole_tree_even_across_a_crash() {
    let mut executor = Executor::start();
    let script = "setsid sh -c 'trap \"\" TERM HUP; echo $$ > pid.new; mv pid.new pid; while :; do sleep 0.05; done' & wait";
    executor.set(json!([task("b-0", script)])).await;
    crate::until("it has begun", || {
        executor.agent.path("workspace/pid").exists()
    })
    .await;
    let pid: i32 = executor.agent.read("workspace/pid").trim().parse().unwrap();
    let (_, tasks) = executor.set(json!([])).await;
    assert!(
        tasks[0]["deletionTimestamp"].is_string(),
        "listed until it is gone: {tasks}"
    );
    executor.agent.kill();
    let address = format!("127.0.0.1:{}", executor.port);
    executor.agent.process = Agent::spawn(
        &executor.agent.dir,
        executor.agent.port,
        &words(&address),
        &[],
    );
    executor
        .until("it is gone", |tasks| tasks == &json!([]))
        .await;
    assert!(!lives(pid));
}

#[tokio::test]
async fn what_a_task_that_ended_left_behind_is_kept() {
    let executor = Executor::start();
    executor
        .set(json!([task("b-0", "setsid sleep 1000 & echo $! > pid")]))
        .await;
    executor
        .until("it ends", |tasks| {
            tasks[0]["processStatus"]["terminated"]["exitCode"] == json!(0)
        })
        .await;
    let pid: i32 = executor.agent.read("workspace/pid").trim().parse().unwrap();
    assert!(lives(pid));
    executor.set(json!([])).await;
    executor
        .until("it is gone", |tasks| tasks == &json!([]))
        .await;
    assert!(
        !lives(pid),
        "once it is not wanted any more, all of it goes"
    );
}

#[tokio::test]
async fn a_timeout_is_told_as_one() {
    let executor = Executor::start();
    let mut wanted = task("b-0", "sleep 1000");
    wanted["process"]["timeoutSeconds"] = json!(1);
    executor.set(json!([wanted])).await;
    let tasks = executor
        .until("it ends", |tasks| {
            !tasks[0]["processStatus"]["terminated"].is_null()
        })
        .await;
    let told = &tasks[0]["processStatus"]["terminated"];
    assert_eq!(
        (&told["exitCode"], &told["reason"]),
        (&json!(137), &json!("TaskTimeout"))
    );
}

#[tokio::test]
async fn the_single_routes_answer_as_their_clients_expect() {
    let executor = Executor::start();
    assert_eq!(
        executor.ask("GET", "/health", Value::Null).await,
        (200, json!({ "status": "healthy" }))
    );
    let (status, made) = executor
        .ask("POST", "/tasks", task("one", "sleep 1000"))
        .await;
    assert!(
        status == 201 && made["processStatus"]["running"]["startedAt"].is_string(),
        "{status} {made}"
    );
    assert_eq!(
        executor.ask("POST", "/tasks", task("one", "true")).await.0,
        500
    );
    let (status, refusal) = executor.ask("POST", "/tasks", task("two", "true")).await;
    assert_eq!(
        (status, &refusal["code"]),
        (500, &json!("Internal Server Error"))
    );
    assert!(
        refusal["message"]
            .as_str()
            .unwrap()
            .contains("another task is active")
    );
    assert_eq!(executor.ask("POST", "/tasks", json!({})).await.0, 400);
    assert_eq!(
        executor.ask("POST", "/setTasks", json!("no list")).await.0,
        400
    );
    assert_eq!(executor.ask("GET", "/tasks/one", Value::Null).await.0, 200);
    assert_eq!(executor.ask("GET", "/tasks/none", Value::Null).await.0, 404);
    assert_eq!(
        executor.ask("DELETE", "/tasks/none", Value::Null).await.0,
        204
    );
    assert_eq!(
        executor.ask("DELETE", "/tasks/one", Value::Null).await.0,
        204
    );
    executor
        .until("it is gone", |tasks| tasks == &json!([]))
        .await;
}

#[tokio::test]
async fn of_several_added_at_once_one_runs_and_none_is_stopped_for_another() {
    let executor = Executor::start();
    let adding = (0..8).map(|index| {
        let task = task(&format!("task-{index}"), "sleep 1000");
        executor.ask("POST", "/tasks", task)
    });
    let answers = futures::future::join_all(adding).await;
    let made: Vec<&Value> = answers
        .iter()
        .filter(|(status, _)| *status == 201)
        .map(|(_, task)| task)
        .collect();
    assert_eq!(made.len(), 1, "{answers:?}");
    let (_, tasks) = executor.ask("GET", "/getTasks", Value::Null).await;
    assert_eq!(tasks.as_array().unwrap().len(), 1, "{tasks}");
    assert_eq!(tasks[0]["name"], made[0]["name"]);
    assert_eq!(tasks[0]["deletionTimestamp"], Value::Null);
    executor.set(json!([])).await;
    executor
        .until("it is gone", |tasks| tasks == &json!([]))
        .await;
}
