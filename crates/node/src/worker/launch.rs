//! Starting containers: the steps between a decision and the keeper.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::plan::{Ingredients, plan};
use super::surroundings::sources;
use super::view::ContainerView;
use super::volumes::{self, Volumes};
use super::{Event, Tending};
use crate::cgroup::Limits;
use crate::images::{self, Image, Wanting};
use crate::keeper::message::{Failure, Mount, Plan, Stage};
use crate::keeper::older_log;
use crate::node::Shared;
use crate::pod::{
    ContainerKind, End, IMAGE_FAILED, ephemeral, find, limits, limits_of_all, variables,
};
use crate::probe;
use crate::removal;
use crate::sandbox::Sandbox;

/// No container has more processes, so that none takes the machine's.
const MOST_PROCESSES: u64 = 4096;
/// With this annotation a pod asks for fewer processes and threads than that in each container.
const FEWER_PROCESSES: &str = "sandlot.dev/max-processes";
/// A hook that takes longer has failed.
const LONGEST_GREETING: Duration = Duration::from_secs(10 * 60);

/// A container that was started.
pub(crate) struct Launched {
    pub(super) image: Image,
    pub(super) view: ContainerView,
    pub(super) since: Timestamp,
}

/// A container that could not be started.
pub(crate) struct NotLaunched {
    /// As the container's state gives it.
    pub(super) reason: String,
    pub(super) message: String,
    /// The command could not be run: a run that ended rather than one that is held up.
    pub(super) ended: bool,
}

/// The name of a run at the keeper: the container's and how many came before.
pub(super) fn id_of(name: &str, attempt: u32) -> String {
    format!("{name}.{attempt}")
}

pub(super) fn parse_id(id: &str) -> Option<(String, u32)> {
    let (name, attempt) = id.rsplit_once('.')?;
    Some((name.to_owned(), attempt.parse().ok()?))
}

impl Tending {
    pub(super) fn container(&self, name: &str) -> Option<Container> {
        find(&self.facts.pod, name).map(|(_, container)| container)
    }

    /// The run that an ephemeral container is to see the processes of, as the keeper names it.
    fn target_of(&self, name: &str) -> Option<String> {
        let mut all = self.facts.pod.spec.iter().flat_map(ephemeral);
        let target = all
            .find(|one| one.name == name)?
            .target_container_name
            .as_deref()?;
        let run = self.facts.run(target).filter(|run| run.is_running())?;
        Some(id_of(target, run.attempt - 1))
    }

    /// Begins a run of a container.
    pub(super) fn launch(&mut self, name: String) {
        let (Some(sandbox), Some(volumes), Some(container)) = (
            self.sandbox.clone(),
            self.volumes.clone(),
            self.container(&name),
        ) else {
            return;
        };
        let attempt = self.facts.run(&name).map_or(0, |run| run.attempt);
        let launching = Launching {
            shared: self.shared.clone(),
            pod: self.facts.pod.clone(),
            attempt,
            container,
            sandbox,
            volumes,
            beside: self.target_of(&name),
            previous_log: self.log_before(&name, attempt),
        };
        self.facts.on_start(&name);
        let unwanted = self.unwanted.clone();
        self.tasks.spawn(async move {
            let image = unwanted.run_until_cancelled(launching.image()).await;
            let launched = match image {
                None => return Event::NotNeeded(name),
                Some(Err(failed)) => Err(failed),
                Some(Ok(image)) => launching.start(image).await.map(Box::new),
            };
            if let Ok(launched) = &launched {
                // A hook that takes long does not hold up the end of its pod.
                unwanted
                    .run_until_cancelled(launching.greet(&launched.view))
                    .await;
            }
            Event::Launched(name, launched)
        });
    }

    pub(super) fn on_launched(&mut self, name: &str, result: Result<Box<Launched>, NotLaunched>) {
        let now = Timestamp::now();
        match result {
            Ok(launched) => {
                if let Some(run) = self.facts.runs.get_mut(name) {
                    run.attempt += 1;
                    run.image_id = launched.image.id.clone();
                }
                self.facts.on_running(name, launched.since);
                let id = launched.view.id.clone();
                self.show_container(name, launched.view);
                self.images.insert(name.to_owned(), launched.image);
                match self.early.remove(&id) {
                    Some(ended) => self.on_ended(&id, &ended),
                    None => self.watch_health(name),
                }
            }
            Err(failed) => self.on_not_launched(name, failed, now),
        }
    }

