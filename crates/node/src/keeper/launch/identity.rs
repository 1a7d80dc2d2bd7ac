//! Who a program runs as, and giving up everything it may not do.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::super::message::{Failure, Identity, Stage};
use super::super::namespaces::Namespaces;
use super::super::syscalls::{Within, open_within};
use super::create;

/// No `/etc/passwd` or `/etc/group` is read further than this.
const LONGEST_LIST: u64 = 1 << 20;
const CAP_LAST: i32 = 40;

/// A user as the container knows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// Looks the user up in the `/etc/passwd` and `/etc/group` of this root.
pub(super) fn find(identity: &Identity, root: BorrowedFd<'_>) -> Result<User, Failure> {
    let user = choose(
        identity,
        &read(root, "etc/passwd"),
        &read(root, "etc/group"),
    )?;
    if identity.must_not_be_root && user.uid == 0 {
        let message = "container has runAsNonRoot and image will run as root".to_owned();
        return Err(Failure {
            stage: Stage::Config,
            message,
            code: 128,
        });
    }
    Ok(user)
}

/// Only a plain file is read: an image may have anything under this name, and a pipe would
/// keep us waiting for ever.
fn read(root: BorrowedFd<'_>, path: &str) -> String {
    let mut bytes = Vec::new();
    let flags = libc::O_RDONLY | libc::O_NONBLOCK;
    let opened = open_within(root, Path::new(path), flags, Within::Root);
    if let Ok(file) = opened.map(File::from)
        && file.metadata().is_ok_and(|found| found.is_file())
    {
        let _ = file.take(LONGEST_LIST).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn choose(identity: &Identity, passwd: &str, group: &str) -> Result<User, Failure> {
    let (name, group_name) = match identity.image_user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (identity.image_user.as_str(), None),
    };
    let config = |message: String| Failure {
        stage: Stage::Config,
        message,
        code: 128,
    };
    let uid = match identity.uid {
        Some(uid) => Some(uid),
        None if name.is_empty() => Some(0),
        None => name.parse().ok(),
    };
    let lines = || {
        passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .filter(|line| line.len() >= 6)
    };
    let entry = lines().find(|line| match uid {
        Some(uid) => line[2].parse() == Ok(uid),
        None => line[0] == name,
    });
    let uid = match (uid, &entry) {
        (Some(uid), _) => uid,
        (None, Some(line)) => line[2]
            .parse()
            .map_err(|_| config(format!("user {name} has no number in /etc/passwd")))?,
        (None, None) => {
            return Err(config(format!(
                "unable to find user {name}: no matching entries in passwd file"
            )));
        }
    };
    let group_lines = || {
        group
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .filter(|line| line.len() >= 4)
    };
    // A group given by the image belongs to the image's user, not to one the pod chose.
    let group_name = group_name.filter(|_| identity.uid.is_none());
    let gid = match (identity.gid, group_name) {
        (Some(gid), _) => gid,
        (None, Some(wanted)) => match wanted.parse() {
            Ok(gid) => gid,
            Err(_) => group_lines()
                .find(|line| line[0] == wanted)
                .and_then(|line| line[2].parse().ok())
                .ok_or_else(|| {
                    config(format!(
                        "unable to find group {wanted}: no matching entries in group file"
                    ))
                })?,
        },
        (None, None) => entry
            .as_ref()
            .and_then(|line| line[3].parse().ok())
            .unwrap_or(0),
    };
    let mut groups = identity.groups.clone();
    if let Some(line) = &entry {
        let member = |names: &str| names.split(',').any(|name| name == line[0]);
        groups.extend(
            group_lines()
                .filter(|group| member(group[3]))
                .filter_map(|group| group[2].parse::<u32>().ok()),
        );
    }
    groups.retain(|other| *other != gid);
    groups.sort_unstable();
    groups.dedup();
    let home = entry
        .map(|line| line[5].to_owned())
        .filter(|home| !home.is_empty());
    let home = home.unwrap_or_else(|| {
        if uid == 0 {
            "/root".to_owned()
        } else {
            "/".to_owned()
        }
    });
    Ok(User {
        uid,
        gid,
        groups,
        home,
    })
}

/// Whose users a program is one of.
#[derive(Clone, Copy)]
pub(super) enum Users<'a> {
    /// The pod's.
    Pods,
    /// Its own: below the pod's one user, which it knows by another number. Files of that user are
    /// its own, so it needs no group to reach them.
    Own,
    /// Those that the container of this process has, itself below the pod's.
    Containers(BorrowedFd<'a>),
}

/// Enters the pod's user namespace and becomes the user; the order matters at every step.
pub(super) fn become_user(
    identity: &Identity,
    user: &User,
    namespaces: &Namespaces,
    users: Users<'_>,
    terminal: Option<&OwnedFd>,
) -> Result<(), Failure> {
    if let Users::Containers(container) = users {
        setns(container, CloneFlags::CLONE_NEWUSER)
            .map_err(|error| create("the container's users", error))?;
    } else if let Some(users) = &namespaces.users {
        setns(users, CloneFlags::CLONE_NEWUSER)
            .map_err(|error| create("the pod's users", error))?;
        setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))
            .map_err(|error| create("the pod's root", error))?;
        setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))
            .map_err(|error| create("the pod's root", error))?;
    }
    if let Users::Own = users {
        rename(user).map_err(|error| create("a user of its own", error))?;
    }
    if let Some(terminal) = terminal {
        let _ = nix::unistd::fchown(
            terminal,
            Some(Uid::from_raw(user.uid)),
            Some(Gid::from_raw(user.gid)),
        );
    }
    // Without no-new-privileges a filter takes a capability that is given up below.
    if !identity.no_new_privileges {
        install_filters(identity)?;
    }
    drop_bounding(identity.capabilities);
    set_user(user, users)?;
    keep_capabilities(identity.capabilities, user.uid == 0)
        .map_err(|error| create("capabilities", error))?;
    if identity.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().map_err(|error| create("no new privileges", error))?;
        install_filters(identity)?;
    }
    Ok(())
}

