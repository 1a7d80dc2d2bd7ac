//! The namespaces a pod's containers share, made once and held by the keeper.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};

use super::message::{Address, Birth, IdRange, MemoryFolder, Preparation};
use super::packet;
use super::process::{fork, fork_through};
use super::socket::report_pair;
use super::syscalls::{fork_into, leave};

/// What a pod's containers share.
pub(super) struct Namespaces {
    /// The pod's users; `None` when they are the machine's.
    pub users: Option<OwnedFd>,
    /// The machine's user that is the pod's root.
    pub root_id: u32,
    /// How the pod's users are the machine's.
    pub range: Option<IdRange>,
    /// They share a network that is theirs alone.
    pub own_network: bool,
}

impl Namespaces {
    /// Makes them and moves this process in, all but the user namespace: the keeper
    /// stays above its pod, so that it can build what the pod may only look at.
    pub(super) fn make(birth: &Birth) -> io::Result<Namespaces> {
        let users = match birth.users {
            Some(range) => Some(with_users(range, birth.host_network)?),
            None => {
                let mut own = CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
                if !birth.host_network {
                    own |= CloneFlags::CLONE_NEWNET;
                }
                unshare(own)?;
                None
            }
        };
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_PRIVATE | MsFlags::MS_REC,
            None::<&str>,
        )?;
        if !birth.host_network {
            set_flags("lo", libc::IFF_UP as i16)?;
            close_side_ways();
            // Any user may serve any port: the network is the pod's own.
            let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
        }
        Ok(Namespaces {
            users,
            root_id: birth.users.map_or(0, |range| range.first),
            range: birth.users,
            own_network: !birth.host_network,
        })
    }

    /// Whether the pod knows no other user than its root.
    pub(super) fn is_one_user(&self) -> bool {
        self.range.is_some_and(|range| range.count == 1)
    }

    /// Makes them a certain pod's.
    pub(super) fn prepare(&self, wanted: &Preparation) -> io::Result<()> {
        nix::unistd::sethostname(&wanted.hostname)?;
        if !wanted.domain.is_empty() {
            set_domain(&wanted.domain)?;
        }
        if let Some(address) = wanted.address {
            give_address("eth0", address)?;
            if let Some(shown) = address.shown {
                show_as(shown)?;
            }
        }
        for (name, value) in &wanted.sysctls {
            let path = Path::new("/proc/sys").join(name.replace('.', "/"));
            fs::write(&path, value)
                .map_err(|error| io::Error::new(error.kind(), format!("sysctl {name}: {error}")))?;
        }
        for folder in &wanted.memory {
            self.memory_folder(folder)?;
        }
        Ok(())
    }

    fn memory_folder(&self, folder: &MemoryFolder) -> io::Result<()> {
        fs::create_dir_all(&folder.at)?;
        let id = self.root_id;
        let mut options = format!("mode={:o},uid={id},gid={id}", folder.mode);
        if let Some(bytes) = folder.bytes {
            options.push_str(&format!(",size={bytes}"));
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        Ok(mount(
            Some("tmpfs"),
            &folder.at,
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )?)
    }
}

/// Before there is any link: no way but the one given to the pod. Neither the sixth
/// version's addresses that links give themselves, nor ways that neighbours speak of.
fn close_side_ways() {
    for (what, value) in [
        ("ipv6/conf/default/disable_ipv6", "1"),
        // What the machine has set for itself a new network begins with.
        ("ipv4/conf/all/route_localnet", "0"),
        ("ipv4/conf/default/route_localnet", "0"),
        ("ipv4/conf/all/accept_redirects", "0"),
        ("ipv4/conf/default/accept_redirects", "0"),
    ] {
        // A kernel without it has nothing to close.
        let _ = fs::write(format!("/proc/sys/net/{what}"), value);
    }
}

