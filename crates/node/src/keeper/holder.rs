//! A network apart from the machine's lives as long as somebody is in it. The zygote ends with
//! the node; the holder does not, so that a node that starts again finds the network.

use std::fs;
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigHandler, Signal};

use super::message::Ground;
use super::syscalls::{close_all_on_exec, fork_into, leave};

/// How often the holder looks whether anybody still wants the network.
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_secs(30);

/// Goes to the network that keepers are to be made from. Without root it comes with users
/// among whom we are root, so that everything that pods need is allowed.
pub(super) fn enter(ground: Ground) -> io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    match ground {
        Ground::Machine => return Ok(()),
        Ground::HeldBy(holder) => {
            let open = |name: &str| fs::File::open(format!("/proc/{holder}/ns/{name}"));
            let (users, network) = (open("user")?, open("net")?);
            if !uid.is_root() {
                setns(users, CloneFlags::CLONE_NEWUSER)?;
            }
            setns(network, CloneFlags::CLONE_NEWNET)?;
            return Ok(());
        }
        Ground::Apart if uid.is_root() => unshare(CloneFlags::CLONE_NEWNET)?,
        Ground::Apart => {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("0 {uid} 1\n"))?;
            fs::write("/proc/self/gid_map", format!("0 {gid} 1\n"))?;
        }
    }
    // A new network begins with what the machine has set for itself.
    fs::write("/proc/sys/net/ipv4/ip_forward", "0")?;
    for (what, value) in [
        ("ipv4/conf/all/route_localnet", "0"),
        ("ipv4/conf/default/route_localnet", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv6/conf/default/disable_ipv6", "1"),
    ] {
        // A kernel without it has nothing to turn off.
        let _ = fs::write(format!("/proc/sys/net/{what}"), value);
    }
    Ok(())
}

/// From now on what pods send each other passes here.
pub(super) fn pass_on() -> io::Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")
}

/// Forks the holder; it goes by itself once `wanted` is no longer there.
pub(super) fn fork(wanted: &Path) -> io::Result<i32> {
    let pid = fork_into(0)?;
    if pid != 0 {
        return Ok(pid);
    }
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_name(c"sandlot-network");
    // The keyboard's signals and the node's end are not meant for it.
    for signal in [Signal::SIGINT, Signal::SIGHUP] {
        // SAFETY: ignoring a signal runs no code of ours.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) };
    }
    close_all_on_exec();
    // SAFETY: nothing here uses a file that was open before.
    unsafe { libc::syscall(libc::SYS_close_range, 0u32, u32::MAX, 0) };
    let _ = std::env::set_current_dir("/");
    loop {
        std::thread::sleep(BETWEEN_LOOKS);
        if !wanted.exists() {
            leave(0);
        }
    }
}
