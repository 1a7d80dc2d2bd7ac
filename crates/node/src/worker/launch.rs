//! Starting and ending containers: the steps between a decision and the keeper.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Lifecycle, Pod};

use super::plan::{Ingredients, log_path, plan};
use super::view::ContainerView;
use super::volumes::{self, Volumes};
use super::{Event, Making, Tending};
use crate::cgroup::Limits;
use crate::images::Image;
use crate::keeper::message::{
    ContainerState, Ended, Failure, Mount, Plan, Preparation, Stage, Tell,
};
use crate::node::Shared;
use crate::pod::{End, Sources, containers, limits, variables};
use crate::probe;
use crate::sandbox::pool::Kind;
use crate::sandbox::{Owner, Sandbox};

/// No container has more processes, so that none takes the machine's.
const MOST_PROCESSES: u64 = 4096;
/// A termination message is cut at this size.
const LONGEST_MESSAGE: usize = 4096;
/// The end of a log that stands in for a termination message.
const LONGEST_FALLBACK: usize = 2048;

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

/// Takes a sandbox and writes down whose it is.
pub(super) async fn sandbox(shared: &Shared, pod: &Pod) -> Result<Sandbox, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    if spec.host_pid == Some(true) || spec.host_ipc == Some(true) {
        return Err("hostPID and hostIPC are not allowed on this node".to_owned());
    }
    let privileged = containers(&spec).any(|(_, container)| {
        container
            .security_context
            .as_ref()
            .is_some_and(|security| security.privileged == Some(true))
    });
    let kind = Kind {
        host_network: spec.host_network == Some(true),
        own_users: !privileged,
    };
    let mut sandbox = shared
        .pool
        .take(kind)
        .await
        .map_err(|error| error.to_string())?;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    sandbox.record.owner = Some(Owner {
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
        uid: text(&pod.metadata.uid),
    });
    sandbox
        .record
        .write(&sandbox.dir)
        .map_err(|error| format!("cannot write the sandbox's record: {error}"))?;
    Ok(sandbox)
}

/// Gives the sandbox its name, address and memory folders, and makes the volumes.
pub(super) async fn surroundings(
    shared: &Shared,
    pod: &Pod,
    sandbox: &Sandbox,
) -> Result<Volumes, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let name = pod.metadata.name.clone().unwrap_or_default();
    let hostname = spec.hostname.clone().unwrap_or(name);
    let hostname: String = hostname.chars().take(63).collect();
    let address =
        (!sandbox.record.host_network).then(|| shared.network.address(sandbox.record.slot));
    write_names(shared, pod, sandbox, &hostname)
        .map_err(|error| format!("cannot write the pod's /etc: {error}"))?;
    let sysctls = spec
        .security_context
        .iter()
        .flat_map(|security| security.sysctls.iter().flatten());
    let prepared = sandbox.prepare(Preparation {
        hostname,
        domain: String::new(),
        address,
        sysctls: sysctls
            .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
            .collect(),
        memory: volumes::in_memory(pod, sandbox),
        share_processes: spec.share_process_namespace == Some(true),
    });
    prepared.await.map_err(|failure| failure.message)?;
    let sources = sources(shared, pod, sandbox).await?;
    volumes::prepare(shared, pod, sandbox, &sources).await
}

fn write_names(
    shared: &Shared,
    pod: &Pod,
    sandbox: &Sandbox,
    hostname: &str,
) -> std::io::Result<()> {
    let etc = sandbox.dir.join("etc");
    let spec = pod.spec.clone().unwrap_or_default();
    let ip = shared
        .pod_ip(&sandbox.record)
        .unwrap_or_else(|| "127.0.1.1".to_owned());
    let mut hosts = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{ip}\t{hostname}\n"
    );
    for alias in spec.host_aliases.iter().flatten() {
        let names = alias.hostnames.clone().unwrap_or_default();
        hosts.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
    }
    fs::write(etc.join("hosts"), hosts)?;
    fs::write(etc.join("hostname"), format!("{hostname}\n"))?;
    let machine = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut resolv = String::new();
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    if policy != "None" {
        let kept = machine.lines().filter(|line| {
            ["nameserver", "search", "options"]
                .iter()
                .any(|word| line.starts_with(word))
        });
        resolv.extend(kept.flat_map(|line| [line, "\n"]));
    }
    if let Some(config) = &spec.dns_config {
        resolv.extend(
            config
                .nameservers
                .iter()
                .flatten()
                .map(|server| format!("nameserver {server}\n")),
        );
        if let Some(searches) = config
            .searches
            .as_ref()
            .filter(|searches| !searches.is_empty())
        {
            resolv.push_str(&format!("search {}\n", searches.join(" ")));
        }
    }
    fs::write(etc.join("resolv.conf"), resolv)
}

