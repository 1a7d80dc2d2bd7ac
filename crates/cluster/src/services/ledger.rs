//! Who holds which address and which port.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde_json::Value;

use crate::object::{at, text};

/// The ports on nodes that Services may have.
pub(super) const PORTS: RangeInclusive<u16> = 30_000..=32_767;
/// The lower ones are left to those who ask for a certain port.
const ASKED_FOR_PORTS: u32 = 86;
/// The addresses that Services may have: 10.96.0.0/16.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
const NETWORK_SIZE: u32 = 1 << 16;
/// How the addresses are written where somebody asked for another.
pub(super) const NETWORK_NAME: &str = "10.96.0.0/16";
/// The lower ones are left to those who ask for a certain address.
const ASKED_FOR_ADDRESSES: u32 = 256;

/// A Service: its namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holder(Arc<str>, Arc<str>);

impl Holder {
    pub(super) fn of(namespace: &str, name: &str) -> Holder {
        Holder(namespace.into(), name.into())
    }
}

/// What a Service holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) address: Option<Ipv4Addr>,
    pub(super) ports: HashSet<u16>,
}

impl Claims {
    /// What a stored Service holds.
    pub(super) fn of(service: &Value) -> Claims {
        let ports = at(service, &["spec", "ports"]).and_then(Value::as_array);
        let ports = ports.into_iter().flatten().map(|port| &port["nodePort"]);
        let health = at(service, &["spec", "healthCheckNodePort"]);
        Claims {
            address: text(service, &["spec", "clusterIP"]).parse().ok(),
            ports: ports.chain(health).filter_map(number).collect(),
        }
    }
}

/// A port that is set.
pub(super) fn number(port: &Value) -> Option<u16> {
    let port = u16::try_from(port.as_u64()?).ok()?;
    (port > 0).then_some(port)
}

/// What each Service holds.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    claims: HashMap<Holder, Claims>,
    addresses: HashMap<Ipv4Addr, Holder>,
    ports: HashMap<u16, Holder>,
}

impl Ledger {
    /// Notes what a Service holds now.
    pub(super) fn note(&mut self, holder: Holder, claims: Claims) {
        if let Some(before) = self.claims.remove(&holder) {
            // Where two hold the same, which only a store of old can have, the later one counts.
            if let Some(address) = before.address
                && self.addresses.get(&address) == Some(&holder)
            {
                self.addresses.remove(&address);
            }
            for port in before.ports {
                if self.ports.get(&port) == Some(&holder) {
                    self.ports.remove(&port);
                }
            }
        }
        if claims == Claims::default() {
            return;
        }
        if let Some(address) = claims.address {
            self.addresses.insert(address, holder.clone());
        }
        for port in &claims.ports {
            self.ports.insert(*port, holder.clone());
        }
        self.claims.insert(holder, claims);
    }

    /// What is not free for a Service: what others hold, and what was promised to them.
    pub(super) fn taken<'a>(
        &'a self,
        holder: &'a Holder,
        promised: impl Iterator<Item = &'a Claims>,
    ) -> Taken<'a> {
        let mut taken = Taken {
            ledger: self,
            holder,
            addresses: HashSet::new(),
            ports: HashSet::new(),
        };
        for claims in promised {
            taken.addresses.extend(claims.address);
            taken.ports.extend(&claims.ports);
        }
        taken
    }
}

/// What is not free for a Service.
pub(super) struct Taken<'a> {
    ledger: &'a Ledger,
    holder: &'a Holder,
    addresses: HashSet<Ipv4Addr>,
    ports: HashSet<u16>,
}

