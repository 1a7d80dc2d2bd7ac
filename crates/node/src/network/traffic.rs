//! Keeping the rules and the names true while services, policies and pods come and go.
//!
//! One task holds the kernel's table. Whoever needs a change to be in force before going
//! on, as a pod does whose policies close it, waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::firewall::{Packet, Protocol, Table};
use super::names::Zone;
use super::policy::{EGRESS, Labels, Resident, compile, selects};
use super::rules::{Egress, own_words, table};
use super::services::{Forward, NodePort, behind, by_service, forwards, node_ports};
use super::{Network, carrier};
use crate::events::Events;

/// A pod whose rules are not in force by then is not started, and tried again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Changes that come together are made together.
const REST: Duration = Duration::from_millis(10);
/// After the kernel has refused.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Who lives on the network, and which rules hold for them.
pub(crate) struct Traffic {
    network: Arc<Network>,
    events: Events,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    namespaces: Store<Namespace>,
    policies: Store<NetworkPolicy>,
    residents: Mutex<BTreeMap<Ipv4Addr, Resident>>,
    /// Every pod from before has been seen, so that no rule is forgotten for one.
    all_seen: watch::Sender<bool>,
    changed: Notify,
    wanted: AtomicU64,
    in_force: watch::Sender<u64>,
    table: Mutex<Option<Arc<Table>>>,
    trouble: Mutex<Option<String>>,
    /// Where this machine speaks to itself.
    own_ports: Mutex<BTreeSet<u16>>,
    /// Node ports that could not be opened, which their services have been told.
    closed_ports: Mutex<BTreeSet<NodePort>>,
}

impl Traffic {
    /// Begins to watch the API and to keep the rules, until `stop`.
    pub(crate) fn start(
        network: Arc<Network>,
        client: &Client,
        events: Events,
        stop: CancellationToken,
    ) -> (Arc<Traffic>, tokio::task::JoinHandle<()>) {
        let (services, watch_services) = followed(client);
        let (slices, watch_slices) = followed(client);
        let (namespaces, watch_namespaces) = followed(client);
        let (policies, watch_policies) = followed(client);
        let traffic = Arc::new(Traffic {
            network,
            events,
            services,
            slices,
            namespaces,
            policies,
            residents: Mutex::default(),
            all_seen: watch::Sender::new(false),
            changed: Notify::new(),
            wanted: AtomicU64::new(0),
            in_force: watch::Sender::new(0),
            table: Mutex::default(),
            trouble: Mutex::default(),
            own_ports: Mutex::default(),
            closed_ports: Mutex::default(),
        });
        let news = [
            watch_services,
            watch_slices,
            watch_namespaces,
            watch_policies,
        ];
        let kept = traffic.clone();
        let task = tokio::spawn(async move {
            let news = futures::stream::select_all(news);
            stop.run_until_cancelled(kept.keep(news)).await;
        });
        (traffic, task)
    }

    /// Every pod that ran before this node started has been named.
    pub(crate) fn all_seen(&self) {
        self.all_seen.send_replace(true);
    }

    /// This machine speaks to itself at these ports.
    pub(crate) fn speaks_at(&self, ports: BTreeSet<u16>) {
        // In a network apart the rules are about nothing that this machine says.
        if !self.network.is_apart() {
            *self.own_ports() = ports;
            self.want_change();
        }
    }

