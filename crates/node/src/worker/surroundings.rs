//! What a pod's containers share: its sandbox, names and volumes, from their making to
//! their removal.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use super::volumes::{self, Needs, Tokens, Volumes};
use super::{Event, Making, Tending, publish, storage};
use crate::isolation;
use crate::keeper::message::{ContainerState, Preparation, Tell};
use crate::node::Shared;
use crate::pod::{End, Phase, Sources, containers, names, shares_processes};
use crate::sandbox::pool::Kind;
use crate::sandbox::{Owner, Sandbox};

impl Tending {
    pub(super) fn make(&mut self, now: Timestamp) {
        match self.making {
            Making::Nothing => {}
            Making::Again(at) if now >= at => {}
            _ => return,
        }
        let usable = self
            .sandbox
            .as_ref()
            .is_some_and(|sandbox| sandbox.record.keeper_lives());
        if usable {
            self.making = Making::Volumes;
            return self.make_volumes();
        }
        self.drop_sandbox();
        self.making = Making::Sandbox;
        let (shared, pod) = (self.shared.clone(), self.facts.pod.clone());
        self.tasks
            .spawn(async move { Event::Sandbox(take_sandbox(&shared, &pod).await.map(Arc::new)) });
    }

    pub(super) fn make_volumes(&mut self) {
        let Some(sandbox) = self.sandbox.clone() else {
            return;
        };
        let (shared, pod) = (self.shared.clone(), self.facts.pod.clone());
        let tokens = self.freshness.tokens.clone();
        self.tasks
            .spawn(async move { Event::Volumes(furnish(&shared, &pod, &sandbox, &tokens).await) });
    }

    pub(super) fn in_trouble(&mut self, reason: &str, message: String) {
        self.shared
            .events
            .warning(&self.facts.pod, None, reason, &message);
        self.facts.trouble = Some(message);
        self.making = Making::Again(Timestamp::now() + jiff::SignedDuration::from_secs(2));
    }

    /// Listens to the keeper until it goes.
    pub(super) fn follow(&mut self) {
        let Some(sandbox) = self.sandbox.clone() else {
            return;
        };
        self.tasks.spawn(pass_on(sandbox, self.events.clone()));
    }

    pub(super) fn on_keeper_lost(&mut self, of: &str) {
        let Some(sandbox) = self.sandbox.as_ref().filter(|sandbox| sandbox.id() == of) else {
            return;
        };
        let still_needed = self.making == Making::Ready;
        let keeper_lives = sandbox.record.keeper_lives();
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
        if still_needed && !self.facts.is_ending() {
            self.begin_anew();
        }
    }

    /// Lets go of a sandbox that is dead: the next one has new volumes.
    pub(super) fn begin_anew(&mut self) {
        self.drop_sandbox();
        self.volumes = None;
        self.facts.sandbox = None;
        self.making = Making::Nothing;
    }

    pub(super) fn drop_sandbox(&mut self) {
        if let Some(sandbox) = self.sandbox.take() {
            let shared = self.shared.clone();
            self.tasks.spawn(async move {
                shared.forget_sandbox(&sandbox).await;
                Event::Done
            });
        }
    }

    /// Lets go of the sandbox of a pod that is over; its logs stay until it is deleted.
    pub(super) fn rest(&mut self) {
        match self.making {
            Making::Ready | Making::Nothing | Making::Again(_) => {}
            _ => return,
        }
        let Some(sandbox) = self.sandbox.clone() else {
            self.making = Making::Rested;
            return;
        };
        self.making = Making::Resting;
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            shared.rest_sandbox(&sandbox).await;
            Event::Rested
        });
    }

    /// The node stops: once nothing runs and the API knows how it ended, the files go too,
    /// all but the logs.
    pub(super) fn depart(&mut self, now: Timestamp) {
        if self.making != Making::Rested || !self.publisher.has_told(&self.facts, now) {
            return;
        }
        self.making = Making::Removing;
        let (shared, sandbox) = (self.shared.clone(), self.sandbox.take());
        self.tasks.spawn(async move {
            if let Some(sandbox) = sandbox {
                shared.forget_sandbox(&sandbox).await;
            }
            Event::Removed
        });
    }

    /// Everything of the pod goes: sandbox, files, and last the object in the API.
    pub(super) fn remove(&mut self) {
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
            shared.logs.forget(&pod);
            publish::farewell(&shared, &pod, last).await;
            Event::Removed
        });
    }

    /// Looks after what the pod writes, if it may only write so much.
    pub(super) fn watch_storage(&mut self) {
        let Some(sandbox) = &self.sandbox else { return };
        let logs = self.shared.logs.of(&self.facts.pod);
        let limits = storage::limits(&self.facts.pod, &sandbox.dir, &logs);
        if !limits.is_empty() {
            self.tasks
                .spawn(storage::watch(sandbox.dir.clone(), limits));
        }
    }
}

