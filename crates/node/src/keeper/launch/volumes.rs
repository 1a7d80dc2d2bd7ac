//! Volumes in a container's root: neither where one comes from nor where it is shown can lead out
//! of where it belongs, whatever links lie on the way.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, mkdirat};

use super::super::message::{Failure, Mount, Stage};
use super::super::namespaces::Namespaces;
use super::super::syscalls::{Within, move_mount, open_tree, open_within, set_mount};
use super::identity;
use super::view::{NODEV, NOSUID, RDONLY, in_root, map, open_folder};

/// Mounts a volume.
pub(super) fn show(
    wanted: &Mount,
    root: BorrowedFd<'_>,
    namespaces: &Namespaces,
) -> io::Result<()> {
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
                // Who may write in the volume may write in a part of it.
                let mode = nix::sys::stat::fstat(&volume)?.st_mode & 0o7777;
                make_below(volume.as_fd(), inside, Made::Folder(mode), Within::Beneath)?
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
    let made = if is_folder {
        Made::Folder(0o755)
    } else {
        Made::File
    };
    make_below(root, path, made, Within::Root)
}

/// What is made where nothing is yet, in folders like it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    /// An empty file, in folders that everybody may look into.
    File,
    /// A folder of this mode, whatever the mask of this process.
    Folder(libc::mode_t),
}

/// Opens a path below a folder, making what is missing on the way.
fn make_below(
    folder: BorrowedFd<'_>,
    path: &Path,
    made: Made,
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
                match made {
                    Made::File if last => make_file(here.as_fd(), name)?,
                    Made::File => make_folder(here.as_fd(), name, 0o755)?,
                    Made::Folder(mode) => make_folder(here.as_fd(), name, mode)?,
                }
                open_within(folder, &walked, libc::O_PATH, within)?
            }
            Err(error) => return Err(error),
        };
    }
    Ok(here)
}

fn make_file(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW;
    let mode = Mode::from_bits_retain(0o644);
    nix::fcntl::openat(parent, name, flags | OFlag::O_CLOEXEC, mode)?;
    Ok(())
}

fn make_folder(parent: BorrowedFd<'_>, name: &OsStr, mode: libc::mode_t) -> io::Result<()> {
    mkdirat(parent, name, Mode::from_bits_retain(0o755))?;
    if mode != 0o755 {
        // The mask takes from what a new folder is asked for, but not from this.
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = nix::fcntl::openat(parent, name, flags, Mode::empty())?;
        fchmod(&made, Mode::from_bits_retain(mode))?;
    }
    Ok(())
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
