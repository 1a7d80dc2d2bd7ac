//! The machine's own ways to services: a route to each service's address leads to the pods'
//! bridge, and there the rules put an endpoint in its place.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;

use super::firewall::Net;
use super::links::Links;
use super::rules::SERVICES;
use super::standing::Standing;

/// The address of the API's own service, which nobody is sent to over the bridge.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The ways there are.
pub(super) struct Ways {
    /// Why there are none, if there can be none.
    closed: Option<String>,
    held: tokio::sync::Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Ways that are there; nothing before the kernel was asked.
    ours: Option<BTreeSet<Ipv4Addr>>,
    /// Addresses to which somebody else's way leads, which has been said.
    others: BTreeSet<Ipv4Addr>,
}

/// The way to an address, from the machine's own on the bridge.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) to: Ipv4Addr,
    pub(super) bridge: u32,
    pub(super) from: Ipv4Addr,
}

impl Ways {
    /// Looks whether the machine knows ways of its own to what would be services here: then
    /// it belongs to another cluster, whose services they are.
    pub(super) async fn of_machine(links: &Links, possible: bool) -> Ways {
        let closed = match possible {
            false => Some("the pods' network is apart".to_owned()),
            true => match links.taken().await {
                Ok(taken) => foreign(&taken),
                Err(error) => Some(error.to_string()),
            },
        };
        Ways {
            closed,
            held: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        Standing::services_here(self.closed.as_deref())
    }

    /// Makes the ways be these.
    pub(super) async fn lead(
        &self,
        links: &Links,
        (bridge, from): (u32, Ipv4Addr),
        mut wanted: BTreeSet<Ipv4Addr>,
    ) -> io::Result<()> {
        if self.closed.is_some() {
            return Ok(());
        }
        wanted.retain(|to| *to != OWN && SERVICES.holds(*to));
        let mut held = self.held.lock().await;
        let Held { ours, others } = &mut *held;
        let ours = match ours {
            Some(ours) => ours,
            None => ours.insert(links.ways(bridge).await?),
        };
        let way = |to| Way { to, bridge, from };
        let gone: Vec<Ipv4Addr> = ours.difference(&wanted).copied().collect();
        for to in gone {
            links.close_way(way(to)).await?;
            ours.remove(&to);
        }
        others.retain(|to| wanted.contains(to));
        let new: Vec<Ipv4Addr> = wanted.difference(ours).copied().collect();
        for to in new {
            match links.open_way(way(to)).await {
                Ok(()) => {
                    ours.insert(to);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if others.insert(to) {
                        tracing::warn!(%to, "another node of this machine has a service of this address; from the machine it leads there");
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Says whose ways lead to services' addresses, if there are any. Ways to everywhere else say
/// nothing, and those to a single address are other nodes'.
fn foreign(taken: &[(Ipv4Addr, u8)]) -> Option<String> {
    let found = taken.iter().find(|(ip, prefix)| {
        let net = Net::new(*ip, *prefix);
        (1..32).contains(prefix) && (SERVICES.covers(net) || net.covers(SERVICES))
    });
    found.map(|(ip, prefix)| format!("it has a way of its own to {ip}/{prefix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ways_to_parts_of_the_services_are_another_cluster_s() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        for (at, prefix, foreign_one) in [
            ("0.0.0.0", 0, false),
            ("10.96.0.0", 12, true),
            ("10.0.0.0", 8, true),
            ("10.96.3.0", 24, true),
            ("10.96.3.7", 32, false),
            ("10.64.0.0", 18, false),
            ("192.168.0.0", 16, false),
        ] {
            let found = foreign(&[(ip(at), prefix)]);
            assert_eq!(found.is_some(), foreign_one, "{at}/{prefix}");
        }
    }
}
