//! Building what a container sees: its root from the image's layers, and all that is shown in it.
//!
//! Everything is mounted in the container's own mount namespace, so that the kernel
//! takes it away with the container's last process: nothing to clean up, nothing to leak.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;

use super::super::message::{Failure, Overlay, View};
use super::super::namespaces::Namespaces;
use super::super::syscalls::{Within, move_mount, open_tree, open_within, set_mount};
use super::kernel_files::{devices, hide, kernel};
use super::volumes::{show, unshown};
use super::{create, identity};

pub(super) const RDONLY: u64 = 0x1;
pub(super) const NOSUID: u64 = 0x2;
pub(super) const NODEV: u64 = 0x4;
pub(super) const NOEXEC: u64 = 0x8;

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

pub(super) fn in_root(path: &Path) -> &Path {
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

/// Lets a tree's files belong to the pod's users.
pub(super) fn map(tree: &OwnedFd, namespaces: &Namespaces) -> io::Result<()> {
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

fn enter(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    // With both names the same folder, the old root ends up on top of the new one …
    nix::unistd::pivot_root(".", ".")?;
    // … from where it is taken away, with everything of the machine in it.
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}
