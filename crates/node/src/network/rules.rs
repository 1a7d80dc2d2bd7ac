//! Which packets may go where: from what is known to the firewall's table.
//!
//! A pod may reach other pods, as far as policies let it, services by their cluster
//! addresses, the resolver, and, unless egress is closed, the world. It may not reach this
//! machine, what answers for clouds on link-local addresses, or pods of other nodes here.
//! Nobody but this machine and its pods reaches a pod. The machine reaches services as well.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::firewall::{Chain, Hook, Net, Protocol, Rule, Table, Test, Verdict};
use super::policy::Policies;
use super::services::Forward;

/// Where names are asked for.
const NAMES: u16 = 53;
/// Every address that services may have.
pub(crate) const SERVICES: Net = Net::new(Ipv4Addr::new(10, 96, 0, 0), 16);
/// Every address that pods of this and other nodes may have.
pub(crate) const ALL_PODS: Net = Net::new(Ipv4Addr::new(10, 64, 0, 0), 11);
/// Addresses that mean "whoever is next to me": clouds answer there with credentials.
pub(crate) const LINK_LOCAL: Net = Net::new(Ipv4Addr::new(169, 254, 0, 0), 16);

/// This machine's addresses for itself.
const LOOPBACK: Net = Net::new(Ipv4Addr::new(127, 0, 0, 0), 8);

/// How pods reach the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Egress {
    /// They do not.
    Closed,
    /// The kernel sends their packets on under the machine's own address.
    Translated,
    /// TCP connections come to this port, and the node makes them anew outside.
    Carried(u16),
}

/// The network the rules are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// What the table is called.
    pub(crate) table: String,
    pub(crate) bridge: String,
    pub(crate) pods: Net,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) egress: Egress,
    /// The machine knows pods by addresses of its own.
    pub(crate) shown: bool,
    /// Where the resolver listens, on the gateway's address.
    pub(crate) resolver: u16,
}

/// The whole table.
pub(crate) fn table(place: &Place, forwards: &[Forward], policies: &Policies) -> Table {
    let (services, mut chains) = services(forwards);
    chains.extend([
        arriving(place, &services),
        sending(place, &services),
        sent(place),
        to_machine(place),
        passing_on(place),
        from_pods(place),
        between_pods(),
        leaving(place, forwards),
    ]);
    chains.extend(policies.chains.iter().cloned());
    Table {
        name: place.table.clone(),
        sets: policies.sets.clone(),
        chains,
    }
}

/// What this machine says to itself at these ports is no pod's and no service's: that the kernel
/// keeps track of it would only make every word to the API and back dearer.
pub(crate) fn own_words(ports: &BTreeSet<u16>) -> Option<Chain> {
    if ports.is_empty() {
        return None;
    }
    let mut chain = Chain::at("own-words", Hook::BeforeSending);
    for port in ports {
        for end in [
            Test::DestinationPort(*port..=*port),
            Test::SourcePort(*port),
        ] {
            let tests = [
                Test::To("lo".to_owned()),
                Test::Version4,
                Test::Source(LOOPBACK),
                Test::Destination(LOOPBACK),
                Test::Protocol(Protocol::Tcp),
                end,
            ];
            chain.rule(tests, Verdict::Untracked);
        }
    }
    Some(chain)
}

/// What becomes of what is sent to each service, and the chains that choose among several.
fn services(forwards: &[Forward]) -> (Vec<Rule>, Vec<Chain>) {
    let (mut rules, mut called) = (Vec::new(), Vec::new());
    for (number, forward) in forwards.iter().enumerate() {
        let tests = vec![
            Test::Version4,
            Test::Destination(Net::one(forward.ip)),
            Test::Protocol(forward.protocol),
            Test::DestinationPort(forward.port..=forward.port),
        ];
        let verdict = match forward.to.as_slice() {
            [] => continue,
            [only] => Verdict::SendTo(*only),
            several => {
                let choice = choice(format!("service-{number}"), several, forward.by_client);
                let verdict = Verdict::Jump(choice.name.clone());
                called.push(choice);
                verdict
            }
        };
        rules.push(Rule { tests, verdict });
    }
    (rules, called)
}

/// Adds rules, all for packets that one more test holds for.
fn add_all(chain: &mut Chain, test: &Test, rules: &[Rule]) {
    for rule in rules {
        let mut tests = vec![test.clone()];
        tests.extend(rule.tests.iter().cloned());
        chain.rule(tests, rule.verdict.clone());
    }
}

/// What this machine sends to a service goes to one of its endpoints.
fn sending(place: &Place, services: &[Rule]) -> Chain {
    let mut chain = Chain::at("sending", Hook::Sending);
    if !place.shown {
        add_all(&mut chain, &Test::To(place.bridge.clone()), services);
    }
    chain
}

/// What this machine sends to a service that has nobody behind it goes nowhere.
fn sent(place: &Place) -> Chain {
    let mut chain = Chain::at("sent", Hook::Sent);
    let nobody = [
        Test::To(place.bridge.clone()),
        Test::Version4,
        Test::Destination(SERVICES),
    ];
    chain.rule(nobody, Verdict::Refuse);
    chain
}