impl Taken<'_> {
    pub(super) fn has_address(&self, address: Ipv4Addr) -> bool {
        let holder = self.ledger.addresses.get(&address);
        holder.is_some_and(|holder| holder != self.holder) || self.addresses.contains(&address)
    }

    pub(super) fn has_port(&self, port: u16) -> bool {
        let holder = self.ledger.ports.get(&port);
        holder.is_some_and(|holder| holder != self.holder) || self.ports.contains(&port)
    }

    /// A free address, looked for from a random place on.
    pub(super) fn free_address(&self, seed: u32) -> Option<Ipv4Addr> {
        let nth = |n| Ipv4Addr::from(u32::from(NETWORK) + n);
        // Neither the network's own address nor its broadcast address.
        rotated(1, NETWORK_SIZE - 2, ASKED_FOR_ADDRESSES, seed)
            .map(nth)
            .find(|address| !self.has_address(*address))
    }

    /// A free port that is not among those just given, looked for from a random place on.
    pub(super) fn free_port(&self, given: &HashSet<u16>, seed: u32) -> Option<u16> {
        let (first, last) = (u32::from(*PORTS.start()), u32::from(*PORTS.end()));
        rotated(first, last, first + ASKED_FOR_PORTS, seed)
            .filter_map(|port| u16::try_from(port).ok())
            .find(|port| !self.has_port(*port) && !given.contains(port))
    }
}

/// Whether an address is one that Services may have.
pub(super) fn is_ours(address: Ipv4Addr) -> bool {
    let offset = u32::from(address).wrapping_sub(u32::from(NETWORK));
    (1..NETWORK_SIZE - 1).contains(&offset)
}

/// Every number from `first` to `last` once: those from `preferred` on before the others,
/// and those from a random one on.
fn rotated(first: u32, last: u32, preferred: u32, seed: u32) -> impl Iterator<Item = u32> {
    let start = preferred + seed % (last - preferred + 1);
    (start..=last)
        .chain(preferred..start)
        .chain(first..preferred)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str) -> Holder {
        Holder::of("default", name)
    }

    #[test]
    fn every_number_comes_once_and_the_preferred_ones_first() {
        for seed in [0, 1, 5, 6, 77, u32::MAX] {
            let mut all: Vec<u32> = rotated(1, 10, 4, seed).collect();
            assert!(all[..7].iter().all(|number| *number >= 4), "{all:?}");
            all.sort_unstable();
            assert_eq!(all, (1..=10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_a_service_let_go_of_is_free_for_others() {
        let mut ledger = Ledger::default();
        let claims = Claims {
            address: Some(Ipv4Addr::new(10, 96, 3, 4)),
            ports: [30_100].into(),
        };
        ledger.note(holder("a"), claims.clone());
        let (own, other) = (holder("a"), holder("b"));
        let taken = |ledger: &Ledger, whose| {
            let taken = ledger.taken(whose, std::iter::empty());
            (
                taken.has_address(Ipv4Addr::new(10, 96, 3, 4)),
                taken.has_port(30_100),
            )
        };
        assert_eq!(taken(&ledger, &own), (false, false));
        assert_eq!(taken(&ledger, &other), (true, true));
        ledger.note(holder("a"), Claims::default());
        assert_eq!(taken(&ledger, &other), (false, false));
        ledger.note(holder("b"), claims);
        assert_eq!(taken(&ledger, &own), (true, true));
    }

    #[test]
    fn when_everything_is_taken_nothing_is_found() {
        let mut ledger = Ledger::default();
        let all = Claims {
            address: None,
            ports: PORTS.filter(|port| *port != 30_001).collect(),
        };
        ledger.note(holder("a"), all);
        let other = holder("b");
        let taken = ledger.taken(&other, std::iter::empty());
        assert_eq!(
            taken.free_port(&HashSet::new(), 9),
            Some(30_001),
            "the last one"
        );
        assert_eq!(taken.free_port(&[30_001].into(), 9), None);
    }

    #[test]
    fn only_addresses_of_hosts_in_the_network_are_given() {
        for (address, ours) in [
            ([10, 96, 0, 0], false),
            ([10, 96, 0, 1], true),
            ([10, 96, 255, 254], true),
            ([10, 96, 255, 255], false),
            ([10, 95, 255, 255], false),
            ([10, 97, 0, 1], false),
            ([192, 168, 0, 1], false),
        ] {
            assert_eq!(is_ours(address.into()), ours, "{address:?}");
        }
    }
}
