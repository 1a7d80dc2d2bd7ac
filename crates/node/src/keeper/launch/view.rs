//! Building what a container sees: its root, `/dev`, `/proc`, `/sys` and its volumes.
//!
//! Everything is mounted in the container's own mount namespace, so that the kernel
//! takes it away with the container's last process: nothing to clean up, nothing to leak.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Component, Path};

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};

use super::super::message::{Failure, Mount, Overlay, Stage, View};
use super::super::namespaces::Namespaces;
use super::super::syscalls::{Within, move_mount, open_tree, open_within, set_mount};
use super::{create, identity};

const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;

/// Files of `/proc` that tell about the machine, shown empty.
pub(super) const HIDDEN: &[&str] = &[
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/config.gz",
    "sys/firmware",
    "sys/devices/virtual/powercap",
    "sys/kernel/debug",
    "sys/kernel/security",
    "sys/kernel/tracing",
    "sys/fs/bpf",
    "sys/fs/pstore",
];

/// Parts of `/proc` that change the machine, shown read-only.
pub(super) const FROZEN: &[&str] = &[
    "proc/bus",
    "proc/fs",
    "proc/irq",
    "proc/sys",
    "proc/sysrq-trigger",
];

/// Builds the view and makes it the root of this process.
pub(super) fn build(view: &View, namespaces: &Namespaces) -> Result<(), Failure> {
    let top = lay_root(view, namespaces)?;
    let root = Path::new(ROOT);
    devices(view, root, namespaces).map_err(|error| create("/dev", error))?;
    kernel(view, root).map_err(|error| create("/proc and /sys", error))?;
    for wanted in &view.mounts {
        show(wanted, top.as_fd(), namespaces).map_err(|error| unshown(wanted, &error))?;
    }
    if !view.privileged {
        hide(root).map_err(|error| create("hidden paths", error))?;
    }
    freeze(view, top.as_fd())?;
    drop(top);
    enter(root).map_err(|error| create("the new root", error))
}

/// The name of the root in the folder that it is built in.
pub(super) const ROOT: &str = "root";

/// Lays the image's layers in a folder of nobody else's, which becomes the working directory;
/// the result is their top.
pub(super) fn lay_root(view: &View, namespaces: &Namespaces) -> Result<OwnedFd, Failure> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        None::<&str>,
    )
    .map_err(|error| create("private mounts", error))?;
    // A small tmpfs to build in; it vanishes from sight with the old root.
    mount(
        Some("tmpfs"),
        &view.scratch,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755,size=1m"),
    )
    .map_err(|error| create("a place to build in", error))?;
    std::env::set_current_dir(&view.scratch)
        .map_err(|error| create("the place to build in", error))?;
    let root = Path::new(ROOT);
    fs::create_dir(root).map_err(|error| create("the root", error))?;
    for (number, overlay) in view.overlays.iter().enumerate() {
        lay(number, overlay, root, namespaces).map_err(|error| {
            create(
                &format!("cannot lay the image's layers at {}", overlay.at),
                error,
            )
        })?;
    }
    for name in ["dev", "proc", "sys"] {
        own_folder(root, name, namespaces)
            .map_err(|error| create(&format!("the image's /{name}"), error))?;
    }
    open_folder(root).map_err(|error| create("the root", error))
}

/// Why a volume is not where it should be.
pub(super) fn unshown(wanted: &Mount, error: &io::Error) -> Failure {
    Failure {
        stage: Stage::Create,
        message: format!(
            "cannot mount {} at {}: {error}",
            wanted.source.display(),
            wanted.target
        ),
        code: 128,
    }
}

/// Closes the image's own files to writing, if that is wanted.
pub(super) fn freeze(view: &View, top: BorrowedFd<'_>) -> Result<(), Failure> {
    if !view.read_only {
        return Ok(());
    }
    for overlay in &view.overlays {
        let path = Path::new(overlay.at.trim_start_matches('/'));
        let fd = open_within(top, in_root(path), libc::O_PATH, Within::Root);
        fd.and_then(|fd| set_mount(fd.as_fd(), RDONLY, None, false))
            .map_err(|error| create("a read-only root", error))?;
    }
    Ok(())
}

/// A folder at the top of the image to mount something on, made if it is missing. An image may
/// have anything there: a link would lead to the machine's own files.
fn own_folder(root: &Path, name: &str, namespaces: &Namespaces) -> io::Result<()> {
    let path = root.join(name);
    match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            "it is not a folder; the image is refused",
        )),
        Err(_) => {
            let _root = identity::AsPodRoot::become_it(namespaces.root_id)?;
            fs::create_dir(&path)
        }
    }
}