/// Destinations are changed: the resolver's, services', and what the node carries.
fn arriving(place: &Place, services: &[Rule]) -> Chain {
    let mut chain = Chain::at("arriving", Hook::Arriving);
    let from_pod = || vec![Test::From(place.bridge.clone()), Test::Version4];
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let mut tests = from_pod();
        tests.push(Test::Destination(Net::one(place.gateway)));
        tests.push(Test::Protocol(protocol));
        tests.push(Test::DestinationPort(NAMES..=NAMES));
        let resolver = SocketAddrV4::new(place.gateway, place.resolver);
        chain.rule(tests, Verdict::SendTo(resolver));
    }
    add_all(&mut chain, &Test::From(place.bridge.clone()), services);
    if place.shown {
        let mut tests = from_pod();
        tests.push(Test::Destination(super::doors::ALL_SHOWN));
        let inside = Net::new(Ipv4Addr::new(10, 0, 0, 0), 8);
        chain.rule(tests, Verdict::MoveTo(inside));
    }
    if let Egress::Carried(port) = place.egress {
        let mut tests = from_pod();
        for inside in [ALL_PODS, SERVICES, LINK_LOCAL] {
            tests.push(Test::NotDestination(inside));
        }
        tests.push(Test::Protocol(Protocol::Tcp));
        chain.rule(tests, Verdict::Redirect(port));
    }
    chain
}

/// One of several endpoints: by chance, or by who asks.
fn choice(name: String, endpoints: &[SocketAddrV4], by_client: bool) -> Chain {
    let mut chain = Chain::called(name);
    let of = endpoints.len() as u32;
    for (nth, endpoint) in (0u32..).zip(endpoints) {
        // Of those that are left each has the same chance; the last takes what remains.
        let test = match (by_client, of - nth) {
            (_, 1) => Vec::new(),
            (true, _) => vec![Test::Share { nth, of }],
            (false, left) => vec![Test::OneOf(left)],
        };
        chain.rule(test, Verdict::SendTo(*endpoint));
    }
    chain
}

/// The machine answers pods that it has asked, and their questions for names.
fn to_machine(place: &Place) -> Chain {
    let mut chain = Chain::at("to-machine", Hook::ToMachine);
    let from_pod = || Test::From(place.bridge.clone());
    chain.rule([from_pod(), Test::Known], Verdict::Accept);
    let mut open = vec![
        (Protocol::Udp, place.resolver),
        (Protocol::Tcp, place.resolver),
    ];
    if let Egress::Carried(port) = place.egress {
        open.push((Protocol::Tcp, port));
    }
    let nameless = [
        from_pod(),
        Test::Version4,
        Test::SourceIn(super::policy::NAMELESS.to_owned()),
        Test::DestinationPort(place.resolver..=place.resolver),
    ];
    chain.rule(nameless, Verdict::Refuse);
    for (protocol, port) in open {
        let tests = [
            from_pod(),
            Test::Version4,
            Test::Destination(Net::one(place.gateway)),
            Test::Protocol(protocol),
            Test::DestinationPort(port..=port),
        ];
        chain.rule(tests, Verdict::Accept);
    }
    chain.rule([from_pod()], Verdict::Refuse);
    chain
}

fn passing_on(place: &Place) -> Chain {
    let mut chain = Chain::at("passing-on", Hook::PassingOn);
    let (from, to) = (
        Test::From(place.bridge.clone()),
        Test::To(place.bridge.clone()),
    );
    chain.rule([from.clone(), Test::Known], Verdict::Accept);
    chain.rule([to.clone(), Test::Known], Verdict::Accept);
    chain.rule([from], Verdict::Jump("from-pods".to_owned()));
    chain.rule([to], Verdict::Drop);
    chain
}

fn from_pods(place: &Place) -> Chain {
    let mut chain = Chain::called("from-pods");
    chain.rule(
        [Test::Version4, Test::Destination(LINK_LOCAL)],
        Verdict::Refuse,
    );
    // A service that has nobody behind it, or none at all.
    chain.rule(
        [Test::Version4, Test::Destination(SERVICES)],
        Verdict::Refuse,
    );
    chain.rule(
        [Test::Version4],
        Verdict::Jump(super::policy::EGRESS.to_owned()),
    );
    let to = || Test::To(place.bridge.clone());
    let to_pod = [Test::Version4, to(), Test::Destination(place.pods)];
    chain.rule(to_pod, Verdict::Jump("between-pods".to_owned()));
    // A neighbour's loopback, for one, whatever the neighbour thinks of such packets.
    chain.rule([to()], Verdict::Refuse);
    chain.rule(
        [Test::Version4, Test::Destination(ALL_PODS)],
        Verdict::Refuse,
    );
    if place.egress == Egress::Translated {
        chain.rule([Test::Version4], Verdict::Accept);
    }
    chain.rule([], Verdict::Refuse);
    chain
}