/// Gives the pod's one user the number that this one has, in a user namespace below the pod's.
///
/// Nobody else may be in the process namespace yet: until the numbers are written, others of the
/// same user of the machine could look into this process.
fn rename(user: &User) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER)?;
    nix::sys::prctl::set_dumpable(true)?;
    let named = std::fs::write("/proc/self/uid_map", format!("{} 0 1", user.uid))
        .and_then(|()| std::fs::write("/proc/self/gid_map", format!("{} 0 1", user.gid)));
    nix::sys::prctl::set_dumpable(false)?;
    named
}

fn set_user(user: &User, users: Users<'_>) -> Result<(), Failure> {
    let config = |what: &str, error: nix::errno::Errno| Failure {
        stage: Stage::Config,
        message: format!(
            "cannot run as {what}: {error}; without root only a container with processes of its own can be another user, and root in no other group (run the node as root, or set runAsUser to 0)"
        ),
        code: 128,
    };
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    // Where only one id is mapped nobody may change groups, and there is none to give up.
    let needs_none = groups.is_empty() || !matches!(users, Users::Pods);
    match setgroups(&groups) {
        Err(nix::errno::Errno::EPERM) if needs_none => {}
        other => other.map_err(|error| config("the supplementary groups", error))?,
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setresgid(gid, gid, gid).map_err(|error| config(&format!("group {gid}"), error))?;
    setresuid(uid, uid, uid).map_err(|error| config(&format!("user {uid}"), error))
}

fn drop_bounding(keep: u64) {
    for capability in 0..=CAP_LAST {
        if keep & (1 << capability) == 0 {
            // SAFETY: no pointers are passed. Capabilities the kernel does not know are refused.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
    }
}

/// Acts on files as the pod's root, with all the powers of the machine's, until dropped.
pub(super) struct AsPodRoot;

impl AsPodRoot {
    pub(super) fn become_it(id: u32) -> io::Result<AsPodRoot> {
        nix::unistd::setfsgid(Gid::from_raw(id));
        nix::unistd::setfsuid(Uid::from_raw(id));
        // Leaving user 0 has taken the powers over files; they are still permitted.
        let held = capabilities()?;
        set_capabilities(held)?;
        Ok(AsPodRoot)
    }
}

impl Drop for AsPodRoot {
    fn drop(&mut self) {
        nix::unistd::setfsuid(Uid::from_raw(0));
        nix::unistd::setfsgid(Gid::from_raw(0));
    }
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const THIS_PROCESS: CapHeader = CapHeader {
    version: 0x2008_0522,
    pid: 0,
};

/// What this process is permitted.
pub(super) fn capabilities() -> io::Result<u64> {
    let mut held = [CapData {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    // SAFETY: version 3 of the call reads one header and writes two data records.
    if unsafe { libc::syscall(libc::SYS_capget, &THIS_PROCESS, held.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from(held[0].permitted) | u64::from(held[1].permitted) << 32)
}

fn set_capabilities(bits: u64) -> io::Result<()> {
    let half = |bits: u64| CapData {
        effective: bits as u32,
        permitted: bits as u32,
        inheritable: 0,
    };
    let data = [half(bits & 0xffff_ffff), half(bits >> 32)];
    // SAFETY: version 3 of the call reads one header and two data records.
    let result = unsafe { libc::syscall(libc::SYS_capset, &THIS_PROCESS, data.as_ptr()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Root keeps what the bounding set allows; another user keeps nothing.
fn keep_capabilities(keep: u64, is_root: bool) -> io::Result<()> {
    set_capabilities(if is_root { keep & capabilities()? } else { 0 })
}

fn install_filters(identity: &Identity) -> Result<(), Failure> {
    for program in &identity.seccomp {
        let instructions: Vec<libc::sock_filter> = program
            .iter()
            .map(|packed| libc::sock_filter {
                code: (packed >> 48) as u16,
                jt: (packed >> 40) as u8,
                jf: (packed >> 32) as u8,
                k: *packed as u32,
            })
            .collect();
        let whole = libc::sock_fprog {
            len: instructions.len() as u16,
            filter: instructions.as_ptr().cast_mut(),
        };
        // SAFETY: the program and its length belong together and outlive the call.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &whole) };
        if result < 0 {
            return Err(create("the system call filter", io::Error::last_os_error()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\naudio:x:29:app,other\n";

    fn asked(image: &str, uid: Option<u32>) -> Identity {
        Identity {
            image_user: image.to_owned(),
            uid,
            ..Identity::default()
        }
    }

    #[test]
    fn users_are_found_by_name_number_and_group() {
        let found = choose(&asked("app", None), PASSWD, GROUP).unwrap();
        assert_eq!(
            found,
            User {
                uid: 1000,
                gid: 1001,
                groups: vec![29],
                home: "/home/app".into()
            }
        );
        assert_eq!(
            choose(&asked("app:audio", None), PASSWD, GROUP)
                .unwrap()
                .gid,
            29
        );
        assert_eq!(
            choose(&asked("", None), PASSWD, GROUP).unwrap().home,
            "/root"
        );
        assert_eq!(choose(&asked("7:8", None), PASSWD, GROUP).unwrap().gid, 8);
        assert_eq!(
            choose(&asked("app:audio", Some(5)), PASSWD, GROUP)
                .unwrap()
                .gid,
            0
        );
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_it() {
        let failure = choose(&asked("ghost", None), PASSWD, GROUP).unwrap_err();
        assert_eq!(failure.stage, Stage::Config);
        assert!(failure.message.contains("ghost"));
    }
}