fn in_root(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

pub(super) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?)
}

/// Shows a folder of the machine at `to`, with its root as the pod's where the file
/// system can do that.
fn mapped(from: &Path, to: &Path, attributes: u64, namespaces: &Namespaces) -> io::Result<()> {
    let tree = open_tree(None, from, false)?;
    map(&tree, namespaces)?;
    if attributes != 0 {
        set_mount(tree.as_fd(), attributes, None, false)?;
    }
    fs::create_dir_all(to)?;
    move_mount(tree.as_fd(), open_folder(to)?.as_fd())
}

fn map(tree: &OwnedFd, namespaces: &Namespaces) -> io::Result<()> {
    // A single mapped user is the machine's own: files already look right.
    let Some(users) = namespaces
        .users
        .as_ref()
        .filter(|_| namespaces.root_id != 0)
    else {
        return Ok(());
    };
    match set_mount(tree.as_fd(), 0, Some(users.as_fd()), false) {
        // The file system cannot; its files then belong to nobody, still readable.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other,
    }
}

fn lay(number: usize, overlay: &Overlay, root: &Path, namespaces: &Namespaces) -> io::Result<()> {
    let mut names = Vec::new();
    for (depth, layer) in overlay.layers.iter().enumerate() {
        let name = format!("{number}.{depth}");
        mapped(layer, Path::new(&name), RDONLY | NODEV, namespaces)?;
        names.push(name);
    }
    for folder in ["upper", "work"] {
        fs::create_dir_all(overlay.writes.join(folder))?;
    }
    let writes = format!("{number}.w");
    mapped(&overlay.writes, Path::new(&writes), NODEV, namespaces)?;
    let mut options = format!(
        "lowerdir={},upperdir={writes}/upper,workdir={writes}/work",
        names.join(":")
    );
    if !nix::unistd::geteuid().is_root() || in_user_namespace() {
        options.push_str(",userxattr");
    }
    let at = root.join(overlay.at.trim_start_matches('/'));
    if number > 0 {
        fs::create_dir_all(&at)?;
    }
    // The layers take on the identity of whoever mounts them, who must be known in them.
    let _root = identity::AsPodRoot::become_it(namespaces.root_id)?;
    Ok(mount(
        Some("overlay"),
        &at,
        Some("overlay"),
        MsFlags::MS_NODEV,
        Some(options.as_str()),
    )?)
}

/// Whether we are root only in a user namespace of our own, as everyone is without root.
fn in_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
}

fn devices(view: &View, root: &Path, namespaces: &Namespaces) -> io::Result<()> {
    let dev = root.join("dev");
    let id = namespaces.root_id;
    if view.privileged {
        mount(
            Some("/dev"),
            &dev,
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        )?;
        return Ok(());
    }
    let options = format!("mode=755,size=64k,uid={id},gid={id}");
    mount(
        Some("tmpfs"),
        &dev,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some(options.as_str()),
    )?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let to = dev.join(name);
        fs::File::create(&to)?;
        mount(
            Some(&Path::new("/dev").join(name)),
            &to,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
    }
    fs::create_dir(dev.join("pts"))?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(
        Some("devpts"),
        &dev.join("pts"),
        Some("devpts"),
        quiet,
        Some("newinstance,ptmxmode=0666,mode=0620"),
    )?;
    fs::create_dir(dev.join("shm"))?;
    mount(
        Some(&view.shm),
        &dev.join("shm"),
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    fs::create_dir(dev.join("mqueue"))?;
    // Not every kernel has message queues, and hardly a program wants them.
    let _ = mount(
        Some("mqueue"),
        &dev.join("mqueue"),
        Some("mqueue"),
        quiet | MsFlags::MS_NODEV,
        None::<&str>,
    );
    for (name, to) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(to, dev.join(name))?;
        // The pod's own root made this /dev, as far as the pod can see.
        let _ = std::os::unix::fs::lchown(dev.join(name), Some(id), Some(id));
    }
    Ok(())
}

fn kernel(view: &View, root: &Path) -> io::Result<()> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let (proc, sys) = (root.join("proc"), root.join("sys"));
    mount(Some("proc"), &proc, Some("proc"), quiet, None::<&str>)?;
    let flags = if view.privileged {
        quiet
    } else {
        quiet | MsFlags::MS_RDONLY
    };
    Ok(mount(
        Some("sysfs"),
        &sys,
        Some("sysfs"),
        flags,
        None::<&str>,
    )?)
}