    fn on_not_launched(&mut self, name: &str, failed: NotLaunched, now: Timestamp) {
        let NotLaunched {
            reason, message, ..
        } = failed;
        let warn = |reason: &str, message: &str| {
            let events = &self.shared.events;
            events.warning(&self.facts.pod, Some(name), reason, message);
        };
        if reason == IMAGE_FAILED {
            let image = self.container(name).and_then(|container| container.image);
            let image = image.unwrap_or_default();
            warn(
                "Failed",
                &format!("Failed to pull image {image:?}: {message}"),
            );
            warn("Failed", &format!("Error: {reason}"));
            let waits = format!("Back-off pulling image {image:?}");
            let events = &self.shared.events;
            events.normal(&self.facts.pod, Some(name), "BackOff", &waits);
            warn("Failed", "Error: ImagePullBackOff");
        } else if reason.contains("Image") {
            // Why in full was told when it was found.
            warn("Failed", &format!("Error: {reason}"));
        } else {
            warn("Failed", &format!("Error: {message}"));
        }
        if !failed.ended {
            return self.facts.on_held(name, &reason, message, now);
        }
        if let Some(run) = self.facts.runs.get_mut(name) {
            run.attempt += 1;
        }
        let end = End {
            code: 128,
            signal: None,
            reason,
            message,
            started: now,
            finished: now,
        };
        self.end_of(name, end);
    }
}

/// All that is needed to start a container.
struct Launching {
    shared: Arc<Shared>,
    pod: Pod,
    container: Container,
    attempt: u32,
    /// The run whose processes it sees.
    beside: Option<String>,
    sandbox: Arc<Sandbox>,
    volumes: Volumes,
    previous_log: Option<PathBuf>,
}

impl Launching {
    async fn image(&self) -> Result<Image, NotLaunched> {
        let name = self.container.image.as_deref().unwrap_or_default();
        let policy = self.container.image_pull_policy.as_deref();
        let wanting = Wanting {
            pod: &self.pod,
            container: Some(&self.container.name),
        };
        let image = self.shared.image(wanting, name, policy).await;
        image.map_err(|error| NotLaunched::held(error.reason, error.message))
    }

    /// Plans the run, makes room for it and has the keeper start it.
    async fn start(&self, image: Image) -> Result<Launched, NotLaunched> {
        let config = |message| NotLaunched::held("CreateContainerConfigError", message);
        let create = |message| NotLaunched::held("CreateContainerError", message);
        let (shared, pod, container) = (&self.shared, &self.pod, &self.container);
        let needs = volumes::of_environment(container);
        let sources = sources(shared, pod, &self.sandbox, needs).await;
        let sources = sources.map_err(config)?;
        let env = variables(pod, container, &image.config.env, &sources).map_err(config)?;
        let id = id_of(&container.name, self.attempt);
        let group = shared.cgroups.sandbox(self.sandbox.id()).container(&id);
        let limits = Limits {
            processes: Some(most_processes(pod)),
            ..self.limits()
        };
        group
            .create(&limits)
            .map_err(|error| create(error.to_string()))?;
        for what in shared.cgroups.unenforced(&limits) {
            let message = format!(
                "the {what} limit of container {} is not enforced: this user has no control \
                 group for it (`sandlot doctor` says more)",
                container.name
            );
            shared
                .events
                .warning(pod, Some(&container.name), "LimitNotEnforced", &message);
        }
        let mut plan = plan(Ingredients {
            pod,
            container,
            image: &image,
            env: with_host_name(env, pod),
            volumes: &self.volumes,
            sandbox: &self.sandbox,
            id: &id,
            log: shared.logs.path(pod, &id),
            group: &group,
            limits,
            allow_privileged: shared.allow_privileged,
            may_forge: !shared.network.checks_senders(),
            beside: self.beside.clone(),
        })
        .map_err(config)?;
        self.make_room(&id, &image, &mut plan)
            .map_err(|error| create(format!("cannot make room for the container: {error}")))?;
        self.event("Created", &format!("Created container: {}", container.name));
        let started = self.sandbox.start(&id, &plan).await;
        let (pid, since) = started.map_err(NotLaunched::from)?;
        self.event("Started", &format!("Started container {}", container.name));
        let view = ContainerView {
            log: shared.logs.path(pod, &id),
            id,
            pid,
            running: true,
            previous_log: self.previous_log.clone(),
            group,
            plan: Arc::new(Plan {
                view: None,
                log: None,
                ..plan
            }),
        };
        Ok(Launched { image, view, since })
    }