/// Takes a sandbox and writes down whose it is.
async fn take_sandbox(shared: &Shared, pod: &Pod) -> Result<Sandbox, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    if let Some(why) = isolation::refuses(pod, shared.allow_privileged) {
        return Err(why);
    }
    if spec.host_network == Some(true) && shared.network.is_apart() {
        let why = "hostNetwork cannot be had: without root, or without nftables, the pods' \
                   network lies apart from the machine's";
        return Err(why.to_owned());
    }
    let runtime = crate::runtime::find(&shared.client, pod, &shared.runtime).await?;
    let privileged = containers(&spec).any(|(_, container)| {
        container
            .security_context
            .as_ref()
            .is_some_and(|security| security.privileged == Some(true))
    });
    let kind = Kind {
        host_network: spec.host_network == Some(true),
        own_users: !privileged && runtime.joins_users(),
    };
    let mut sandbox = shared
        .pool
        .take(kind)
        .await
        .map_err(|error| error.to_string())?;
    sandbox.record.runtime = runtime.program();
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
    if let Some(what) = isolation::leaves_out(pod) {
        shared.events.warning(pod, None, "HostPortNotOpened", &what);
    }
    if let Some(program) = &sandbox.record.runtime
        && crate::runtime::is_gvisor(program)
        && shares_processes(pod)
    {
        let what = "gVisor gives each container a kernel of its own: shareProcessNamespace has no \
                    effect, and containers do not see each other's processes";
        shared.events.warning(pod, None, "ProcessesNotShared", what);
    }
    Ok(sandbox)
}

/// Gives the sandbox its name, address and memory folders, and makes the volumes.
async fn furnish(
    shared: &Shared,
    pod: &Pod,
    sandbox: &Sandbox,
    tokens: &Tokens,
) -> Result<Volumes, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let hostname = names::hostname(pod);
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
        share_processes: shares_processes(pod),
    });
    prepared.await.map_err(|failure| failure.message)?;
    if let Some(address) = address {
        shared.traffic.admit(pod, address.ip).await?;
    }
    let sources = sources(shared, pod, sandbox, volumes::of_volumes(pod)).await?;
    let making = volumes::Making {
        shared,
        pod,
        sandbox,
        tokens,
    };
    volumes::prepare(&making, &sources).await
}

fn write_names(
    shared: &Shared,
    pod: &Pod,
    sandbox: &Sandbox,
    hostname: &str,
) -> std::io::Result<()> {
    let etc = sandbox.dir.join("etc");
    // In the pod's own network, where it may not be the one that the API knows.
    let ip = match sandbox.record.host_network {
        true => shared.host_ip.clone(),
        false => shared.network.address(sandbox.record.slot).ip.to_string(),
    };
    let machine = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let resolver = shared.network.gateway();
    fs::write(etc.join("hosts"), names::hosts(pod, &ip, hostname))?;
    fs::write(etc.join("hostname"), format!("{hostname}\n"))?;
    fs::write(
        etc.join("resolv.conf"),
        names::resolv(pod, resolver, &machine),
    )
}

/// What the pod's environment or volumes may refer to, fetched from the API.
pub(super) async fn sources(
    shared: &Shared,
    pod: &Pod,
    sandbox: &Sandbox,
    needs: Needs,
) -> Result<Sources, String> {
    let mut sources = shared.sources(pod);
    sources.pod_ip = shared.pod_ip(&sandbox.record);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    volumes::fetch(shared, namespace, needs, &mut sources)
        .await
        .map_err(|error| format!("cannot read what the pod refers to: {error}"))?;
    Ok(sources)
}

/// Passes on how containers end, until the keeper goes.
async fn pass_on(sandbox: Arc<Sandbox>, to: mpsc::Sender<Event>) -> Event {
    let lost = Event::KeeperLost(sandbox.id().to_owned());
    let Ok(channel) = sandbox.watch().await else {
        // A keeper that lives but has no room for us is not asked in a circle without rest.
        tokio::time::sleep(Duration::from_millis(100)).await;
        return lost;
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
    lost
}