fn hide(root: &Path) -> io::Result<()> {
    for name in HIDDEN {
        let path = root.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {
                mount(
                    Some("tmpfs"),
                    &path,
                    Some("tmpfs"),
                    MsFlags::MS_RDONLY,
                    Some("size=0k,mode=755"),
                )?;
            }
            Ok(_) => mount(
                Some("/dev/null"),
                &path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?,
            Err(_) => {}
        }
    }
    for name in FROZEN {
        let path = root.join(name);
        if path.exists() {
            let tree = open_tree(None, &path, true)?;
            set_mount(tree.as_fd(), RDONLY | NOSUID | NODEV | NOEXEC, None, true)?;
            let onto = nix::fcntl::open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
            move_mount(tree.as_fd(), onto.as_fd())?;
        }
    }
    Ok(())
}

/// Mounts a volume; neither its sub-path nor its target can lead out of where they belong.
fn show(wanted: &Mount, root: BorrowedFd<'_>, namespaces: &Namespaces) -> io::Result<()> {
    let (tree, is_folder) = source(wanted, namespaces)?;
    let onto = target(&wanted.target, is_folder, root, namespaces)?;
    move_mount(tree.as_fd(), onto.as_fd())
}

/// What a volume shows, ready to be mounted, and whether it is a folder.
pub(super) fn source(wanted: &Mount, namespaces: &Namespaces) -> io::Result<(OwnedFd, bool)> {
    let source = match &wanted.sub_path {
        None => nix::fcntl::open(
            &wanted.source,
            OFlag::O_PATH | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?,
        Some(inside) => {
            let volume = open_folder(&wanted.source)?;
            let inside = in_root(Path::new(inside.trim_start_matches('/')));
            if wanted.create {
                make_below(volume.as_fd(), inside, true, Within::Beneath)?
            } else {
                open_within(volume.as_fd(), inside, libc::O_PATH, Within::Beneath)?
            }
        }
    };
    let is_folder = nix::sys::stat::fstat(&source)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let tree = open_tree(Some(source.as_fd()), Path::new(""), true)?;
    if wanted.map_users {
        map(&tree, namespaces)?;
    }
    let attributes = NOSUID | NODEV | if wanted.read_only { RDONLY } else { 0 };
    set_mount(tree.as_fd(), attributes, None, true)?;
    Ok((tree, is_folder))
}

/// Where in the root something is mounted, made if it is missing.
pub(super) fn target(
    path: &str,
    is_folder: bool,
    root: BorrowedFd<'_>,
    namespaces: &Namespaces,
) -> io::Result<OwnedFd> {
    // Where the root's layers map users, only the pod's root may make files in them.
    let _root = identity::AsPodRoot::become_it(namespaces.root_id)?;
    let path = Path::new(path.trim_start_matches('/'));
    make_below(root, path, is_folder, Within::Root)
}

/// Opens a path below a folder, making what is missing on the way.
fn make_below(
    folder: BorrowedFd<'_>,
    path: &Path,
    is_folder: bool,
    within: Within,
) -> io::Result<OwnedFd> {
    let mut here = open_within(folder, Path::new("."), libc::O_PATH, within)?;
    let mut walked = std::path::PathBuf::new();
    let steps: Vec<_> = path
        .components()
        .filter_map(|step| match step {
            Component::Normal(name) => Some(Ok(name)),
            Component::ParentDir => Some(Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a path with ..",
            ))),
            _ => None,
        })
        .collect::<Result<_, _>>()?;
    for (number, name) in steps.iter().enumerate() {
        walked.push(name);
        here = match open_within(folder, &walked, libc::O_PATH, within) {
            Ok(found) => found,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                let last = number + 1 == steps.len();
                if last && !is_folder {
                    let flags =
                        OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW;
                    nix::fcntl::openat(
                        &here,
                        *name,
                        flags | OFlag::O_CLOEXEC,
                        Mode::from_bits_retain(0o644),
                    )?;
                } else {
                    mkdirat(&here, *name, Mode::from_bits_retain(0o755))?;
                }
                open_within(folder, &walked, libc::O_PATH, within)?
            }
            Err(error) => return Err(error),
        };
    }
    Ok(here)
}

fn enter(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    // With both names the same folder, the old root ends up on top of the new one …
    nix::unistd::pivot_root(".", ".")?;
    // … from where it is taken away, with everything of the machine in it.
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}
