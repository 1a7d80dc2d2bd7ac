//! Whether the kernel takes rules like ours: tried, about no packet that there is, and taken
//! back.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::kernel::converse;
use super::{Chain, Frame, Hook, Net, Protocol, Table, Test, Verdict, encode};

/// Whether pods can be kept apart from the machine by rules. Without root this is only known
/// once there is a network of one's own; here it is whether the kernel has heard of rules.
pub(crate) fn rules_offered() -> io::Result<()> {
    let kernel = speak()?;
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    // One of each kind that a kernel can do without.
    let mut arriving = Chain::at("arriving", Hook::Arriving);
    let web = [
        Test::Protocol(Protocol::Tcp),
        Test::DestinationPort(80..=80),
    ];
    arriving.rule([nobody(), web.to_vec()].concat(), Verdict::Redirect(80));
    let mut passing = Chain::at("passing-on", Hook::PassingOn);
    passing.rule([nobody(), vec![Test::Known]].concat(), Verdict::Refuse);
    let mut leaving = Chain::at("leaving", Hook::Leaving);
    leaving.rule(nobody(), Verdict::Masquerade);
    let table = Table {
        name: try_name(),
        chains: vec![arriving, passing, leaving],
        ..Table::default()
    };
    converse(&kernel, &encode::replacing(&table))?;
    converse(&kernel, &encode::removing(&table.name))
}

/// Whether what comes off a link can be looked at before anybody believes it.
pub(crate) fn sender_checks_offered() -> bool {
    if !nix::unistd::geteuid().is_root() {
        return speak().is_ok();
    }
    let mut chain = Chain::at("try", Hook::OffLink("lo".to_owned()));
    // What passes there passes all the same.
    chain.rule([Test::Frame(Frame::Arp)], Verdict::Accept);
    let name = try_name();
    let tried = speak().and_then(|kernel| {
        converse(&kernel, &encode::plugging(&name, &chain))?;
        converse(&kernel, &encode::unplugging_all(&name))
    });
    tried.is_ok()
}

fn speak() -> io::Result<OwnedFd> {
    let filter = SockProtocol::NetlinkNetFilter;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags,
        filter,
    )?)
}

/// What holds for no packet.
fn nobody() -> Vec<Test> {
    let nowhere = Net::one(Ipv4Addr::BROADCAST);
    vec![Test::Version4, Test::Source(nowhere)]
}

fn try_name() -> String {
    format!("sandlot-try-{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_offers_rules_keeps_none_of_those_that_were_tried() {
        for _ in 0..2 {
            if let Err(error) = rules_offered() {
                return println!("skipped: this machine takes no rules: {error}");
            }
            println!("senders can be checked: {}", sender_checks_offered());
        }
    }
}
