//! Whose bridge is whose. A node that was killed leaves its bridge for its next start; if
//! its folder has gone there is none, and another node clears away what is left.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use super::firewall::Firewall;
use super::links::Links;

/// Says to other nodes of this machine that a bridge has an owner, while it is kept.
pub(super) fn claim(prefix: &str) -> io::Result<UnixListener> {
    let name = format!("sandlot-network-{prefix}");
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// Removes bridges that nobody owns and nobody is connected to, with their rules.
pub(super) async fn sweep(links: &Links, firewall: Option<&Firewall>) {
    let found = std::fs::read_dir("/sys/class/net").into_iter().flatten();
    for entry in found.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let Some(prefix) = name.strip_suffix("-br").filter(|_| super::is_bridge(&name)) else {
            continue;
        };
        // A pod that goes on without its node waits for the node to come back.
        if has_links(&entry.path()) {
            continue;
        }
        let Ok(_ours_meanwhile) = claim(prefix) else {
            continue;
        };
        if let Ok(Some(bridge)) = links.find(&name).await {
            tracing::info!(bridge = name, "removing what a node left that is no more");
            // Gone in between is just as well.
            let _ = links.remove(bridge).await;
        }
        if let Some(firewall) = firewall {
            super::take_away(firewall, &super::table_of(prefix), true).await;
        }
    }
}

fn has_links(bridge: &Path) -> bool {
    std::fs::read_dir(bridge.join("brif")).is_ok_and(|mut links| links.next().is_some())
}
