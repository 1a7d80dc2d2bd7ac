//! Network policies: who may speak with whom, from the policies and pods there are to the
//! firewall's chains.
//!
//! A pod that some policy selects for a direction may only do in that direction what one of
//! its policies allows. Pods are named by address in sets, so that a rule stays one rule
//! however many pods it is about.

mod names;
mod port;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};

use super::firewall::{Chain, Net, Protocol, Test, Verdict};

/// The chain that judges what pods send; it returns for what is allowed.
pub(crate) const EGRESS: &str = "egress";
/// The chain that judges what pods are sent; it returns for what is allowed.
pub(crate) const INGRESS: &str = "ingress";
/// The set of pods that may not ask for names.
pub(crate) const NAMELESS: &str = "nameless";

/// The labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// A pod as policies see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resident {
    /// Which pod it is, whatever its name.
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    pub(crate) ip: Option<Ipv4Addr>,
    /// Its containers' ports that have names.
    pub(crate) ports: BTreeMap<String, (Protocol, u16)>,
}

/// What the policies come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policies {
    pub(crate) chains: Vec<Chain>,
    pub(crate) sets: BTreeMap<String, BTreeSet<Ipv4Addr>>,
}

impl Policies {
    /// Without any policy everybody may speak with everybody.
    pub(crate) fn none() -> Policies {
        compile(&[], &[], &BTreeMap::new())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// Whether a policy has a say in what becomes of this pod's packets.
pub(crate) fn selects(policy: &NetworkPolicy, pod: &Resident) -> bool {
    policy.metadata.namespace.as_deref() == Some(pod.namespace.as_str())
        && policy.spec.as_ref().is_some_and(|spec| {
            // One that cannot be understood is taken to mean everybody: closed, not open.
            let none = LabelSelector::default();
            let selector = spec.pod_selector.as_ref().unwrap_or(&none);
            matches(selector, &pod.labels).unwrap_or(true)
        })
}

fn matches(selector: &LabelSelector, labels: &Labels) -> Option<bool> {
    let selector = Selector::try_from(selector.clone()).ok()?;
    Some(selector.matches(labels))
}

/// Turns policies into chains and sets.
pub(crate) fn compile(
    policies: &[&NetworkPolicy],
    pods: &[&Resident],
    namespaces: &BTreeMap<String, Labels>,
) -> Policies {
    let mut work = Work {
        pods,
        namespaces,
        sets: BTreeMap::new(),
        ingress: Chain::called(INGRESS),
        egress: Chain::called(EGRESS),
        closed_in: BTreeSet::new(),
        closed_out: BTreeSet::new(),
    };
    for policy in policies {
        work.policy(policy);
    }
    let nameless = names::refused(policies, pods, namespaces);
    work.finish(nameless)
}

struct Work<'a> {
    pods: &'a [&'a Resident],
    namespaces: &'a BTreeMap<String, Labels>,
    sets: BTreeMap<String, BTreeSet<Ipv4Addr>>,
    ingress: Chain,
    egress: Chain,
    closed_in: BTreeSet<Ipv4Addr>,
    closed_out: BTreeSet<Ipv4Addr>,
}

impl<'a> Work<'a> {
    fn policy(&mut self, policy: &NetworkPolicy) {
        let Some(spec) = &policy.spec else { return };
        let selected: Vec<&Resident> = self
            .pods
            .iter()
            .copied()
            .filter(|pod| selects(policy, pod))
            .collect();
        let own = addresses(&selected);
        if own.is_empty() {
            return;
        }
        let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
        if concerns(policy, Direction::Ingress) {
            self.closed_in.extend(&own);
            for rule in spec.ingress.iter().flatten() {
                let sides = Sides {
                    direction: Direction::Ingress,
                    selected: &selected,
                    namespace,
                };
                self.rule(&sides, rule.from.as_deref(), rule.ports.as_deref());
            }
        }
        if concerns(policy, Direction::Egress) {
            self.closed_out.extend(&own);
            for rule in spec.egress.iter().flatten() {
                let sides = Sides {
                    direction: Direction::Egress,
                    selected: &selected,
                    namespace,
                };
                self.rule(&sides, rule.to.as_deref(), rule.ports.as_deref());
            }
        }
    }

    /// One allowance: each of the peers on each of the ports.
    fn rule(
        &mut self,
        sides: &Sides<'_>,
        peers: Option<&[NetworkPolicyPeer]>,
        ports: Option<&[NetworkPolicyPort]>,
    ) {
        match peers.unwrap_or_default() {
            [] => {
                let everybody = Peers::Everybody;
                self.allow(sides, &everybody, ports.unwrap_or_default());
            }
            some => {
                for peer in some {
                    if let Some(peers) = self.peers(peer, sides.namespace) {
                        self.allow(sides, &peers, ports.unwrap_or_default());
                    }
                }
            }
        }
    }

