//! What a container sees of the kernel: `/dev`, `/proc` and `/sys`, without what tells about the
//! machine or changes it.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use super::super::message::View;
use super::super::namespaces::Namespaces;
use super::super::syscalls::{move_mount, open_tree, set_mount};
use super::view::{NODEV, NOEXEC, NOSUID, RDONLY};

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

/// Makes a `/dev` with what every program may use; the whole of it only for who is privileged.
pub(super) fn devices(view: &View, root: &Path, namespaces: &Namespaces) -> io::Result<()> {
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

/// Shows the pod's processes and the kernel's settings.
pub(super) fn kernel(view: &View, root: &Path) -> io::Result<()> {
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

/// Hides and closes what is not the container's.
pub(super) fn hide(root: &Path) -> io::Result<()> {
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
