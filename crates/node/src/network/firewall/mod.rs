//! Rules for packets, as the kernel's nftables has them.
//!
//! What should hold is a [`Table`], a plain value made by pure functions; [`Firewall`]
//! gives it to the kernel whole, in one step, so that no packet ever meets half of it.
//! The kernel is spoken to directly: a fresh machine has no `nft` program, and the crates
//! for these messages either need the C library or know neither address translation nor
//! connection tracking.

mod attributes;
mod encode;
mod kernel;
mod offer;
mod steps;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;

pub(crate) use kernel::Firewall;
pub(crate) use offer::{rules_offered, sender_checks_offered};
pub(crate) use walk::Packet;

/// Everything one node wants of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// Sets of addresses that rules refer to by name.
    pub(crate) sets: BTreeMap<String, BTreeSet<Ipv4Addr>>,
    pub(crate) chains: Vec<Chain>,
}

/// Rules that are gone through in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: String,
    /// Where packets enter it; without, only by a jump.
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<Rule>,
}

impl Chain {
    /// An empty chain that packets enter at `hook`.
    pub(crate) fn at(name: &str, hook: Hook) -> Chain {
        Chain {
            name: name.to_owned(),
            hook: Some(hook),
            rules: Vec::new(),
        }
    }

    /// An empty chain that others jump to.
    pub(crate) fn called(name: impl Into<String>) -> Chain {
        Chain {
            name: name.into(),
            hook: None,
            rules: Vec::new(),
        }
    }

    /// Adds a rule: what all `tests` hold for, `verdict` happens to.
    pub(crate) fn rule(&mut self, tests: impl Into<Vec<Test>>, verdict: Verdict) {
        self.rules.push(Rule {
            tests: tests.into(),
            verdict,
        });
    }
}

/// A point on a packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// It comes off this link, and nobody has looked at it yet.
    OffLink(String),
    /// It arrives: its destination may be changed.
    Arriving,
    /// It is for this machine.
    ToMachine,
    /// It only passes through.
    PassingOn,
    /// This machine sends it, and it is not known yet of which conversation it is.
    BeforeSending,
    /// This machine sends it: its destination may be changed.
    Sending,
    /// This machine sends it, to where it will go.
    Sent,
    /// It leaves: its source may be changed.
    Leaving,
}

/// What happens to the packets that all tests hold for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) tests: Vec<Test>,
    pub(crate) verdict: Verdict,
}

/// Something that holds for a packet or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// It came in by this link.
    From(String),
    /// It leaves by this link.
    To(String),
    /// It leaves by another link.
    NotTo(String),
    /// It is of the fourth version of the internet protocol.
    Version4,
    /// What comes off a link carries this.
    Frame(Frame),
    /// What comes off a link is from other hardware.
    NotFromHardware([u8; 6]),
    /// Only after [`Test::Frame`] of [`Frame::Arp`]: it tells others that this hardware has
    /// this address.
    Tells {
        hardware: [u8; 6],
        ip: Ipv4Addr,
    },
    Source(Net),
    NotSource(Net),
    Destination(Net),
    NotDestination(Net),
    SourceIn(String),
    DestinationIn(String),
    Protocol(Protocol),
    /// Only after [`Test::Protocol`] of one that has ports.
    DestinationPort(RangeInclusive<u16>),
    /// Likewise.
    SourcePort(u16),
    /// It belongs to a conversation that was allowed to begin, or to an error of one.
    Known,
    /// One of so many, by chance.
    OneOf(u32),
    /// The source's share is number `nth` of `of`; always the same for a source.
    Share {
        nth: u32,
        of: u32,
    },
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    /// Dropped, and the sender is told that nobody is there.
    Refuse,
    Return,
    /// On with another chain; back here if that has no verdict.
    Jump(String),
    /// It goes out under the address of the link it leaves by.
    Masquerade,
    /// It goes to this address instead.
    SendTo(SocketAddrV4),
    /// It goes to the address of this network that ends like the one it was sent to.
    MoveTo(Net),
    /// It goes to this port of the machine itself.
    Redirect(u16),
    /// Nobody keeps track of its conversation; only [`Hook::BeforeSending`].
    Untracked,
}

/// The protocols that services and policies speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As Kubernetes writes it; nothing means TCP.
    pub(crate) fn parse(name: Option<&str>) -> Option<Protocol> {
        match name {
            None | Some("TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        }
    }

    /// As Kubernetes writes it.
    fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }

    /// Its number in a packet.
    fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A packet of the fourth version of the internet protocol.
    Version4,
    /// Asking whose an address is, and answering.
    Arp,
}

impl Frame {
    /// Its number on the link.
    fn number(self) -> u16 {
        match self {
            Frame::Version4 => 0x0800,
            Frame::Arp => 0x0806,
        }
    }
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Net {
    address: Ipv4Addr,
    prefix: u8,
}

impl Net {
    /// The network of this address; a longer prefix than an address has is one address.
    pub(crate) const fn new(address: Ipv4Addr, prefix: u8) -> Net {
        Net {
            address,
            prefix: if prefix > 32 { 32 } else { prefix },
        }
    }

    /// One address alone.
    pub(crate) const fn one(address: Ipv4Addr) -> Net {
        Net::new(address, 32)
    }

    /// From the form `10.0.0.0/8`.
    pub(crate) fn parse(text: &str) -> Option<Net> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u8 = prefix.parse().ok()?;
        (prefix <= 32).then_some(Net::new(address.parse().ok()?, prefix))
    }

    /// The bits that count.
    pub(crate) fn mask(self) -> u32 {
        u32::MAX
            .checked_shl(32 - u32::from(self.prefix))
            .unwrap_or(0)
    }

    /// The first address, as the bytes of a packet.
    fn start(self) -> [u8; 4] {
        (u32::from(self.address) & self.mask()).to_be_bytes()
    }

    /// Whether all of another network's addresses are of this one.
    pub(crate) fn covers(self, other: Net) -> bool {
        self.prefix <= other.prefix && self.holds(other.address)
    }

    /// Whether an address is one of these.
    pub(crate) fn holds(self, ip: Ipv4Addr) -> bool {
        (u32::from(ip) ^ u32::from(self.address)) & self.mask() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_like_it() {
        let net = Net::parse("10.1.2.3/16").unwrap();
        assert!(net.holds(Ipv4Addr::new(10, 1, 200, 9)));
        assert!(!net.holds(Ipv4Addr::new(10, 2, 2, 3)));
        assert_eq!(net.start(), [10, 1, 0, 0]);
        assert!(Net::parse("0.0.0.0/0").unwrap().holds(Ipv4Addr::BROADCAST));
        for wrong in ["10.0.0.0", "10.0.0.0/33", "fd00::/8", "/", "10.0.0/8"] {
            assert_eq!(Net::parse(wrong), None, "{wrong}");
        }
    }
}