    /// Who a peer is; nobody when it cannot be understood.
    fn peers(&self, peer: &NetworkPolicyPeer, own: &str) -> Option<Peers<'a>> {
        if let Some(block) = &peer.ip_block {
            let except = block.except.iter().flatten();
            let except: Option<Vec<Net>> = except.map(|one| Net::parse(one)).collect();
            return Some(Peers::Block(Net::parse(&block.cidr)?, except?));
        }
        let among = self.pods.iter().copied();
        let found = among.filter(|pod| is_peer(peer, pod, own, self.namespaces));
        Some(Peers::Pods(found.collect()))
    }

    fn allow(&mut self, sides: &Sides<'_>, peers: &Peers<'_>, ports: &[NetworkPolicyPort]) {
        if ports.is_empty() {
            return self.add(sides, addresses(sides.selected), peers, Vec::new());
        }
        for port in ports {
            // A port's name means what the pod that is spoken to calls so.
            let (targets, ingress) = match (sides.direction, peers) {
                (Direction::Ingress, _) => (sides.selected, true),
                (Direction::Egress, Peers::Pods(pods)) => (pods.as_slice(), false),
                (Direction::Egress, _) => (&[][..], false),
            };
            for (targets, tests) in port::tests(port, targets) {
                match (targets, ingress) {
                    (None, _) => self.add(sides, addresses(sides.selected), peers, tests),
                    (Some(some), true) => self.add(sides, addresses(&some), peers, tests),
                    (Some(some), false) => {
                        let selected = addresses(sides.selected);
                        self.add(sides, selected, &Peers::Pods(some), tests);
                    }
                }
            }
        }
    }

    fn add(
        &mut self,
        sides: &Sides<'_>,
        own: BTreeSet<Ipv4Addr>,
        peers: &Peers<'_>,
        ports: Vec<Test>,
    ) {
        let ingress = sides.direction == Direction::Ingress;
        let own = self.set(own);
        let mut tests = vec![if ingress {
            Test::DestinationIn(own)
        } else {
            Test::SourceIn(own)
        }];
        match peers {
            Peers::Everybody => {}
            Peers::Block(net, except) if ingress => {
                tests.push(Test::Source(*net));
                tests.extend(except.iter().map(|net| Test::NotSource(*net)));
            }
            Peers::Block(net, except) => {
                tests.push(Test::Destination(*net));
                tests.extend(except.iter().map(|net| Test::NotDestination(*net)));
            }
            Peers::Pods(pods) => {
                let set = self.set(addresses(pods));
                tests.push(if ingress {
                    Test::SourceIn(set)
                } else {
                    Test::DestinationIn(set)
                });
            }
        }
        tests.extend(ports);
        let chain = if ingress {
            &mut self.ingress
        } else {
            &mut self.egress
        };
        chain.rule(tests, Verdict::Return);
    }

    /// The name of a set of these addresses; the same ones have one set.
    fn set(&mut self, addresses: BTreeSet<Ipv4Addr>) -> String {
        if let Some((name, _)) = self.sets.iter().find(|(_, known)| **known == addresses) {
            return name.clone();
        }
        let name = format!("pods-{}", self.sets.len());
        self.sets.insert(name.clone(), addresses);
        name
    }

    fn finish(mut self, nameless: BTreeSet<Ipv4Addr>) -> Policies {
        if !self.closed_in.is_empty() {
            let closed = std::mem::take(&mut self.closed_in);
            let set = self.set(closed);
            self.ingress
                .rule([Test::DestinationIn(set)], Verdict::Refuse);
        }
        if !self.closed_out.is_empty() {
            let closed = std::mem::take(&mut self.closed_out);
            let set = self.set(closed);
            self.egress.rule([Test::SourceIn(set)], Verdict::Refuse);
        }
        self.sets.insert(NAMELESS.to_owned(), nameless);
        Policies {
            chains: vec![self.ingress, self.egress],
            sets: self.sets,
        }
    }
}

/// Whose rule it is.
struct Sides<'a> {
    direction: Direction,
    selected: &'a [&'a Resident],
    namespace: &'a str,
}

/// The other end of what is allowed.
enum Peers<'a> {
    Everybody,
    Block(Net, Vec<Net>),
    Pods(Vec<&'a Resident>),
}

fn addresses(pods: &[&Resident]) -> BTreeSet<Ipv4Addr> {
    pods.iter().filter_map(|pod| pod.ip).collect()
}

/// Whether a policy says anything about a direction; unsaid, it is about what comes in,
/// and about what goes out if it has rules for that.
fn concerns(policy: &NetworkPolicy, direction: Direction) -> bool {
    let Some(spec) = &policy.spec else {
        return false;
    };
    match spec.policy_types.as_deref().unwrap_or_default() {
        [] => {
            direction == Direction::Ingress || spec.egress.as_ref().is_some_and(|e| !e.is_empty())
        }
        said => said.iter().any(|one| match direction {
            Direction::Ingress => one == "Ingress",
            Direction::Egress => one == "Egress",
        }),
    }
}

/// Whether a pod is meant by the selectors of a peer in a policy of namespace `own`.
fn is_peer(
    peer: &NetworkPolicyPeer,
    pod: &Resident,
    own: &str,
    namespaces: &BTreeMap<String, Labels>,
) -> bool {
    let in_namespace = match &peer.namespace_selector {
        None => pod.namespace == own,
        Some(selector) => namespaces
            .get(&pod.namespace)
            .is_some_and(|labels| matches(selector, labels) == Some(true)),
    };
    let chosen = match &peer.pod_selector {
        None => peer.namespace_selector.is_some(),
        Some(selector) => matches(selector, &pod.labels) == Some(true),
    };
    in_namespace && chosen
}

#[cfg(test)]
mod tests;
