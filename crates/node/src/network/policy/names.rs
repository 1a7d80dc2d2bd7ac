//! Which pods may ask for names.
//!
//! In other clusters the resolver is a pod, and policies name it as such; here it is the
//! node. A policy that would let its pods reach that pod lets them ask the node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Direction, Labels, Resident, concerns, is_peer, selects};
use crate::network::firewall::{Net, Protocol};
use crate::network::rules::ALL_PODS;

/// Pods whose policies keep them from asking.
pub(super) fn refused(
    policies: &[&NetworkPolicy],
    pods: &[&Resident],
    namespaces: &BTreeMap<String, Labels>,
) -> BTreeSet<Ipv4Addr> {
    let resolver = Resident {
        uid: String::new(),
        namespace: "kube-system".to_owned(),
        labels: Labels::from([("k8s-app".to_owned(), "kube-dns".to_owned())]),
        ip: None,
        ports: BTreeMap::from([
            ("dns".to_owned(), (Protocol::Udp, 53)),
            ("dns-tcp".to_owned(), (Protocol::Tcp, 53)),
        ]),
    };
    let about_sending: Vec<_> = policies
        .iter()
        .filter(|policy| concerns(policy, Direction::Egress))
        .collect();
    let mut refused = BTreeSet::new();
    for pod in pods {
        let mut own = about_sending
            .iter()
            .filter(|policy| selects(policy, pod))
            .peekable();
        if own.peek().is_none() {
            continue;
        }
        let allowed = own.any(|policy| {
            let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
            let rules = policy.spec.iter().flat_map(|spec| spec.egress.iter());
            rules
                .flatten()
                .any(|rule| reaches(rule, &resolver, namespace, namespaces))
        });
        if !allowed {
            refused.extend(pod.ip);
        }
    }
    refused
}

fn reaches(
    rule: &NetworkPolicyEgressRule,
    resolver: &Resident,
    own: &str,
    namespaces: &BTreeMap<String, Labels>,
) -> bool {
    let peers = rule.to.as_deref().unwrap_or_default();
    let there = peers.is_empty()
        || peers.iter().any(|peer| match &peer.ip_block {
            // Its address is that of the pods' network, which only the widest blocks mean.
            Some(block) => Net::parse(&block.cidr).is_some_and(|net| net.covers(ALL_PODS)),
            None => is_peer(peer, resolver, own, namespaces),
        });
    let ports = rule.ports.as_deref().unwrap_or_default();
    there
        && (ports.is_empty()
            || ports.iter().any(|port| match &port.port {
                None => true,
                Some(IntOrString::Int(first)) => {
                    (*first..=port.end_port.unwrap_or(*first)).contains(&53)
                }
                Some(IntOrString::String(name)) => resolver.ports.contains_key(name),
            }))
}
