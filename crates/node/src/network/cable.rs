//! What a pod's cable may carry: what comes from the pod's own addresses, and nothing else.
//!
//! A pod that may make raw packets could write any sender on them, and answer for addresses
//! of others. So each packet is looked at where it comes off the pod's own cable, before
//! anybody believes it.

use std::net::Ipv4Addr;

use super::firewall::{Chain, Frame, Hook, Net, Test, Verdict};
use crate::keeper::message::Address;

/// The hardware address of the pod that has this address; two pods never have the same.
pub(super) fn hardware(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    // The first byte says that nobody has built it and that it is one station's.
    [0x02, b'S', a, b, c, d]
}

/// The rules at the end of a pod's cable.
pub(super) fn of_pod(link: &str, address: &Address) -> Chain {
    let mut chain = Chain::at(link, Hook::OffLink(link.to_owned()));
    let hardware = hardware(address.ip);
    chain.rule([Test::NotFromHardware(hardware)], Verdict::Drop);
    for own in [address.ip].into_iter().chain(address.shown) {
        let source = Test::Source(Net::one(own));
        chain.rule([Test::Frame(Frame::Version4), source], Verdict::Accept);
    }
    let ip = address.ip;
    let tells = Test::Tells { hardware, ip };
    chain.rule([Test::Frame(Frame::Arp), tells], Verdict::Accept);
    chain.rule([], Verdict::Drop);
    chain
}

/// The rules at the bridge itself: what no pod's packet is, none of ours is either.
pub(super) fn of_bridge(link: &str) -> Chain {
    let mut chain = Chain::at(link, Hook::OffLink(link.to_owned()));
    for frame in [Frame::Version4, Frame::Arp] {
        chain.rule([Test::Frame(frame)], Verdict::Accept);
    }
    chain.rule([], Verdict::Drop);
    chain
}
