//! Nodes and executors that pretend: every pod is ready at an address of its own, where an
//! executor keeps tasks as the real one does. `hang` runs until it is stopped, `fail` fails,
//! everything else succeeds at once.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get, routing::post};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use sandlot_api::opensandbox::{
    ExecutorTask, ProcessStatus, Running, Terminated, names::EXECUTOR_PORT,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// The tasks of one pod, and every process that was ever started in it.
#[derive(Default)]
pub struct Executor {
    tasks: Mutex<Vec<ExecutorTask>>,
    /// Until when it does not answer.
    silent: Mutex<Option<Instant>>,
    started: Mutex<Vec<String>>,
}

/// All executors, by pod.
#[derive(Default)]
pub struct Executors {
    by_pod: Mutex<HashMap<String, Arc<Executor>>>,
    /// Everything that was started, whatever became of the pod.
    started: Mutex<Vec<(String, String)>>,
    next: AtomicU32,
    /// A part of 127.0.0.0/8 that is this test's own.
    network: u32,
}

impl Executors {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            network: (rand::random::<u32>() & 0x00ff_ff00) | 0x7f00_0000 | 0x0001_0000,
            ..Self::default()
        })
    }

    /// The commands that were started, as task and command.
    pub fn started(&self) -> Vec<(String, String)> {
        self.started.lock().unwrap().clone()
    }

    /// The tasks that are there in a pod.
    pub fn tasks(&self, pod: &str) -> Vec<ExecutorTask> {
        let found = self.by_pod.lock().unwrap().get(pod).cloned();
        found.map_or_else(Vec::new, |executor| executor.tasks.lock().unwrap().clone())
    }

    /// Lets everything that hangs in a pod come to a good end.
    pub fn finish(&self, pod: &str) {
        let found = self.by_pod.lock().unwrap().get(pod).cloned();
        for task in found.unwrap().tasks.lock().unwrap().iter_mut() {
            task.process_status = Some(ended(0));
        }
    }

    /// Kills a pod's executor: it answers again after a moment, and either finds its tasks or
    /// has lost all that it knew.
    pub fn kill(&self, pod: &str, forgets: bool) {
        let Some(executor) = self.by_pod.lock().unwrap().get(pod).cloned() else {
            return;
        };
        *executor.silent.lock().unwrap() = Some(Instant::now() + Duration::from_millis(300));
        if forgets {
            executor.tasks.lock().unwrap().clear();
        }
    }

    async fn open(self: &Arc<Self>, pod: &str, stop: CancellationToken) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let ip = Ipv4Addr::from(self.network + number);
        let executor = Arc::new(Executor::default());
        self.by_pod
            .lock()
            .unwrap()
            .insert(pod.to_owned(), executor.clone());
        let listener = tokio::net::TcpListener::bind((ip, EXECUTOR_PORT))
            .await
            .unwrap();
        let state = (self.clone(), executor, pod.to_owned());
        let routes = Router::new()
            .route("/setTasks", post(set))
            .route("/getTasks", get(list))
            .with_state(state);
        tokio::spawn(async move {
            let serving = axum::serve(listener, routes);
            let _ = serving.with_graceful_shutdown(stop.cancelled_owned()).await;
        });
        ip.to_string()
    }
}

type Answer = Result<Json<Vec<ExecutorTask>>, StatusCode>;
type Here = State<(Arc<Executors>, Arc<Executor>, String)>;

async fn set(State((all, executor, _)): Here, Json(wanted): Json<Vec<ExecutorTask>>) -> Answer {
    executor.answers()?;
    let mut tasks = executor.tasks.lock().unwrap();
    tasks.retain(|task| wanted.iter().any(|one| one.name == task.name));
    for task in wanted {
        if tasks.iter().any(|one| one.name == task.name) {
            continue;
        }
        let process = task.process.clone().unwrap();
        let words: Vec<String> = process
            .command
            .iter()
            .chain(&process.args)
            .cloned()
            .collect();
        executor.started.lock().unwrap().push(task.name.clone());
        let line = words.join(" ");
        all.started
            .lock()
            .unwrap()
            .push((task.name.clone(), line.clone()));
        let status = match words[0].as_str() {
            "hang" => ProcessStatus {
                running: Some(Running {
                    started_at: Some(Timestamp::now()),
                }),
                ..ProcessStatus::default()
            },
            "fail" => ended(1),
            _ => ended(0),
        };
        tasks.push(ExecutorTask {
            process_status: Some(status),
            ..task
        });
    }
    Ok(Json(tasks.clone()))
}

impl Executor {
    fn answers(&self) -> Result<(), StatusCode> {
        match *self.silent.lock().unwrap() {
            Some(until) if until > Instant::now() => Err(StatusCode::SERVICE_UNAVAILABLE),
            _ => Ok(()),
        }
    }
}

fn ended(exit_code: i32) -> ProcessStatus {
    ProcessStatus {
        terminated: Some(Terminated {
            exit_code,
            ..Terminated::default()
        }),
        ..ProcessStatus::default()
    }
}

async fn list(State((_, executor, _)): Here) -> Answer {
    executor.answers()?;
    Ok(Json(executor.tasks.lock().unwrap().clone()))
}

/// Stands in for the nodes: pods are ready as soon as they are seen, unless their label `pretend`
/// says otherwise.
pub async fn stand_in(client: Client, executors: Arc<Executors>, stop: CancellationToken) {
    let all: Api<Pod> = Api::all(client.clone());
    let mut events = watcher(all, watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    loop {
        let pod = tokio::select! {
            next = events.try_next() => match next {
                Ok(Some(pod)) => pod,
                Ok(None) => return,
                Err(_) => continue,
            },
            () = stop.cancelled() => return,
        };
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
        let name = pod.name_any();
        let status = pod.status.as_ref();
        if pod.metadata.deletion_timestamp.is_some() {
            let now = DeleteParams::default().grace_period(0);
            let _ = api.delete(&name, &now).await;
        } else if pod
            .labels()
            .get("pretend")
            .is_some_and(|how| how == "ended")
        {
            // Its test says itself how it is.
        } else if status.is_none_or(|status| status.container_statuses.is_none()) {
            let ip = executors.open(&name, stop.clone()).await;
            let pretend = pod.labels().get("pretend").cloned().unwrap_or_default();
            let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
            let spec = pod.spec.as_ref().unwrap();
            let image = spec.containers[0].image.clone().unwrap_or_default();
            let container = |state: serde_json::Value, ready: bool| {
                json!([{ "name": "sandbox-container", "image": image, "imageID": "", "ready": ready,
                    "restartCount": 0, "state": state, "containerID": format!("pretend://{name}") }])
            };
            let status = match pretend.as_str() {
                "no-image" => json!({ "phase": "Pending", "containerStatuses":
                    container(json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such tag" } }), false) }),
                "starting" => json!({ "phase": "Pending", "podIP": ip, "containerStatuses":
                    container(json!({ "waiting": { "reason": "ContainerCreating" } }), false) }),
                _ => json!({ "phase": "Running", "podIP": ip,
                    "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": now.to_string() }],
                    "containerStatuses": container(json!({ "running": { "startedAt": now.to_string() } }), true) }),
            };
            let patch = Patch::Merge(json!({ "status": status }));
            let _ = api
                .patch_status(&name, &PatchParams::default(), &patch)
                .await;
        }
    }
}