    /// What the kernel is to enforce.
    fn limits(&self) -> Limits {
        match (find(&self.pod, &self.container.name), &self.pod.spec) {
            (Some((ContainerKind::Ephemeral, _)), Some(spec)) => limits_of_all(spec),
            _ => limits(&self.container),
        }
    }

    fn event(&self, reason: &str, message: &str) {
        let name = Some(self.container.name.as_str());
        self.shared.events.normal(&self.pod, name, reason, message);
    }

    /// The run's folder and what is kept in it; what the run before the last left goes.
    fn make_room(&self, id: &str, image: &Image, plan: &mut Plan) -> std::io::Result<()> {
        let (shared, name) = (&self.shared, &self.container.name);
        if let Some(old) = self.attempt.checked_sub(2) {
            let old = id_of(name, old);
            let log = shared.logs.path(&self.pod, &old);
            let _ = removal::remove_all(&self.sandbox.container_dir(&old));
            let _ = fs::remove_file(older_log(&log));
            let _ = fs::remove_file(log);
        }
        if let Some(before) = self.attempt.checked_sub(1) {
            let group = shared.cgroups.sandbox(self.sandbox.id());
            group.container(&id_of(name, before)).remove();
        }
        fs::create_dir_all(shared.logs.of(&self.pod))?;
        let dir = self.sandbox.container_dir(id);
        for overlay in plan.view.iter().flat_map(|view| &view.overlays) {
            fs::create_dir_all(&overlay.writes)?;
        }
        images::note(&dir, image)?;
        last_words(&dir, &self.container, plan)?;
        crate::sandbox::write_plan(&dir, plan)
    }

    /// Tells the container that it has been started, if it wants to be told.
    async fn greet(&self, view: &ContainerView) {
        let lifecycle = self.container.lifecycle.as_ref();
        let Some(hook) = lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref()) else {
            return;
        };
        let target = probe::Target {
            shared: self.shared.clone(),
            sandbox: self.sandbox.clone(),
            container: self.container.clone(),
            view: view.clone(),
            ip: self.shared.pod_ip(&self.sandbox.record),
        };
        if let Err(message) = target.run_hook(hook, LONGEST_GREETING).await {
            let name = Some(self.container.name.as_str());
            let events = &self.shared.events;
            events.warning(&self.pod, name, "FailedPostStartHook", &message);
            // Kubernetes ends a container whose first word was not taken.
            let _ = self.sandbox.signal(&view.id, libc::SIGKILL).await;
        }
    }
}

impl NotLaunched {
    fn held(reason: &str, message: String) -> NotLaunched {
        NotLaunched {
            reason: reason.to_owned(),
            message,
            ended: false,
        }
    }
}

impl From<Failure> for NotLaunched {
    fn from(failure: Failure) -> NotLaunched {
        let (reason, ended) = match failure.stage {
            Stage::Config => ("CreateContainerConfigError", false),
            Stage::Create => ("CreateContainerError", false),
            Stage::Start => ("StartError", true),
        };
        NotLaunched {
            ended,
            ..NotLaunched::held(reason, failure.message)
        }
    }
}

fn with_host_name(mut env: Vec<(String, String)>, pod: &Pod) -> Vec<(String, String)> {
    if !env.iter().any(|(key, _)| key == "HOSTNAME") {
        let name = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.hostname.clone())
            .or_else(|| pod.metadata.name.clone());
        env.push(("HOSTNAME".to_owned(), name.unwrap_or_default()));
    }
    env
}

/// The file for a container's last words, which it finds where it wants to.
fn last_words(dir: &Path, container: &Container, plan: &mut Plan) -> std::io::Result<()> {
    let words = dir.join("termination-log");
    fs::write(&words, "")?;
    fs::set_permissions(&words, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    if let Some(view) = &mut plan.view {
        view.mounts.push(Mount {
            source: words,
            sub_path: None,
            create: false,
            target: container
                .termination_message_path
                .clone()
                .unwrap_or_else(|| "/dev/termination-log".to_owned()),
            read_only: false,
            map_users: true,
        });
    }
    Ok(())
}

/// How many processes and threads a container of this pod may have.
fn most_processes(pod: &Pod) -> u64 {
    let annotations = pod.metadata.annotations.as_ref();
    let asked = annotations.and_then(|all| all.get(FEWER_PROCESSES)?.parse().ok());
    asked.map_or(MOST_PROCESSES, |asked: u64| asked.clamp(1, MOST_PROCESSES))
}