async fn sources(shared: &Shared, pod: &Pod, sandbox: &Sandbox) -> Result<Sources, String> {
    let mut sources = shared.sources(pod);
    sources.pod_ip = shared.pod_ip(&sandbox.record);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    volumes::fetch(shared, namespace, volumes::needs(pod), &mut sources)
        .await
        .map_err(|error| format!("cannot read what the pod refers to: {error}"))?;
    Ok(sources)
}

impl Tending {
    pub(super) fn container(&self, name: &str) -> Option<Container> {
        let spec = self.facts.pod.spec.as_ref()?;
        containers(spec)
            .find(|(_, container)| container.name == name)
            .map(|(_, container)| container.clone())
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
        self.facts.on_start(&name);
        let (shared, pod) = (self.shared.clone(), self.facts.pod.clone());
        let previous_log = self.previous_log(&name);
        self.tasks.spawn(async move {
            let launched = launch(&shared, &pod, &container, attempt, &sandbox, &volumes).await;
            let launched = launched.map(|mut launched| {
                launched.view.previous_log = previous_log;
                Box::new(launched)
            });
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
            Err(failed) => {
                self.shared.events.warning(
                    &self.facts.pod,
                    Some(name),
                    "Failed",
                    &format!("Error: {}", failed.message),
                );
                if failed.ended {
                    if let Some(run) = self.facts.runs.get_mut(name) {
                        run.attempt += 1;
                    }
                    let (reason, message) = (failed.reason, failed.message);
                    self.end_of(
                        name,
                        End {
                            code: 128,
                            signal: None,
                            reason,
                            message,
                            started: now,
                            finished: now,
                        },
                    );
                } else {
                    self.facts
                        .on_held(name, &failed.reason, failed.message, now);
                }
            }
        }
    }

    /// Starts what looks after a running container.
    pub(super) fn watch_health(&mut self, name: &str) {
        let (Some(container), Some(sandbox)) = (self.container(name), self.sandbox.clone()) else {
            return;
        };
        let Some(attempt) = self.facts.run(name).map(|run| run.attempt) else {
            return;
        };
        let Some(view) = super::view_of(&self.view, name) else {
            return;
        };
        let cancel = self.stop.child_token();
        let target = probe::Target {
            shared: self.shared.clone(),
            sandbox,
            container: container.clone(),
            view,
            ip: self.facts.sandbox.clone().flatten(),
        };
        let events = self.events.clone();
        if probe::start(target, attempt, events, cancel.clone()) {
            self.probes.insert(name.to_owned(), cancel);
        }
    }

    pub(super) fn signal(&mut self, name: String, signal: i32) {
        let Some(sandbox) = self.sandbox.clone() else {
            return;
        };
        let Some(attempt) = self.facts.run(&name).map(|run| run.attempt) else {
            return;
        };
        self.tasks.spawn(async move {
            // One that has just ended needs no signal.
            let _ = sandbox
                .signal(&id_of(&name, attempt.saturating_sub(1)), signal)
                .await;
            Event::Done
        });
    }

    /// Asks a container to end: its hook first, then its stop signal.
    pub(super) fn end_container(&mut self, name: String, deadline: Timestamp) {
        if let Some(probes) = self.probes.remove(&name) {
            probes.cancel();
        }
        let now = Timestamp::now();
        self.shared.events.normal(
            &self.facts.pod,
            Some(&name),
            "Killing",
            &format!("Stopping container {name}"),
        );
        if deadline <= now {
            return self.signal(name, libc::SIGKILL);
        }
        let stop_signal = self
            .images
            .get(&name)
            .and_then(|image| image.config.stop_signal.clone());
        let stop_signal = stop_signal
            .and_then(|signal| signal_number(&signal))
            .unwrap_or(libc::SIGTERM);
        let hook = self
            .container(&name)
            .and_then(|container| container.lifecycle?.pre_stop);
        let (Some(sandbox), Some(view)) = (self.sandbox.clone(), super::view_of(&self.view, &name))
        else {
            return;
        };
        let target = self.container(&name).map(|container| probe::Target {
            shared: self.shared.clone(),
            sandbox: sandbox.clone(),
            container,
            view: view.clone(),
            ip: self.facts.sandbox.clone().flatten(),
        });
        let (shared, pod) = (self.shared.clone(), self.facts.pod.clone());
        self.tasks.spawn(async move {
            if let (Some(hook), Some(target)) = (hook, target) {
                let left = Duration::try_from(deadline.duration_since(now)).unwrap_or_default();
                if let Err(message) = target.run_hook(&hook, left).await {
                    shared
                        .events
                        .warning(&pod, Some(&name), "FailedPreStopHook", &message);
                }
            }
            let _ = sandbox.signal(&view.id, stop_signal).await;
            Event::Done
        });
    }

    /// Takes over a sandbox from before: what runs goes on, what ended is learnt.
    pub(super) async fn adopt(&mut self, found: Sandbox) {
        let sandbox = Arc::new(found);
        let prepared = match sources(&self.shared, &self.facts.pod, &sandbox).await {
            Ok(sources) => {
                volumes::prepare(&self.shared, &self.facts.pod, &sandbox, &sources).await
            }
            Err(error) => Err(error),
        };
        let Ok(ready) = prepared else {
            // What it refers to has gone meanwhile: begin anew.
            self.shared.forget_sandbox(&sandbox).await;
            return;
        };
        self.volumes = Some(ready);
        self.making = Making::Ready;
        self.facts.sandbox = Some(self.shared.pod_ip(&sandbox.record));
        self.sandbox = Some(sandbox.clone());
        for (name, state) in states_of(&sandbox, &self.facts.pod).await {
            self.adopt_container(&sandbox, &name.0, name.1, state);
        }
        let goes_on = self.facts.runs.values().any(|run| run.finished().is_none());
        if goes_on && !sandbox.record.keeper_lives() {
            // The machine was restarted, or the node was stopped with its pods.
            return self.begin_anew();
        }
        self.follow();
    }

    fn adopt_container(
        &mut self,
        sandbox: &Arc<Sandbox>,
        name: &str,
        attempt: u32,
        state: ContainerState,
    ) {
        let id = id_of(name, attempt);
        let Ok(plan) = crate::sandbox::read_plan(&sandbox.container_dir(&id)) else {
            return;
        };
        let image = self
            .container(name)
            .and_then(|container| container.image)
            .unwrap_or_default();
        if let Some(run) = self.facts.runs.get_mut(name) {
            run.attempt = attempt + 1;
            run.image_id = image;
        }
        let previous = attempt
            .checked_sub(1)
            .map(|before| log_path(sandbox, &id_of(name, before)));
        self.show_container(
            name,
            ContainerView {
                id: id.clone(),
                running: true,
                log: log_path(sandbox, &id),
                previous_log: previous.filter(|log| log.exists()),
                group: self.shared.cgroups.sandbox(sandbox.id()).container(&id),
                plan: Arc::new(plan),
            },
        );
        match state {
            ContainerState::Running { since, .. } => {
                self.facts.on_running(name, since);
                self.watch_health(name);
            }
            ContainerState::Ended(ended) => {
                let end = explain(
                    &self.facts.pod,
                    Some(sandbox),
                    &self.shared,
                    name,
                    &id,
                    &ended,
                );
                self.end_of(name, end);
            }
        }
    }
}

/// The last run of each container, from the keeper if it lives and from its notes if not.
async fn states_of(sandbox: &Sandbox, pod: &Pod) -> Vec<((String, u32), ContainerState)> {
    let mut states = std::collections::BTreeMap::new();
    let mut put = |id: &str, state: ContainerState| {
        if let Some((name, attempt)) = parse_id(id) {
            let newest = states.get(&name).is_none_or(|(known, _)| *known <= attempt);
            if newest {
                states.insert(name, (attempt, state));
            }
        }
    };
    for name in pod
        .spec
        .iter()
        .flat_map(containers)
        .map(|(_, container)| &container.name)
    {
        for (attempt, ended) in crate::sandbox::ended_runs(&sandbox.dir, name) {
            put(&id_of(name, attempt), ContainerState::Ended(ended));
        }
    }
    if let Ok(channel) = sandbox.watch().await {
        while let Ok((told, _)) = channel.receive::<Tell>().await {
            match told {
                Tell::State { container, state } => put(&container, state),
                _ => break,
            }
        }
    }
    states
        .into_iter()
        .map(|(name, (attempt, state))| ((name, attempt), state))
        .collect()
}

async fn launch(
    shared: &Arc<Shared>,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    sandbox: &Arc<Sandbox>,
    volumes: &Volumes,
) -> Result<Launched, NotLaunched> {
    let name = container.image.clone().unwrap_or_default();
    let image = shared
        .image(pod, &name, container.image_pull_policy.as_deref())
        .await;
    let image = image.map_err(|error| NotLaunched {
        reason: error.reason.to_owned(),
        message: error.message,
        ended: false,
    })?;
    let config = |message: String| NotLaunched {
        reason: "CreateContainerConfigError".to_owned(),
        message,
        ended: false,
    };
    let create = |message: String| NotLaunched {
        reason: "CreateContainerError".to_owned(),
        message,
        ended: false,
    };
    let sources = sources(shared, pod, sandbox).await.map_err(config)?;
    let env = variables(pod, container, &image.config.env, &sources).map_err(config)?;
    let id = id_of(&container.name, attempt);
    let group = shared.cgroups.sandbox(sandbox.id()).container(&id);
    let limits = Limits {
        processes: Some(MOST_PROCESSES),
        ..limits(container)
    };
    group
        .create(&limits)
        .map_err(|error| create(error.to_string()))?;
    let ingredients = Ingredients {
        pod,
        container,
        image: &image,
        env: with_host_name(env, pod),
        volumes,
        sandbox,
        id: &id,
        cgroups: group.doors(),
        allow_privileged: shared.allow_privileged,
    };
    let mut plan = plan(ingredients).map_err(config)?;
    let dir = sandbox.container_dir(&id);
    make_room(&dir, container, &mut plan)
        .map_err(|error| create(format!("cannot make room for the container: {error}")))?;
    if let Some(old) = attempt.checked_sub(2) {
        let _ = fs::remove_dir_all(sandbox.container_dir(&id_of(&container.name, old)));
        let _ = fs::remove_file(log_path(sandbox, &id_of(&container.name, old)));
    }
    if let Some(before) = attempt.checked_sub(1) {
        shared
            .cgroups
            .sandbox(sandbox.id())
            .container(&id_of(&container.name, before))
            .remove();
    }
    crate::sandbox::write_plan(&dir, &plan)
        .map_err(|error| create(format!("cannot keep the plan: {error}")))?;
    let since = Timestamp::now();
    sandbox.start(&id, &plan).await.map_err(not_launched)?;
    shared.events.normal(
        pod,
        Some(&container.name),
        "Started",
        &format!("Started container {}", container.name),
    );
    let view = ContainerView {
        log: log_path(sandbox, &id),
        id,
        running: true,
        previous_log: None,
        group,
        plan: Arc::new(Plan {
            view: None,
            log: None,
            ..plan
        }),
    };
    if let Some(hook) = container
        .lifecycle
        .as_ref()
        .and_then(|Lifecycle { post_start, .. }| post_start.as_ref())
    {
        let target = probe::Target {
            shared: shared.clone(),
            sandbox: sandbox.clone(),
            container: container.clone(),
            view: view.clone(),
            ip: shared.pod_ip(&sandbox.record),
        };
        if let Err(message) = target.run_hook(hook, Duration::from_secs(60 * 10)).await {
            shared
                .events
                .warning(pod, Some(&container.name), "FailedPostStartHook", &message);
            let _ = sandbox.signal(&view.id, libc::SIGKILL).await;
        }
    }
    Ok(Launched { image, view, since })
}

fn not_launched(failure: Failure) -> NotLaunched {
    let (reason, ended) = match failure.stage {
        Stage::Config => ("CreateContainerConfigError", false),
        Stage::Create => ("CreateContainerError", false),
        Stage::Start => ("StartError", true),
    };
    NotLaunched {
        reason: reason.to_owned(),
        message: failure.message,
        ended,
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

/// The run's folder, and in it the file for its last words.
fn make_room(dir: &Path, container: &Container, plan: &mut Plan) -> std::io::Result<()> {
    for overlay in plan.view.iter().flat_map(|view| &view.overlays) {
        fs::create_dir_all(&overlay.writes)?;
    }
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

/// Why and with what words a container ended.
pub(super) fn explain(
    pod: &Pod,
    sandbox: Option<&Sandbox>,
    shared: &Shared,
    name: &str,
    id: &str,
    ended: &Ended,
) -> End {
    let container = pod
        .spec
        .iter()
        .flat_map(containers)
        .find(|(_, container)| container.name == name)
        .map(|(_, found)| found);
    let mut message = String::new();
    let mut memory = false;
    if let Some(sandbox) = sandbox {
        memory = shared
            .cgroups
            .sandbox(sandbox.id())
            .container(id)
            .memory_kills()
            > 0;
        let words = fs::read(sandbox.container_dir(id).join("termination-log")).unwrap_or_default();
        message = String::from_utf8_lossy(&words[..words.len().min(LONGEST_MESSAGE)]).into_owned();
        let fall_back = container
            .and_then(|container| container.termination_message_policy.as_deref())
            == Some("FallbackToLogsOnError");
        if message.is_empty() && fall_back && ended.code != 0 {
            message = crate::kubelet::last_words(&log_path(sandbox, id), LONGEST_FALLBACK);
        }
    }
    let reason = match ended.code {
        _ if memory && ended.code != 0 => "OOMKilled",
        0 => "Completed",
        _ => "Error",
    };
    End {
        code: ended.code,
        signal: None,
        reason: reason.to_owned(),
        message,
        started: ended.started,
        finished: ended.finished,
    }
}

fn signal_number(name: &str) -> Option<i32> {
    use std::str::FromStr as _;
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let full = if name.starts_with("SIG") {
        name.to_owned()
    } else {
        format!("SIG{name}")
    };
    nix::sys::signal::Signal::from_str(&full)
        .ok()
        .map(|signal| signal as i32)
}
