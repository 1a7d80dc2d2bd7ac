//! Policies, judged by walking packets through what they come to.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::network::firewall::{Packet, Table};

fn policy(namespace: &str, spec: Value) -> NetworkPolicy {
    serde_json::from_value(json!({
        "metadata": {"namespace": namespace, "name": "p"}, "spec": spec,
    }))
    .unwrap()
}

fn pod(namespace: &str, last: u8, labels: &[(&str, &str)]) -> Resident {
    Resident {
        uid: last.to_string(),
        namespace: namespace.to_owned(),
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ip: Some(Ipv4Addr::new(10, 64, 0, last)),
        ports: BTreeMap::from([("web".to_owned(), (Protocol::Tcp, 8000 + u16::from(last)))]),
    }
}

fn spaces() -> BTreeMap<String, Labels> {
    ["a", "b", "kube-system"]
        .map(|name| {
            let label = ("kubernetes.io/metadata.name".to_owned(), name.to_owned());
            (name.to_owned(), Labels::from([label]))
        })
        .into()
}

/// Whether a connection between two addresses is let through both ways of judging.
fn passes(policies: &Policies, from: Ipv4Addr, to: Ipv4Addr, port: u16) -> bool {
    let table = Table {
        name: "t".into(),
        sets: policies.sets.clone(),
        chains: policies.chains.clone(),
    };
    let packet = Packet {
        from: "br",
        to: "br",
        source: from,
        destination: to,
        protocol: Protocol::Tcp,
        port,
    };
    [EGRESS, INGRESS]
        .iter()
        .all(|chain| table.walk(chain, &packet) != Some(&Verdict::Refuse))
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 64, 0, last)
}

const FAR: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

#[test]
fn without_a_policy_everybody_speaks_with_everybody() {
    assert!(passes(&Policies::none(), ip(1), ip(2), 80));
}

#[test]
fn a_policy_without_rules_closes_its_pods_and_only_them() {
    let (web, other) = (pod("a", 1, &[("app", "web")]), pod("a", 2, &[]));
    let closed = policy("a", json!({"podSelector": {"matchLabels": {"app": "web"}}}));
    let made = compile(&[&closed], &[&web, &other], &spaces());
    assert!(!passes(&made, ip(2), ip(1), 80));
    assert!(passes(&made, ip(1), ip(2), 80), "it is about what comes in");
    assert!(passes(&made, ip(2), ip(3), 80));
    assert_eq!(made.sets[NAMELESS], BTreeSet::new());
}

#[test]
fn peers_are_chosen_by_pod_and_namespace_together() {
    let web = pod("a", 1, &[("app", "web")]);
    let (friend, stranger) = (pod("b", 2, &[("app", "client")]), pod("b", 3, &[]));
    let namesake = pod("a", 4, &[("app", "client")]);
    let opened = policy(
        "a",
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
        {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "b"}},
            "podSelector": {"matchLabels": {"app": "client"}}}],
         "ports": [{"port": "web"}, {"port": 90, "endPort": 95}]}]}),
    );
    let pods = [&web, &friend, &stranger, &namesake];
    let made = compile(&[&opened], &pods, &spaces());
    assert!(passes(&made, ip(2), ip(1), 8001), "the port by its name");
    assert!(passes(&made, ip(2), ip(1), 93));
    assert!(!passes(&made, ip(2), ip(1), 96));
    assert!(!passes(&made, ip(3), ip(1), 93));
    assert!(!passes(&made, ip(4), ip(1), 93), "of another namespace");
}

#[test]
fn blocks_of_addresses_have_exceptions() {
    let agent = pod("a", 1, &[]);
    let out = policy(
        "a",
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [
        {"to": [{"ipBlock": {"cidr": "8.0.0.0/8", "except": ["8.9.0.0/16"]}}]}]}),
    );
    let made = compile(&[&out], &[&agent], &spaces());
    assert!(passes(&made, ip(1), FAR, 443));
    assert!(!passes(&made, ip(1), Ipv4Addr::new(8, 9, 1, 1), 443));
    assert!(!passes(&made, ip(1), Ipv4Addr::new(9, 9, 9, 9), 443));
    assert_eq!(made.sets[NAMELESS], BTreeSet::from([ip(1)]));
}

#[test]
fn names_may_be_asked_for_when_the_cluster_s_resolver_may_be_reached() {
    let agent = pod("a", 1, &[]);
    for (rule, may) in [
        (json!({"ports": [{"port": 53, "protocol": "UDP"}]}), true),
        (json!({"ports": [{"port": 443}]}), false),
        (
            json!({"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]}),
            true,
        ),
        (json!({"to": [{"podSelector": {}}]}), false),
        (json!({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}), true),
    ] {
        let out = policy(
            "a",
            json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]}),
        );
        let made = compile(&[&out], &[&agent], &spaces());
        assert_eq!(made.sets[NAMELESS].is_empty(), may, "{out:?}");
    }
}

#[test]
fn a_selector_that_makes_no_sense_closes() {
    let web = pod("a", 1, &[]);
    let odd = policy(
        "a",
        json!({"podSelector": {"matchExpressions": [{"key": "k", "operator": "Near"}]}}),
    );
    let made = compile(&[&odd], &[&web], &spaces());
    assert!(!passes(&made, ip(2), ip(1), 80));
}

proptest! {
    /// Adding an allowance never closes anything, and closing never opens anything.
    #[test]
    fn allowances_only_add(selected in 0u8..4, peer in 0u8..4, from in 1u8..9, to in 1u8..9) {
        let pods: Vec<Resident> = (1..9u8)
            .map(|n| pod(if n % 2 == 0 { "a" } else { "b" }, n, &[("k", &(n % 4).to_string())]))
            .collect();
        let pods: Vec<&Resident> = pods.iter().collect();
        let chosen = json!({"matchLabels": {"k": selected.to_string()}});
        let closed = policy("a", json!({"podSelector": chosen}));
        let opened = policy("a", json!({"podSelector": chosen, "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"k": peer.to_string()}}}]}]}));
        let none = passes(&Policies::none(), ip(from), ip(to), 80);
        let shut = passes(&compile(&[&closed], &pods, &spaces()), ip(from), ip(to), 80);
        let ajar = passes(&compile(&[&closed, &opened], &pods, &spaces()), ip(from), ip(to), 80);
        prop_assert!(none);
        prop_assert!(!shut || ajar);
    }
}
