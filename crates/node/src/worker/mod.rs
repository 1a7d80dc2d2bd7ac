//! One task for each pod: it lets [`crate::pod::next`] decide, does what was decided, and
//! tells the API what has become of it.

mod launch;
mod plan;
mod publish;
mod storage;
pub(crate) mod view;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::keeper::message::{ContainerState, Ended, Tell};
use crate::node::Shared;
use crate::pod::{Act, End, Facts, Phase, Stopping, next};
use crate::sandbox::Sandbox;
use launch::{Launched, NotLaunched};
use view::{ContainerView, View};
use volumes::Volumes;

/// Events that may wait for a worker; the API's are merged before they come here.
const MOST_WAITING: usize = 64;

/// What wakes a worker.
pub(crate) enum Event {
    /// The pod has changed in the API.
    Changed(Box<Pod>),
    /// The pod is no longer in the API.
    Gone,
    /// Its sandbox is there, or why not.
    Sandbox(Result<Arc<Sandbox>, String>),
    /// The volumes are ready, or why not.
    Volumes(Result<Volumes, String>),
    /// A container was started, or why not.
    Launched(String, Result<Box<Launched>, NotLaunched>),
    /// The keeper tells of a container.
    Told(Tell),
    /// The keeper has gone, and every container with it.
    KeeperLost,
    /// The API took our status, or did not.
    Published(bool),
    /// A probe has come to a result.
    Probed {
        container: String,
        attempt: u32,
        result: crate::probe::Verdict,
    },
    /// The node wants the pod over (evicted …).
    GiveUp(String, String),
    /// Everything of the pod is removed.
    Removed,
    /// Something finished that nobody waits for.
    Done,
}

/// A running worker.
pub(crate) struct Worker {
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) view: Arc<Mutex<View>>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

/// The task's own state.
struct Tending {
    shared: Arc<Shared>,
    facts: Facts,
    sandbox: Option<Arc<Sandbox>>,
    volumes: Option<Volumes>,
    making: Making,
    images: BTreeMap<String, crate::images::Image>,
    probes: BTreeMap<String, CancellationToken>,
    /// Runs that ended before we were told that they had begun.
    early: BTreeMap<String, Ended>,
    view: Arc<Mutex<View>>,
    events: mpsc::Sender<Event>,
    tasks: JoinSet<Event>,
    publisher: publish::Publisher,
    /// Cancelled when the worker ends, and with it all it has started.
    stop: CancellationToken,
}

/// How far the surroundings of the containers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Making {
    Nothing,
    Sandbox,
    Volumes,
    Ready,
    /// Failed; again at this time.
    Again(Timestamp),
    /// Being taken down.
    Removing,
    Removed,
}

/// Takes on a pod; with a sandbox from before, as it finds it.
pub(crate) fn start(
    shared: Arc<Shared>,
    pod: Pod,
    found: Option<Sandbox>,
    stop: CancellationToken,
) -> Worker {
    let (events, inbox) = mpsc::channel(MOST_WAITING);
    let view = Arc::new(Mutex::new(View {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        asked: crate::schedule::asked(&pod),
        ..View::default()
    }));
    let facts = Facts::new(pod, shared.host_ip.clone(), Timestamp::now());
    let tending = Tending {
        shared,
        facts,
        sandbox: None,
        volumes: None,
        making: Making::Nothing,
        images: BTreeMap::new(),
        probes: BTreeMap::new(),
        early: BTreeMap::new(),
        view: view.clone(),
        events: events.clone(),
        tasks: JoinSet::new(),
        publisher: publish::Publisher::default(),
        stop,
    };
    let task = tokio::spawn(tending.run(inbox, found));
    Worker { events, view, task }
}

impl Tending {
    async fn run(mut self, mut inbox: mpsc::Receiver<Event>, found: Option<Sandbox>) {
        if let Some(found) = found {
            self.adopt(found).await;
        }
        let stop = self.stop.clone();
        while self.making != Making::Removed {
            let now = Timestamp::now();
            let decided = next(&self.facts, now);
            for act in decided.acts {
                self.perform(act, now);
            }
            self.show();
            let wake = self.publish(now);
            let wake = [decided.wake, wake, self.retry_at()]
                .into_iter()
                .flatten()
                .min();
            let event = tokio::select! {
                // A removal that has begun is finished, or something would be left.
                () = stop.cancelled(), if !self.publisher.removing => return,
                Some(event) = inbox.recv() => event,
                Some(done) = self.tasks.join_next() => match done {
                    Ok(event) => event,
                    Err(error) => {
                        tracing::error!(pod = %self.name(), %error, "a pod's task failed");
                        continue;
                    }
                },
                () = sleep_until(wake) => continue,
            };
            self.on(event);
        }
    }

