//! One task for each pod: it lets [`crate::pod::next`] decide, does what was decided, and
//! tells the API what has become of it.

mod adopt;
mod ending;
mod eviction;
mod freshness;
mod health;
mod launch;
mod plan;
mod publish;
mod storage;
mod surroundings;
pub(crate) mod view;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::keeper::message::{ContainerState, Ended, Tell};
use crate::node::Shared;
use crate::pod::{Act, Facts, Stopping, next};
use crate::sandbox::Sandbox;
use freshness::Freshness;
use launch::{Launched, NotLaunched};
pub(crate) use plan::writes;
use view::{ContainerView, View};
pub(crate) use volumes::Needs;
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
    /// A container's image was not there yet when nobody wanted it any more.
    NotNeeded(String),
    /// The keeper tells of a container.
    Told(Tell),
    /// The keeper of this sandbox has gone, and every container with it.
    KeeperLost(String),
    /// The API took our status, or did not.
    Published(bool),
    /// A probe has come to a result.
    Probed {
        container: String,
        attempt: u32,
        result: crate::probe::Verdict,
    },
    /// Something that the pod's volumes show has changed.
    Stale,
    /// The volumes were written anew, or why not.
    Refreshed(Result<(), String>),
    /// The node wants the pod over (evicted …).
    GiveUp(String, String),
    /// The API was asked to delete the pod, which the node's taints send away; whether it was.
    SentAway(bool),
    /// The node stops: the pod's containers are ended, and killed at this time.
    Leave(Timestamp),
    /// Nothing of the pod runs any more.
    Rested,
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
    /// Told when something that the pod's volumes show has changed.
    pub(crate) stale: Arc<Notify>,
    /// Cancelled when the task has come to its end.
    pub(crate) ended: CancellationToken,
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
    freshness: Freshness,
    eviction: eviction::Eviction,
    /// Something in the API that the pod's volumes show has changed.
    stale: Arc<Notify>,
    /// Cancelled when nobody wants the pod's containers any more: what is still on its way
    /// to them, an image perhaps, is not waited for.
    unwanted: CancellationToken,
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
    /// What runs is being taken down.
    Resting,
    /// Nothing runs; the files are kept until somebody has learnt how it ended.
    Rested,
    /// Being removed.
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
    let stale = Arc::new(Notify::new());
    let view = Arc::new(Mutex::new(View {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        asked: crate::schedule::asked(&pod),
        shows: volumes::of_volumes(&pod),
        claims: volumes::claims(&pod),
        counts_visits: crate::visits::counts(&pod),
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
        freshness: Freshness::default(),
        eviction: eviction::Eviction::default(),
        stale: stale.clone(),
        unwanted: stop.child_token(),
        stop,
    };
    let ended = CancellationToken::new();
    let at_end = ended.clone().drop_guard();
    let task = tokio::spawn(async move {
        let _at_end = at_end;
        tending.run(inbox, found).await;
    });
    Worker {
        events,
        view,
        task,
        stale,
        ended,
    }
}

impl Tending {
    async fn run(mut self, mut inbox: mpsc::Receiver<Event>, found: Option<Sandbox>) {
        self.show_past();
        if let Some(found) = found {
            self.adopt(found).await;
        }
        let (stop, stale) = (self.stop.clone(), self.stale.clone());
        let mut seat = self.shared.seat.subscribe();
        while self.making != Making::Removed {
            let now = Timestamp::now();
            let decided = next(&self.facts, now);
            for act in decided.acts {
                self.perform(act, now);
            }
            self.show();
            let evict = self.evict(now);
            let wake = self.publish(now);
            if self.facts.leaving.is_some() {
                self.depart(now);
            }
            let refresh = self.refresh(now);
            let wake = [decided.wake, wake, refresh, evict, self.retry_at()]
                .into_iter()
                .flatten()
                .min();
            let event = tokio::select! {
                // A removal that has begun is finished, or something would be left.
                () = stop.cancelled(), if !self.publisher.removing => return,
                Some(event) = inbox.recv() => event,
                () = stale.notified() => Event::Stale,
                Ok(()) = seat.changed() => continue,
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
            if self.facts.is_ending() {
                self.unwanted.cancel();
            }
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
            Event::Changed(pod) => {
                if freshness::shows_change(&self.facts.pod, &pod) {
                    self.freshness.soil();
                }
                self.facts.on_changed(*pod);
            }
            Event::Stale => self.freshness.soil(),
            Event::Refreshed(written) => {
                self.freshness
                    .on_refreshed(written.is_ok(), Timestamp::now());
                if let Err(error) = written {
                    let (events, pod) = (&self.shared.events, &self.facts.pod);
                    events.warning(pod, None, "FailedMount", &error);
                }
            }
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
                self.follow();
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
            Event::NotNeeded(name) => self.facts.on_not_started(&name),
            Event::Told(Tell::State {
                container,
                state: ContainerState::Ended(ended),
            }) => self.on_ended(&container, &ended),
            Event::Told(_) => {}
            Event::KeeperLost(of) => self.on_keeper_lost(&of),
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
            Event::SentAway(deleted) => self.eviction.answered(deleted, Timestamp::now()),
            Event::Leave(deadline) => {
                // Whoever was told to hurry is not given more time again.
                let before = self.facts.leaving.unwrap_or(deadline);
                self.facts.leaving = Some(deadline.min(before));
            }
            Event::Rested => self.making = Making::Rested,
            Event::Removed => self.making = Making::Removed,
            Event::Done => {}
        }
    }

    /// What others see of this pod.
    fn show(&self) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.sandbox = self.sandbox.clone();
        view.at_rest = self.making == Making::Rested;
        view.ip = self.facts.sandbox.clone().flatten();
        let held = self.facts.runs.iter().filter_map(|(name, run)| {
            let held = run.held.as_ref()?;
            Some((name.clone(), held.reason.clone()))
        });
        view.held = held.collect();
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

    /// The log of the run before this one, if it was kept.
    fn log_before(&self, name: &str, attempt: u32) -> Option<PathBuf> {
        let before = launch::id_of(name, attempt.checked_sub(1)?);
        let log = self.shared.logs.path(&self.facts.pod, &before);
        log.exists().then_some(log)
    }

    /// Shows the logs of runs that nothing but their logs is left of.
    fn show_past(&self) {
        for (name, run) in &self.facts.runs {
            let Some(last) = run.attempt.checked_sub(1) else {
                continue;
            };
            let id = launch::id_of(name, last);
            let past = ContainerView {
                log: self.shared.logs.path(&self.facts.pod, &id),
                previous_log: self.log_before(name, last),
                group: self.shared.cgroups.sandbox(&id),
                pid: 0,
                running: false,
                plan: Arc::default(),
                id,
            };
            self.show_container(name, past);
        }
    }
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