/// Makes the pod's user namespace and, owned by it, the others; enters the others.
fn with_users(range: IdRange, host_network: bool) -> io::Result<OwnedFd> {
    let (to_child, from_child) = (
        pipe2(nix::fcntl::OFlag::O_CLOEXEC)?,
        pipe2(nix::fcntl::OFlag::O_CLOEXEC)?,
    );
    let mut kinds = CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if !host_network {
        kinds |= CloneFlags::CLONE_NEWNET;
    }
    let pid = fork_into(libc::CLONE_NEWUSER)?;
    if pid == 0 {
        // Our own parent must be able to write our maps; see proc(5) on dumpable.
        let _ = nix::sys::prctl::set_dumpable(true);
        drop(to_child.1);
        let mut go = [0u8];
        let ready =
            std::fs::File::from(to_child.0).read_exact(&mut go).is_ok() && unshare(kinds).is_ok();
        let mut answer = std::fs::File::from(from_child.1);
        let _ = answer.write_all(&[u8::from(ready)]);
        // Hold the namespaces until the keeper has opened them and ends us.
        loop {
            nix::unistd::pause();
        }
    }
    drop(to_child.0);
    drop(from_child.1);
    let made = map_and_enter(pid, range, kinds, to_child.1, from_child.0);
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    let _ = waitpid(Pid::from_raw(pid), None);
    made
}

fn map_and_enter(
    pid: libc::pid_t,
    range: IdRange,
    kinds: CloneFlags,
    go: OwnedFd,
    ready: OwnedFd,
) -> io::Result<OwnedFd> {
    let map = format!("0 {} {}\n", range.first, range.count);
    if range.count == 1 {
        // Without a range of users the kernel wants group changes given up first.
        fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    fs::write(format!("/proc/{pid}/uid_map"), &map)?;
    fs::write(format!("/proc/{pid}/gid_map"), &map)?;
    std::fs::File::from(go).write_all(&[1])?;
    let mut answer = [0u8];
    std::fs::File::from(ready).read_exact(&mut answer)?;
    if answer != [1] {
        return Err(io::Error::other(
            "the kernel refused a network, IPC or UTS namespace",
        ));
    }
    for (name, kind) in [
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("net", CloneFlags::CLONE_NEWNET),
    ] {
        if kinds.contains(kind) {
            setns(fs::File::open(format!("/proc/{pid}/ns/{name}"))?, kind)?;
        }
    }
    Ok(fs::File::open(format!("/proc/{pid}/ns/user"))?.into())
}

/// The first process of those that a pod's containers share.
pub(super) struct Reaper {
    pub pid: Pid,
    /// Their namespace. Without root nobody may enter it by way of the reaper: what runs no program
    /// of its own is as closed as the keeper that it was forked from.
    pub processes: OwnedFd,
}

impl Reaper {
    /// Forks into the pod's process namespace as its first process, which only reaps. A namespace
    /// that an OCI runtime is to join belongs to the pod's users, as the runtime is one of them
    /// then.
    pub(super) fn fork(users: Option<&OwnedFd>) -> io::Result<Reaper> {
        let (ours, theirs) = report_pair()?;
        let mut child = || -> Infallible { reap(theirs.as_fd()) };
        let pid = match users {
            None => fork(libc::CLONE_NEWPID, &mut child)?,
            Some(users) => {
                let enter = || setns(users, CloneFlags::CLONE_NEWUSER);
                fork_through(&enter, libc::CLONE_NEWPID, &mut child)?
            }
        };
        drop(theirs);
        let processes = packet::receive_file(ours.as_fd())?
            .ok_or_else(|| io::Error::other("the first process did not say where it is"))?;
        Ok(Reaper {
            pid: Pid::from_raw(pid),
            processes,
        })
    }
}

fn reap(tell: BorrowedFd<'_>) -> ! {
    // Itself everybody may look at. Where that fails, nothing is told.
    if let Ok(own) = fs::File::open("/proc/self/ns/pid") {
        let _ = packet::send(tell, &(), &[own.as_fd()]);
    }
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    let _ = nix::sys::prctl::set_name(c"pause");
    super::syscalls::close_all_on_exec();
    // SAFETY: closing everything is what a process that never uses a file again may do.
    unsafe { libc::syscall(libc::SYS_close_range, 0u32, u32::MAX, 0) };
    loop {
        // Blocks until a child ends; with no child at all, until a signal comes.
        if waitpid(None, None).is_err() {
            let mut every = nix::sys::signal::SigSet::empty();
            every.add(nix::sys::signal::Signal::SIGCHLD);
            if every.wait().is_err() {
                leave(0);
            }
        }
    }
}

fn control_socket() -> io::Result<OwnedFd> {
    Ok(socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain numbers and bytes, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request
        .ifr_name
        .iter_mut()
        .zip(name.bytes().take(libc::IFNAMSIZ - 1))
    {
        *to = from as libc::c_char;
    }
    request
}

fn internet(ip: Ipv4Addr) -> libc::sockaddr {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from(ip).to_be(),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: both are the same sixteen bytes; this is how the kernel's interface has it.
    unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) }
}