    fn name(&self) -> String {
        let meta = &self.facts.pod.metadata;
        format!(
            "{}/{}",
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default()
        )
    }

    fn retry_at(&self) -> Option<Timestamp> {
        match self.making {
            Making::Again(at) => Some(at),
            _ => None,
        }
    }

    /// Starts doing one thing; facts change at once, so that it is not decided again.
    fn perform(&mut self, act: Act, now: Timestamp) {
        match act {
            Act::MakeSandbox => self.make(now),
            Act::Start { container } => self.launch(container),
            Act::Stop {
                container,
                deadline,
            } => {
                if let Some(run) = self.facts.runs.get_mut(&container) {
                    run.stopping = Some(Stopping {
                        deadline,
                        killed: false,
                    });
                }
                self.end_container(container, deadline);
            }
            Act::Kill { container } => {
                if let Some(run) = self.facts.runs.get_mut(&container) {
                    run.stopping = Some(Stopping {
                        deadline: now,
                        killed: true,
                    });
                }
                self.signal(container, libc::SIGKILL);
            }
            Act::GiveUp { reason, message } => {
                self.shared
                    .events
                    .warning(&self.facts.pod, None, reason, &message);
                self.facts.over = Some((reason.to_owned(), message));
            }
            Act::Rest => self.rest(),
            Act::Remove => self.remove(),
        }
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Changed(pod) => self.facts.pod = *pod,
            Event::Gone => {
                // Nobody asks for its status any more; what runs is ended at once.
                let gone = Timestamp::now();
                let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(gone);
                self.facts.pod.metadata.deletion_timestamp = Some(time);
                self.facts.pod.metadata.deletion_grace_period_seconds = Some(0);
                self.publisher.gone();
            }
            Event::Sandbox(Ok(sandbox)) => {
                self.sandbox = Some(sandbox);
                self.making = Making::Volumes;
                self.make_volumes();
            }
            Event::Volumes(Ok(volumes)) => {
                self.volumes = Some(volumes);
                self.making = Making::Ready;
                self.facts.trouble = None;
                let address = self
                    .sandbox
                    .as_ref()
                    .and_then(|sandbox| self.shared.pod_ip(&sandbox.record));
                self.facts.sandbox = Some(address);
                self.watch_storage();
            }
            Event::Sandbox(Err(error)) => self.in_trouble("FailedCreatePodSandBox", error),
            Event::Volumes(Err(error)) => self.in_trouble("FailedMount", error),
            Event::Launched(name, result) => self.on_launched(&name, result),
            Event::Told(Tell::State {
                container,
                state: ContainerState::Ended(ended),
            }) => self.on_ended(&container, &ended),
            Event::Told(_) => {}
            Event::KeeperLost => self.on_keeper_lost(),
            Event::Published(taken) => self.publisher.answered(taken),
            Event::Probed {
                container,
                attempt,
                result,
            } => self.on_probed(&container, attempt, result),
            Event::GiveUp(reason, message) => {
                self.shared
                    .events
                    .warning(&self.facts.pod, None, &reason, &message);
                self.facts.over = Some((reason, message));
            }
            Event::Removed => self.making = Making::Removed,
            Event::Done => {}
        }
    }

    fn in_trouble(&mut self, reason: &str, message: String) {
        self.shared
            .events
            .warning(&self.facts.pod, None, reason, &message);
        self.facts.trouble = Some(message);
        self.making = Making::Again(Timestamp::now() + jiff::SignedDuration::from_secs(2));
    }

    fn make(&mut self, now: Timestamp) {
        match self.making {
            Making::Nothing => {}
            Making::Again(at) if now >= at => {}
            _ => return,
        }
        if self.sandbox.is_some() {
            self.making = Making::Volumes;
            return self.make_volumes();
        }
        self.making = Making::Sandbox;
        let (shared, pod) = (self.shared.clone(), self.facts.pod.clone());
        self.tasks.spawn(async move {
            Event::Sandbox(launch::sandbox(&shared, &pod).await.map(Arc::new))
        });
    }

    fn make_volumes(&mut self) {
        let Some(sandbox) = self.sandbox.clone() else {
            return;
        };
        let (shared, pod) = (self.shared.clone(), self.facts.pod.clone());
        self.tasks.spawn(async move {
            Event::Volumes(launch::surroundings(&shared, &pod, &sandbox).await)
        });
        self.follow();
    }

    /// Looks after what the pod writes, if it may only write so much.
    fn watch_storage(&mut self) {
        let Some(sandbox) = &self.sandbox else { return };
        let limits = storage::limits(&self.facts.pod, &sandbox.dir);
        if !limits.is_empty() {
            self.tasks.spawn(storage::watch(limits));
        }
    }

    /// Listens to the keeper until it goes.
    fn follow(&mut self) {
        let Some(sandbox) = self.sandbox.clone() else {
            return;
        };
        self.tasks.spawn(pass_on(sandbox, self.events.clone()));
    }

    fn on_keeper_lost(&mut self) {
        let still_needed = self.making == Making::Ready;
        let keeper_lives = self
            .sandbox
            .as_ref()
            .is_some_and(|sandbox| sandbox.record.keeper_lives());
        if still_needed && keeper_lives {
            return self.follow();
        }
        let now = Timestamp::now();
        let running: Vec<(String, Timestamp)> = self
            .facts
            .runs
            .iter()
            .filter_map(|(name, run)| match run.phase {
                Phase::Running { since } => Some((name.clone(), since)),
                _ => None,
            })
            .collect();
        for (name, started) in running {
            let message = "the process that kept the pod is gone".to_owned();
            self.end_of(
                &name,
                End {
                    code: 137,
                    signal: Some(9),
                    reason: "ContainerStatusUnknown".into(),
                    message,
                    started,
                    finished: now,
                },
            );
        }
        if still_needed && !self.facts.is_deleted() {
            self.begin_anew();
        }
    }

    /// Lets go of a sandbox that is dead: the next one has new volumes.
    fn begin_anew(&mut self) {
        self.drop_sandbox();
        self.volumes = None;
        self.facts.sandbox = None;
        self.making = Making::Nothing;
    }

    fn drop_sandbox(&mut self) {
        if let Some(sandbox) = self.sandbox.take() {
            let shared = self.shared.clone();
            self.tasks.spawn(async move {
                shared.forget_sandbox(&sandbox).await;
                Event::Done
            });
        }
    }

    fn on_ended(&mut self, id: &str, ended: &Ended) {
        let Some((name, attempt)) = launch::parse_id(id) else {
            return;
        };
        let Some(run) = self.facts.run(&name) else {
            return;
        };
        if run.attempt == attempt && run.phase == Phase::Starting {
            self.early.insert(id.to_owned(), ended.clone());
            return;
        }
        if run.attempt != attempt + 1 || !run.is_running() {
            return;
        }
        if let Some(sandbox) = self.sandbox.clone() {
            let id = id.to_owned();
            self.tasks.spawn(async move {
                // A keeper that cannot be asked any more has forgotten everything.
                let _ = sandbox.forget(&id).await;
                Event::Done
            });
        }
        let end = launch::explain(
            &self.facts.pod,
            self.sandbox.as_deref(),
            &self.shared,
            &name,
            id,
            ended,
        );
        self.end_of(&name, end);
    }

    fn end_of(&mut self, name: &str, end: End) {
        if let Some(probes) = self.probes.remove(name) {
            probes.cancel();
        }
        let failing = end.code != 0;
        self.facts.on_end(name, end);
        if let Some(Phase::Ended {
            again_at: Some(at), ..
        }) = self.facts.run(name).map(|run| &run.phase)
            && *at > Timestamp::now()
            && failing
        {
            let message = format!(
                "Back-off restarting failed container {name} in pod {}",
                self.name()
            );
            self.shared
                .events
                .warning(&self.facts.pod, Some(name), "BackOff", &message);
        }
    }

    fn on_probed(&mut self, name: &str, attempt: u32, verdict: crate::probe::Verdict) {
        use crate::probe::Verdict;
        let Some(run) = self
            .facts
            .runs
            .get_mut(name)
            .filter(|run| run.attempt == attempt && run.is_running())
        else {
            return;
        };
        match verdict {
            Verdict::Started => {
                run.started = true;
                let has_readiness = self
                    .facts
                    .pod
                    .spec
                    .iter()
                    .flat_map(crate::pod::containers)
                    .any(|(_, one)| one.name == name && one.readiness_probe.is_some());
                if let Some(run) = self.facts.runs.get_mut(name).filter(|_| !has_readiness) {
                    run.ready = true;
                }
            }
            Verdict::Ready => run.ready = true,
            Verdict::Unready(message) => {
                run.ready = false;
                self.shared
                    .events
                    .warning(&self.facts.pod, Some(name), "Unhealthy", &message);
            }
            Verdict::Dead { grace, message } => {
                run.unhealthy = Some(grace.unwrap_or_else(|| crate::pod::grace(&self.facts.pod)));
                self.shared
                    .events
                    .warning(&self.facts.pod, Some(name), "Unhealthy", &message);
                let killing = format!("Container {name} failed {message}, will be restarted");
                self.shared
                    .events
                    .normal(&self.facts.pod, Some(name), "Killing", &killing);
            }
        }
    }

    /// Lets go of the sandbox of a pod that is over; its logs stay until it is deleted.
    fn rest(&mut self) {
        if self.making != Making::Ready {
            return;
        }
        self.making = Making::Removing;
        let Some(sandbox) = self.sandbox.clone() else {
            return;
        };
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            shared.rest_sandbox(&sandbox).await;
            Event::Done
        });
    }

    /// Everything of the pod goes: sandbox, files, and last the object in the API.
    fn remove(&mut self) {
        if self.publisher.removing || self.making == Making::Sandbox {
            return;
        }
        self.publisher.removing = true;
        self.making = Making::Removing;
        let (shared, pod, sandbox) = (
            self.shared.clone(),
            self.facts.pod.clone(),
            self.sandbox.take(),
        );
        let last = self.publisher.last_word(&self.facts);
        self.tasks.spawn(async move {
            if let Some(sandbox) = sandbox {
                shared.forget_sandbox(&sandbox).await;
            }
            publish::farewell(&shared, &pod, last).await;
            Event::Removed
        });
    }

    /// What others see of this pod.
    fn show(&self) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.sandbox = self.sandbox.clone();
        view.ip = self.facts.sandbox.clone().flatten();
        for (name, run) in &self.facts.runs {
            if let Some(container) = view.containers.get_mut(name) {
                container.running = run.is_running();
            }
        }
    }

    fn show_container(&self, name: &str, container: ContainerView) {
        self.view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .containers
            .insert(name.to_owned(), container);
    }

    /// The log of the run before this one.
    fn previous_log(&self, name: &str) -> Option<PathBuf> {
        self.view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .containers
            .get(name)
            .map(|container| container.log.clone())
    }
}

/// Passes on how containers end, until the keeper goes.
async fn pass_on(sandbox: Arc<Sandbox>, to: mpsc::Sender<Event>) -> Event {
    let Ok(channel) = sandbox.watch().await else {
        return Event::KeeperLost;
    };
    while let Ok((told, _)) = channel.receive::<Tell>().await {
        let ended = matches!(
            &told,
            Tell::State {
                state: ContainerState::Ended(_),
                ..
            }
        );
        if ended && to.send(Event::Told(told)).await.is_err() {
            break;
        }
    }
    Event::KeeperLost
}

fn view_of(view: &Mutex<View>, name: &str) -> Option<ContainerView> {
    view.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .containers
        .get(name)
        .cloned()
}

async fn sleep_until(time: Option<Timestamp>) {
    match time {
        None => std::future::pending().await,
        Some(time) => {
            let left = time.duration_since(Timestamp::now());
            let left = Duration::try_from(left).unwrap_or_default();
            // Never in a circle without rest, whatever the clock says.
            tokio::time::sleep(left.max(Duration::from_millis(1))).await;
        }
    }
}
