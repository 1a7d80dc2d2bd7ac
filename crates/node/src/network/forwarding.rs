//! Whether the machine passes packets on between its links.
//!
//! Linux has one switch for all links, and many machines have it off. Pods need it on to
//! reach the world. The first node that turns it on leaves a note, and the last one to
//! leave turns it off again.

use std::fs;
use std::io;
use std::path::Path;

const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
const NOTE: &str = "/run/sandlot-forwarding";
const LINKS: &str = "/sys/class/net";

/// Turns it on.
pub(super) fn open() -> io::Result<()> {
    if fs::read_to_string(SWITCH)?.trim() == "1" {
        return Ok(());
    }
    // The note comes first: what is not noted would stay on for ever.
    fs::write(NOTE, "on for Sandlot's pods; off before\n")?;
    fs::write(SWITCH, "1")
}

/// Turns it off, when it was turned on for pods and nobody here has any more.
pub(super) fn close() {
    if !Path::new(NOTE).exists() || bridges_left() {
        return;
    }
    if fs::write(SWITCH, "0").is_ok() {
        let _ = fs::remove_file(NOTE);
    }
}

fn bridges_left() -> bool {
    let links = fs::read_dir(LINKS).into_iter().flatten().flatten();
    links
        .filter_map(|link| link.file_name().into_string().ok())
        .any(|name| super::is_bridge(&name))
}

/// Makes the bridge a router for its pods and nothing else.
pub(super) fn for_bridge(name: &str) -> io::Result<()> {
    let set = |family: &str, what: &str, value: &str| {
        fs::write(format!("/proc/sys/net/{family}/conf/{name}/{what}"), value)
    };
    set("ipv4", "forwarding", "1")?;
    // Pods would be told of a shorter way that is closed to them.
    set("ipv4", "send_redirects", "0")?;
    set("ipv4", "rp_filter", "1")?;
    // A kernel without the sixth version has nothing to turn off.
    let _ = set("ipv6", "disable_ipv6", "1");
    Ok(())
}
