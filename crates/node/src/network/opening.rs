//! Making the pods' network, or finding the one from before.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

use super::doors::{self, Doors};
use super::firewall::Firewall;
use super::links::{Guard, Links};
use super::names::{self, Names};
use super::policy::Policies;
use super::published::Published;
use super::rules::{self, Egress, Place};
use super::standing::Standing;
use super::subnet::Subnet;
use super::ways::Ways;
use super::{Network, cable, forwarding, owner, socket, table_of};
use crate::doctor;
use crate::sandbox::Zygote;

/// Which of the kernel's rules for packets (nftables) a node uses, where the kernel has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketRules {
    /// All.
    #[default]
    All,
    /// Those about where packets may go, but none about who sends them: what a kernel offers
    /// that does not look at packets where they come off a link. Pods cannot have `NET_RAW` or
    /// `NET_ADMIN` then.
    WithoutSenders,
    /// None: what a kernel without nftables offers. Pods are then cut off from everything but
    /// this node.
    None,
}

/// Where the pods' network lies, decided before anything of it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ground {
    /// In a network apart from the machine's.
    pub(crate) apart: bool,
    /// The kernel is given rules for packets.
    pub(crate) rules: bool,
    /// What pods send is looked at where it comes off their cables.
    pub(crate) senders: bool,
}

impl Ground {
    /// Chooses for this machine. Without rules nothing but distance keeps pods from it.
    pub(crate) fn of_machine(wanted: PacketRules) -> Ground {
        let machine = doctor::machine();
        let rules = wanted != PacketRules::None && machine.offers(doctor::PACKET_RULES);
        Ground {
            apart: !machine.root || !rules,
            rules,
            senders: wanted == PacketRules::All,
        }
    }
}

/// What is wanted of the network.
pub(crate) struct Wanted<'a> {
    pub(crate) ground: Ground,
    /// Whether pods may reach beyond the machine.
    pub(crate) egress: bool,
    /// Ports of every pod that this machine reaches.
    pub(crate) agent_ports: &'a [u16],
}

impl Network {
    /// Makes the bridge, or finds the one from before.
    pub(crate) async fn open(
        data_dir: &Path,
        zygote: &Arc<Zygote>,
        wanted: Wanted<'_>,
    ) -> io::Result<Network> {
        let apart = wanted.ground.apart;
        let inside = apart.then(|| zygote.clone());
        let (raw, route) = (libc::SOCK_RAW, libc::NETLINK_ROUTE);
        let links = socket(inside.as_deref(), libc::AF_NETLINK, raw, route).await?;
        let links = Links::new(links).await?;
        // Several nodes may share a machine; each has its own names.
        let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
        let prefix = format!("sl{:02x}{:02x}", digest[0], digest[1]);
        let name = format!("{prefix}-br");
        // Before there is a bridge that others may find without an owner. A node that is
        // just ending may still have it.
        let owned = match apart {
            true => None,
            false => owner::claim(&prefix).ok(),
        };
        let reserved = inside.as_ref().and_then(|_| doors::reserve(digest[2]));
        let seed = reserved.as_ref().map_or(digest[2], |(seed, _)| *seed);
        let known = links.find(&name).await?;
        let (bridge, subnet) = match known {
            Some(bridge) => (bridge, links.subnet_of(bridge).await?),
            None => links.bridge(&name, seed, Guard::of_machine()).await?,
        };
        if apart && let Some(lo) = links.find("lo").await? {
            links.set_up(lo).await?;
        }
        let in_place = async |kind| socket(inside.as_deref(), libc::AF_INET, kind, 0).await;
        let (packets, streams, resolver) = names::sockets(in_place, subnet.gateway()).await?;
        let mut place = Place {
            table: table_of(&prefix),
            bridge: name,
            pods: subnet.all(),
            gateway: subnet.gateway(),
            egress: Egress::Closed,
            shown: apart,
            resolver,
        };
        let walls = Walls::raise(&place, &inside, wanted.ground, known.is_some()).await?;
        let mut standing = walls.standing;
        let carrying = match (wanted.egress, &walls.firewall) {
            (false, _) => {
                standing.push(Standing::closed_egress());
                None
            }
            (true, None) => {
                let why = io::Error::other("without rules for packets no way out is safe");
                standing.push(Standing::no_egress(&why));
                None
            }
            (true, Some(_)) => {
                let (way, carrying) =
                    way_out(&mut standing, walls.passes_on, &inside, subnet).await;
                place.egress = way;
                carrying
            }
        };
        let ways = Ways::of_machine(&links, walls.firewall.is_some() && !apart).await;
        standing.push(ways.standing());
        let names = Names::new(subnet.all(), place.egress != Egress::Closed);
        let network = Network {
            place,
            links,
            bridge,
            prefix,
            subnet,
            doors: inside.clone().map(|zygote| Doors::new(zygote, reserved)),
            published: Published::default(),
            ways,
            agent_ports: wanted.agent_ports.iter().copied().collect(),
            zygote: inside,
            firewall: walls.firewall,
            cables: walls.cables,
            names: names.clone(),
            guard: match walls.passes_on {
                true => Guard::of_machine(),
                false => Guard::Isolation,
            },
            standing,
            found: known.is_some(),
            tasks: Mutex::new(vec![
                tokio::spawn(names.clone().serve_packets(packets)),
                tokio::spawn(names.serve_streams(streams)),
            ]),
            carrying: Mutex::new(carrying),
            _owned: owned,
        };
        network.links.set_up(bridge).await?;
        if !apart {
            owner::sweep(&network.links, network.firewall.as_ref()).await;
        }
        Ok(network)
    }
}