fn ioctl<T>(name: libc::Ioctl, argument: &T) -> io::Result<()> {
    let socket = control_socket()?;
    // SAFETY: every caller passes the structure that its request reads.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), name, argument as *const T) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn set_flags(name: &str, flags: i16) -> io::Result<()> {
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = flags;
    ioctl(libc::SIOCSIFFLAGS, &request)
}

fn give_address(name: &str, address: Address) -> io::Result<()> {
    let mut wanted = request(name);
    wanted.ifr_ifru.ifru_addr = internet(address.ip);
    ioctl(libc::SIOCSIFADDR, &wanted)?;
    let mask = u32::MAX
        .checked_shl(32 - u32::from(address.prefix))
        .unwrap_or(0);
    wanted.ifr_ifru.ifru_netmask = internet(Ipv4Addr::from(mask));
    ioctl(libc::SIOCSIFNETMASK, &wanted)?;
    set_flags(name, (libc::IFF_UP | libc::IFF_RUNNING) as i16)?;
    if address.prefix == 32 {
        // Alone on its cable, it is told that the gateway is at the other end.
        add_route(name, address.gateway, Ipv4Addr::BROADCAST, None)?;
    }
    let everywhere = Ipv4Addr::UNSPECIFIED;
    add_route(name, everywhere, everywhere, Some(address.gateway))
}

/// Lets the pod be reached under an address of 127.0.0.0/8, and reach others under theirs:
/// only the lower part of these stays the pod's own.
fn show_as(shown: Ipv4Addr) -> io::Result<()> {
    const LOWER_PART: Ipv4Addr = Ipv4Addr::new(255, 192, 0, 0);
    let set = |name: &str, ip: Option<Ipv4Addr>, mask: Ipv4Addr| {
        let mut wanted = request(name);
        if let Some(ip) = ip {
            wanted.ifr_ifru.ifru_addr = internet(ip);
            ioctl(libc::SIOCSIFADDR, &wanted)?;
        }
        wanted.ifr_ifru.ifru_netmask = internet(mask);
        ioctl(libc::SIOCSIFNETMASK, &wanted)
    };
    set("lo", None, LOWER_PART)?;
    set("lo:pod", Some(shown), Ipv4Addr::BROADCAST)?;
    // Answers come from such addresses, which is odd for a link that leads outside.
    fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1")
}

fn add_route(link: &str, to: Ipv4Addr, mask: Ipv4Addr, by: Option<Ipv4Addr>) -> io::Result<()> {
    let mut link = CString::new(link)?.into_bytes_with_nul();
    // SAFETY: rtentry is plain numbers and a null pointer, for which zero is a value.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = internet(to);
    route.rt_genmask = internet(mask);
    route.rt_flags = libc::RTF_UP;
    match by {
        Some(gateway) => {
            route.rt_gateway = internet(gateway);
            route.rt_flags |= libc::RTF_GATEWAY;
        }
        None => route.rt_flags |= libc::RTF_HOST,
    }
    // The name outlives the call, which only reads it.
    route.rt_dev = link.as_mut_ptr().cast();
    ioctl(libc::SIOCADDRT, &route)
}

fn set_domain(domain: &str) -> io::Result<()> {
    let domain = CString::new(domain)?;
    // SAFETY: the name and its length belong together.
    let result = unsafe { libc::setdomainname(domain.as_ptr(), domain.as_bytes().len()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