    fn own_ports(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.own_ports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A pod has changed, or is one from before. Later ones are known when they move in.
    pub(crate) fn observe(&self, pod: &Pod) {
        let address = pod
            .status
            .as_ref()
            .and_then(|status| status.pod_ip.as_ref()?.parse().ok())
            .map(super::doors::inside);
        let on_network = address.filter(|ip| self.network.place.pods.holds(*ip));
        let Some(ip) = on_network.filter(|_| !is_over(pod)) else {
            return;
        };
        // What it says may be old: the pod may have left, and its address may be another's by now.
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let lives_there = self
            .residents()
            .get(&ip)
            .map(|resident| resident.uid == uid);
        if !lives_there.unwrap_or_else(|| !*self.all_seen.borrow()) {
            return;
        }
        self.open_doors(pod, ip);
        if self.settle(pod, ip) && !self.policies.is_empty() {
            self.want_change();
        }
    }

    /// A pod moves in: when this returns, its policies hold for it.
    pub(crate) async fn admit(&self, pod: &Pod, ip: Ipv4Addr) -> Result<(), String> {
        if let Some(doors) = &self.network.doors {
            // Whatever was open was for somebody else.
            doors.close_for(ip);
            doors.closed_for(ip).await;
        }
        self.open_doors(pod, ip);
        if self.network.firewall.is_none() {
            return Ok(());
        }
        let late = |_| "the rules of the pod's network are not in force yet".to_owned();
        let ready = tokio::time::timeout(PATIENCE, self.first_table());
        ready.await.map_err(late)?;
        self.settle(pod, ip);
        if self.policies.is_empty() {
            return Ok(());
        }
        let resident = resident(pod, ip);
        let wanted = self.want_change();
        if !self
            .policies
            .state()
            .iter()
            .any(|policy| selects(policy, &resident))
        {
            // Others may be told to let it in; nothing holds for it itself.
            return Ok(());
        }
        let mut in_force = self.in_force.subscribe();
        let done = in_force.wait_for(|done| *done >= wanted);
        match tokio::time::timeout(PATIENCE, done).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self
                .trouble()
                .clone()
                .unwrap_or_else(|| "the kernel is slow to take the network policies".to_owned())),
        }
    }

    /// Nobody is behind this address any more.
    pub(crate) fn leave(&self, ip: Ipv4Addr) {
        if let Some(doors) = &self.network.doors {
            doors.close_for(ip);
        }
        if self.residents().remove(&ip).is_some() && !self.policies.is_empty() {
            self.want_change();
        }
    }

    /// Why the rules are not what they should be.
    pub(crate) fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn residents(&self) -> MutexGuard<'_, BTreeMap<Ipv4Addr, Resident>> {
        self.residents
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes who lives behind an address; true when that is news.
    fn settle(&self, pod: &Pod, ip: Ipv4Addr) -> bool {
        let mut residents = self.residents();
        let known = residents.get(&ip).is_some_and(|known| {
            Some(&known.uid) == pod.metadata.uid.as_ref()
                && Some(&known.labels).filter(|labels| !labels.is_empty())
                    == pod
                        .metadata
                        .labels
                        .as_ref()
                        .filter(|labels| !labels.is_empty())
        });
        if !known {
            residents.insert(ip, resident(pod, ip));
        }
        !known
    }

    /// Lets this machine reach the pod's ports, where it needs help for that.
    fn open_doors(&self, pod: &Pod, ip: Ipv4Addr) {
        let Some(doors) = &self.network.doors else {
            return;
        };
        let mut ports = ports(pod);
        let of_agents = self.network.agent_ports.iter();
        ports.extend(of_agents.map(|port| (Protocol::Tcp, *port)));
        for ((protocol, port), error) in doors.open_for(ip, &ports) {
            let message = format!(
                "this machine cannot reach port {port}/{protocol} of the pod, other pods can: {error}"
            );
            tracing::warn!(
                pod = pod.metadata.name.as_deref().unwrap_or_default(),
                "{message}"
            );
            self.events.warning(pod, None, "PortNotReachable", &message);
        }
    }

    fn want_change(&self) -> u64 {
        let wanted = self.wanted.fetch_add(1, Ordering::SeqCst) + 1;
        self.changed.notify_one();
        wanted
    }

    async fn first_table(&self) {
        let mut in_force = self.in_force.subscribe();
        // The sender lives as long as we do.
        let _ = in_force.wait_for(|done| *done > 0).await;
    }

    async fn keep(self: Arc<Traffic>, mut news: impl futures::Stream<Item = ()> + Unpin) {
        let mut seen = self.all_seen.subscribe();
        let _ = seen.wait_for(|seen| *seen).await;
        let everything = async {
            // The stores' writers live in the streams beside, so they cannot be lost.
            let _ = tokio::join!(
                self.services.wait_until_ready(),
                self.slices.wait_until_ready(),
                self.namespaces.wait_until_ready(),
                self.policies.wait_until_ready(),
            );
        };
        tokio::select! {
            () = everything => {}
            () = async { while news.next().await.is_some() {} } => return,
        }
        self.carry();
        self.want_change();
        loop {
            let target = self.wanted.load(Ordering::SeqCst);
            let rest = match self.bring_into_force().await {
                Ok(()) => {
                    self.in_force.send_replace(target);
                    self.trouble().take();
                    REST
                }
                Err(error) => {
                    let message = format!("the kernel refuses the pods' network rules: {error}");
                    tracing::warn!("{message}");
                    *self.trouble() = Some(message);
                    self.changed.notify_one();
                    REST_AFTER_FAILURE
                }
            };
            tokio::time::sleep(rest).await;
            tokio::select! {
                Some(()) = news.next() => {}
                () = self.changed.notified() => {}
            }
            // What else has come meanwhile is made with it.
            while let Some(Some(())) = news.next().now_or_never() {}
        }
    }

    /// Works out the rules and names from what is known now, and hands them over.
    async fn bring_into_force(&self) -> std::io::Result<()> {
        let (services, slices) = (self.services.state(), self.slices.state());
        let slices = by_service(slices.iter().map(AsRef::as_ref));
        let services = services.iter().map(AsRef::as_ref);
        self.network
            .names
            .learn(Zone::new(services.clone(), &slices));
        let forwards = forwards(services, &slices);
        self.publish(&forwards);
        let Some(firewall) = &self.network.firewall else {
            return Ok(());
        };
        let namespaces = self.namespaces.state();
        let namespaces: BTreeMap<String, Labels> = namespaces
            .iter()
            .map(|namespace| {
                let meta = &namespace.metadata;
                let labels = meta.labels.clone().unwrap_or_default();
                (meta.name.clone().unwrap_or_default(), labels)
            })
            .collect();
        let policies = self.policies.state();
        let policies: Vec<&NetworkPolicy> = policies.iter().map(AsRef::as_ref).collect();
        let policies = {
            let residents = self.residents();
            let residents: Vec<&Resident> = residents.values().collect();
            compile(&policies, &residents, &namespaces)
        };
        let mut made = table(&self.network.place, &forwards, &policies);
        made.chains.extend(own_words(&self.own_ports()));
        let made = Arc::new(made);
        let held = self.held();
        if held.as_ref() != Some(&made) {
            firewall.replace(&made).await?;
            *self.table.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        }
        // Only now would what is sent there come to anybody.
        let services = forwards.iter().map(|forward| forward.ip).collect();
        self.network.lead_to(services).await
    }

    /// Opens the node ports.
    fn publish(&self, forwards: &[Forward]) {
        let ports = node_ports(forwards);
        let closed = self.network.published.publish(&self.network, &ports);
        let mut trouble = self
            .closed_ports
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let services = self.services.state();
        for ((protocol, port), error) in &closed {
            if trouble.contains(&(*protocol, *port)) {
                continue;
            }
            let message =
                format!("node port {port}/{protocol} is not opened on this node: {error}");
            tracing::warn!("{message}");
            let services = services.iter().map(AsRef::as_ref);
            if let Some(service) = behind((*protocol, *port), services) {
                let reason = "NodePortNotOpened";
                self.events.of_service(service, reason, &message);
            }
        }
        *trouble = closed.into_iter().map(|(port, _)| port).collect();
    }

    fn held(&self) -> Option<Arc<Table>> {
        self.table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Begins to carry connections, if that is how pods reach the world.
    fn carry(self: &Arc<Self>) {
        let carrying = self
            .network
            .carrying
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(listener) = carrying.filter(|_| self.network.place.egress != Egress::Closed)
        else {
            return;
        };
        let judge = Arc::downgrade(self);
        let allowed = move |from: Ipv4Addr, to: SocketAddrV4| {
            judge
                .upgrade()
                .is_some_and(|traffic| traffic.may_leave(from, to))
        };
        let task = tokio::spawn(carrier::carry(listener, Arc::new(allowed)));
        self.network.tasks().push(task);
    }

    /// Whether policies let a pod open a connection to the world.
    fn may_leave(&self, from: Ipv4Addr, to: SocketAddrV4) -> bool {
        let packet = Packet {
            from: &self.network.place.bridge,
            to: "",
            source: from,
            destination: *to.ip(),
            protocol: Protocol::Tcp,
            port: to.port(),
        };
        self.held()
            .is_some_and(|table| table.walk(EGRESS, &packet).is_none())
    }
}

/// Whether a pod's containers have all ended for good.
fn is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The ports that containers say they serve.
fn ports(pod: &Pod) -> BTreeSet<(Protocol, u16)> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let protocol = Protocol::parse(port.protocol.as_deref())?;
            Some((protocol, u16::try_from(port.container_port).ok()?))
        })
        .collect()
}

fn resident(pod: &Pod, ip: Ipv4Addr) -> Resident {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let protocol = Protocol::parse(port.protocol.as_deref())?;
            let number = u16::try_from(port.container_port).ok()?;
            Some((port.name.clone()?, (protocol, number)))
        });
    Resident {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        ip: Some(ip),
        ports: ports.collect(),
    }
}

/// All objects of a kind, and a stream that says when one has changed.
fn followed<K>(client: &Client) -> (Store<K>, BoxStream<'static, ()>)
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (reader, writer) = store();
    let api: Api<K> = Api::all(client.clone());
    let changes = watcher(api, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .filter_map(|event| async move {
            match event {
                // The list is there when it is whole.
                Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
                Ok(_) => Some(()),
                Err(error) => {
                    tracing::debug!(%error, kind = %K::kind(&()), "a watch broke; it is taken up again");
                    None
                }
            }
        });
    (reader, changes.boxed())
}