fn between_pods() -> Chain {
    let mut chain = Chain::called("between-pods");
    chain.rule([], Verdict::Jump(super::policy::INGRESS.to_owned()));
    chain.rule([], Verdict::Accept);
    chain
}

/// Sources are changed: the world knows nothing of pods' addresses, and a pod that reaches
/// itself through a service would not take an answer to itself.
fn leaving(place: &Place, forwards: &[Forward]) -> Chain {
    let mut chain = Chain::at("leaving", Hook::Leaving);
    let endpoints: BTreeSet<Ipv4Addr> = forwards
        .iter()
        .flat_map(|forward| forward.to.iter().map(|to| *to.ip()))
        .collect();
    for endpoint in endpoints {
        let tests = [
            Test::To(place.bridge.clone()),
            Test::Version4,
            Test::Source(Net::one(endpoint)),
            Test::Destination(Net::one(endpoint)),
        ];
        chain.rule(tests, Verdict::Masquerade);
    }
    if place.egress == Egress::Translated {
        let tests = [
            Test::Version4,
            Test::Source(place.pods),
            Test::NotTo(place.bridge.clone()),
        ];
        chain.rule(tests, Verdict::Masquerade);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::firewall::Packet;

    fn place(egress: Egress) -> Place {
        Place {
            table: "t".into(),
            bridge: "br".into(),
            pods: Net::new(Ipv4Addr::new(10, 64, 0, 0), 18),
            gateway: Ipv4Addr::new(10, 64, 0, 1),
            egress,
            shown: false,
            resolver: 5353,
        }
    }

    fn chain<'a>(table: &'a Table, name: &str) -> &'a Chain {
        table.chains.iter().find(|one| one.name == name).unwrap()
    }

    #[test]
    fn closed_egress_leaves_no_way_out() {
        let closed = table(&place(Egress::Closed), &[], &Policies::none());
        assert!(
            chain(&closed, "from-pods")
                .rules
                .iter()
                .all(|rule| rule.verdict != Verdict::Accept)
        );
        assert_eq!(chain(&closed, "leaving").rules, []);
        let open = table(&place(Egress::Translated), &[], &Policies::none());
        assert_eq!(chain(&open, "leaving").rules.len(), 1);
    }

    #[test]
    fn a_pod_is_sent_nothing_but_what_is_for_a_pod_s_address() {
        let table = table(&place(Egress::Translated), &[], &Policies::none());
        let verdict = |to: &str, destination: [u8; 4]| {
            let packet = Packet {
                from: "br",
                to,
                source: Ipv4Addr::new(10, 64, 0, 2),
                destination: destination.into(),
                protocol: Protocol::Tcp,
                port: 80,
            };
            table.walk("passing-on", &packet).cloned()
        };
        assert_eq!(verdict("br", [10, 64, 0, 3]), Some(Verdict::Accept));
        for nobody_s in [
            [127, 0, 0, 1],
            [10, 64, 64, 3],
            [192, 0, 2, 1],
            [10, 96, 0, 9],
        ] {
            assert_eq!(
                verdict("br", nobody_s),
                Some(Verdict::Refuse),
                "{nobody_s:?}"
            );
        }
        assert_eq!(verdict("eth0", [192, 0, 2, 1]), Some(Verdict::Accept));
    }

    #[test]
    fn every_chain_that_is_jumped_to_is_there_and_every_way_ends_in_a_verdict() {
        let service = Forward {
            ip: Ipv4Addr::new(10, 96, 0, 9),
            protocol: Protocol::Tcp,
            port: 80,
            to: (1..4)
                .map(|last| SocketAddrV4::new(Ipv4Addr::new(10, 64, 0, last), 8080))
                .collect(),
            by_client: false,
            node_port: None,
        };
        let table = table(&place(Egress::Translated), &[service], &Policies::none());
        let names: Vec<&str> = table.chains.iter().map(|one| one.name.as_str()).collect();
        for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
            if let Verdict::Jump(to) = &rule.verdict {
                assert!(names.contains(&to.as_str()), "{to} is missing");
            }
        }
        let spread: Vec<_> = chain(&table, "service-0")
            .rules
            .iter()
            .map(|rule| rule.tests.clone())
            .collect();
        assert_eq!(
            spread,
            [vec![Test::OneOf(3)], vec![Test::OneOf(2)], vec![]],
            "each endpoint has the same chance"
        );
        for (chain_of, link) in [
            ("arriving", Test::From("br".into())),
            ("sending", Test::To("br".into())),
        ] {
            let mut rules = chain(&table, chain_of).rules.iter();
            let to_service = rules.find(|rule| rule.verdict == Verdict::Jump("service-0".into()));
            assert_eq!(to_service.unwrap().tests[0], link, "{chain_of}");
        }
        for last in ["to-machine", "from-pods"] {
            assert_eq!(
                chain(&table, last).rules.last().unwrap().verdict,
                Verdict::Refuse
            );
        }
    }
}