/// What stands between pods and everything else before the bridge is up.
struct Walls {
    firewall: Option<Firewall>,
    /// What pods send is looked at where it comes off their cables.
    cables: bool,
    /// Pods reach each other, through the rules.
    passes_on: bool,
    standing: Vec<Standing>,
}

impl Walls {
    /// Puts the rules in place, or finds that there can be none and that pods are to reach
    /// nobody; an error where they would reach the machine.
    async fn raise(
        place: &Place,
        inside: &Option<Arc<Zygote>>,
        ground: Ground,
        found: bool,
    ) -> io::Result<Walls> {
        let mut walls = Walls {
            firewall: None,
            cables: false,
            passes_on: false,
            standing: Vec::new(),
        };
        let firewall = match ground.rules {
            true => closed_in(place, inside, found).await,
            false => Err(io::Error::other("nftables is missing, or was not wanted")),
        };
        let firewall = match firewall {
            Ok(firewall) => firewall,
            Err(error) if ground.apart => {
                walls.standing.push(Standing::no_firewall(&error));
                return Ok(walls);
            }
            Err(error) => {
                let message = format!("the kernel refuses the rules for pods' packets: {error}");
                return Err(io::Error::new(error.kind(), message));
            }
        };
        walls.standing.push(Standing::firewall());
        let routing = match inside {
            Some(zygote) => zygote.pass_on().await,
            None => forwarding::for_bridge(&place.bridge),
        };
        walls.passes_on = routing.is_ok();
        if let Err(error) = routing {
            walls.standing.push(Standing::no_routing(&error));
        }
        let at_bridge = cable::of_bridge(&place.bridge);
        let plugged = match ground.senders {
            true => firewall.plug(&place.table, &at_bridge).await,
            false => Err(io::Error::other("not wanted")),
        };
        walls.cables = plugged.is_ok();
        walls.standing.push(Standing::cables(plugged));
        walls.firewall = Some(firewall);
        Ok(walls)
    }
}

/// The firewall, with rules that let nothing pass which nobody has allowed yet.
async fn closed_in(
    place: &Place,
    inside: &Option<Arc<Zygote>>,
    found: bool,
) -> io::Result<Firewall> {
    let (raw, filter) = (libc::SOCK_RAW, libc::NETLINK_NETFILTER);
    let socket = socket(inside.as_deref(), libc::AF_NETLINK, raw, filter).await?;
    let firewall = Firewall::new(socket);
    // The rules from before hold until everything that they must say is known.
    if !found {
        let table = rules::table(place, &[], &Policies::none());
        firewall.replace(&table).await?;
    }
    Ok(firewall)
}

/// How pods will reach the world, and where their connections come if the node carries them.
async fn way_out(
    standing: &mut Vec<Standing>,
    passes_on: bool,
    inside: &Option<Arc<Zygote>>,
    subnet: Subnet,
) -> (Egress, Option<tokio::net::TcpListener>) {
    let translated = match inside {
        None if passes_on => forwarding::open(),
        None => Err(io::Error::other("the bridge cannot pass packets on")),
        Some(_) => Err(io::Error::other("only root may translate addresses")),
    };
    let why = match translated {
        Ok(()) => {
            standing.push(Standing::translated());
            return (Egress::Translated, None);
        }
        Err(why) => why,
    };
    let listener = async {
        let made = socket(inside.as_deref(), libc::AF_INET, libc::SOCK_STREAM, 0).await?;
        let socket = tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(made));
        socket.bind((subnet.gateway(), 0).into())?;
        let listener = socket.listen(1024)?;
        Ok::<_, io::Error>((listener.local_addr()?.port(), listener))
    };
    match listener.await {
        Ok((port, listener)) => {
            standing.push(Standing::carried(&why));
            (Egress::Carried(port), Some(listener))
        }
        Err(error) => {
            standing.push(Standing::no_egress(&error));
            (Egress::Closed, None)
        }
    }
}
