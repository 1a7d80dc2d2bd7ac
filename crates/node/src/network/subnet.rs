//! Which addresses the pods have.

use std::net::Ipv4Addr;

use super::firewall::Net;
use crate::keeper::message::Address;

/// A part of 10.64.0.0/11, which ends before services begin: the gateway first, then one address for each sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    base: u32,
}

impl Subnet {
    /// Room for sixteen thousand sandboxes.
    pub(super) const PREFIX: u8 = 18;
    const SIZE: u32 = 1 << 14;
    const ALL: u32 = 0x0a40_0000;
    const PARTS: u32 = 1 << 7;

    /// A part that overlaps nothing the machine already uses, starting the search at `seed`.
    pub(super) fn choose(seed: u8, taken: &[(Ipv4Addr, u8)]) -> Option<Subnet> {
        (0..Self::PARTS)
            .map(|step| Subnet {
                base: Self::ALL + (u32::from(seed) + step) % Self::PARTS * Self::SIZE,
            })
            .find(|part| !taken.iter().any(|(ip, prefix)| part.overlaps(*ip, *prefix)))
    }

    /// The subnet whose gateway this is.
    pub(super) fn of_gateway(ip: Ipv4Addr) -> Subnet {
        Subnet {
            base: u32::from(ip) & !(Self::SIZE - 1),
        }
    }

    pub(super) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// Every address in it.
    pub(super) fn all(self) -> Net {
        Net::new(Ipv4Addr::from(self.base), Self::PREFIX)
    }

    /// A sandbox's address; it reaches all others through the gateway.
    pub(super) fn address(self, slot: u16) -> Address {
        Address {
            ip: Ipv4Addr::from(self.base + 1 + u32::from(slot)),
            prefix: 32,
            gateway: self.gateway(),
            shown: None,
        }
    }

    fn overlaps(self, ip: Ipv4Addr, prefix: u8) -> bool {
        // The way to everywhere else takes nothing.
        let shorter = prefix.min(Self::PREFIX);
        prefix > 0 && (u32::from(ip) ^ self.base) >> (32 - u32::from(shorter)) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_part_is_found_beside_taken_ones() {
        let first = Subnet::choose(0, &[(Ipv4Addr::UNSPECIFIED, 0)]).unwrap();
        assert_eq!(first.gateway(), Ipv4Addr::new(10, 64, 0, 1));
        let beside = Subnet::choose(0, &[(Ipv4Addr::new(10, 64, 63, 7), 32)]).unwrap();
        assert_eq!(beside.gateway(), Ipv4Addr::new(10, 64, 64, 1));
        assert_eq!(Subnet::choose(9, &[(Ipv4Addr::new(10, 0, 0, 0), 8)]), None);
    }

    #[test]
    fn no_part_is_among_the_services() {
        use crate::network::rules::{ALL_PODS, SERVICES};
        for seed in 0..=255 {
            let gateway = Subnet::choose(seed, &[]).unwrap().gateway();
            assert!(ALL_PODS.holds(gateway) && !SERVICES.holds(gateway));
        }
    }

    #[test]
    fn every_slot_has_an_address_of_its_own_inside() {
        let subnet = Subnet::choose(3, &[]).unwrap();
        let last = subnet.address(crate::network::MOST_SLOTS - 1).ip;
        assert_eq!(Subnet::of_gateway(last), subnet);
        assert_ne!(subnet.address(1).ip, subnet.gateway());
    }
}
