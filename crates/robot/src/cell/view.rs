//! The files of a cell: the system's programs read-only, a few devices, the task's folders.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, pivot_root},
};

use super::{Cell, During, Failed};

/// Folders of programs and what they are made of.
const SYSTEM: [&str; 8] = [
    "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt",
];
/// What programs look for in /etc that is nobody's secret.
const SETTINGS: [&str; 16] = [
    "passwd",
    "group",
    "hosts",
    "resolv.conf",
    "nsswitch.conf",
    "host.conf",
    "protocols",
    "services",
    "localtime",
    "timezone",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "ca-certificates",
    "ssl/certs",
];
/// Devices that can do no harm.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// How much fits into /tmp and /dev/shm each.
const SCRATCH: &str = "mode=1777,size=64m";

/// Builds the cell and makes it all that this process sees.
pub(super) fn build(cell: &Cell) -> Result<(), Failed> {
    let root = cell.site.as_path();
    let nothing = None::<&str>;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .during("parting from the robot's mounts")?;
    empty(root, "mode=755,size=1m")?;
    for name in SYSTEM {
        show(&Path::new("/").join(name), root)?;
    }
    for name in SETTINGS {
        show(&Path::new("/etc").join(name), root)?;
    }
    devices(root)?;
    processes(root);
    hide_the_robots_own(cell)?;
    empty(&within(root, Path::new("/tmp")), SCRATCH)?;
    empty(&within(root, Path::new("/dev/shm")), SCRATCH)?;
    for own in [&cell.shared, &cell.folder] {
        let place = within(root, own);
        fs::create_dir_all(&place).during("making the task's folder")?;
        bind(own, &place)?;
    }
    chdir(root).during("entering the cell")?;
    pivot_root(".", ".").during("leaving the robot's files")?;
    umount2(".", MntFlags::MNT_DETACH).during("leaving the robot's files for good")?;
    chdir("/").during("entering the cell")?;
    let closed = MsFlags::MS_REMOUNT
        | MsFlags::MS_BIND
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV;
    mount(nothing, "/", nothing, closed, nothing).during("closing the cell")
}

/// Covers the agent's folder, with its credential and everybody's tasks, where it lies in a folder of
/// the system's that is shown.
fn hide_the_robots_own(cell: &Cell) -> Result<(), Failed> {
    let Some(own) = cell.site.parent() else {
        return Ok(());
    };
    let place = within(&cell.site, own);
    match place.is_dir() {
        true => empty(&place, "mode=755,size=1m"),
        false => Ok(()),
    }
}

/// Where something of the robot is in the cell.
fn within(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// A folder in memory.
fn empty(place: &Path, options: &str) -> Result<(), Failed> {
    fs::create_dir_all(place).during(format!("making {}", place.display()))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some(options))
        .during(format!("mounting {}", place.display()))
}

/// Shows something of the robot, if it is there: links as links, all else read-only.
fn show(path: &Path, root: &Path) -> Result<(), Failed> {
    let place = within(root, path);
    let what = || format!("showing {}", path.display());
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if let Some(above) = place.parent() {
        fs::create_dir_all(above).during(what())?;
    }
    if found.is_symlink() && path.parent() == Some(Path::new("/")) {
        return fs::read_link(path)
            .and_then(|target| symlink(target, &place))
            .during(what());
    }
    // What it leads to is shown in its place: that may be somewhere the cell does not reach.
    let Ok(found) = fs::metadata(path) else {
        return Ok(());
    };
    if found.is_dir() {
        fs::create_dir_all(&place).during(what())?;
    } else {
        File::create(&place).during(what())?;
    }
    bind(path, &place)?;
    read_only(&place).during(what())
}

fn bind(from: &Path, to: &Path) -> Result<(), Failed> {
    let nothing = None::<&str>;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, nothing, flags, nothing).during(format!("mounting {}", from.display()))
}

/// Makes a mount, and all below it, read-only.
fn read_only(place: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(place.as_os_str().as_bytes())?;
    let wanted = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: a path and a structure of the size that is given, both of which outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const wanted,
            size_of::<libc::mount_attr>(),
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn devices(root: &Path) -> Result<(), Failed> {
    let folder = within(root, Path::new("/dev"));
    fs::create_dir_all(&folder).during("making /dev")?;
    for name in DEVICES {
        let (device, place) = (Path::new("/dev").join(name), folder.join(name));
        if !device.exists() {
            continue;
        }
        File::create(&place).during(format!("making /dev/{name}"))?;
        bind(&device, &place)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, folder.join(name)).during(format!("making /dev/{name}"))?;
    }
    Ok(())
}

/// The cell's own processes. Inside of another container the kernel may not show them; most
/// programs do without.
fn processes(root: &Path) {
    let place = within(root, Path::new("/proc"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if fs::create_dir_all(&place).is_ok() {
        let _ = mount(Some("proc"), &place, Some("proc"), flags, None::<&str>);
    }
}
