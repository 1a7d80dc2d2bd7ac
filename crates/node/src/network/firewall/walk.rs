//! What a table does to a packet, without a kernel: for what the node judges itself, and
//! for tests.

use std::net::Ipv4Addr;

use super::{Protocol, Rule, Table, Test, Verdict};

/// The first packet of a conversation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

impl Table {
    /// The verdict of a chain; none when it has no opinion. What chance decides is taken
    /// not to hold.
    pub(crate) fn walk(&self, chain: &str, packet: &Packet<'_>) -> Option<&Verdict> {
        let chain = self.chains.iter().find(|one| one.name == chain)?;
        for rule in &chain.rules {
            if !self.hold(rule, packet) {
                continue;
            }
            match &rule.verdict {
                Verdict::Return => return None,
                Verdict::Jump(to) => {
                    if let Some(verdict) = self.walk(to, packet) {
                        return Some(verdict);
                    }
                }
                verdict => return Some(verdict),
            }
        }
        None
    }

    fn hold(&self, rule: &Rule, packet: &Packet<'_>) -> bool {
        let member = |set: &str, ip: &Ipv4Addr| {
            self.sets
                .get(set)
                .is_some_and(|addresses| addresses.contains(ip))
        };
        rule.tests.iter().all(|test| match test {
            Test::From(link) => packet.from == link,
            Test::To(link) => packet.to == link,
            Test::NotTo(link) => packet.to != link,
            Test::Version4 => true,
            Test::Source(net) => net.holds(packet.source),
            Test::NotSource(net) => !net.holds(packet.source),
            Test::Destination(net) => net.holds(packet.destination),
            Test::NotDestination(net) => !net.holds(packet.destination),
            Test::SourceIn(set) => member(set, &packet.source),
            Test::DestinationIn(set) => member(set, &packet.destination),
            Test::Protocol(protocol) => packet.protocol == *protocol,
            Test::DestinationPort(ports) => ports.contains(&packet.port),
            // A packet that is walked here has come off its link long ago.
            Test::Frame(_) | Test::NotFromHardware(_) | Test::Tells { .. } => false,
            // Nor does a conversation begin at a port that is waited at.
            Test::SourcePort(_) => false,
            Test::Known | Test::OneOf(_) | Test::Share { .. } => false,
        })
    }
}
