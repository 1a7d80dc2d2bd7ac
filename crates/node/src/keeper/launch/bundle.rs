//! What a child of the keeper does before it becomes an OCI runtime: make ready what the
//! container shows, as [`super::view`] would, and write down the rest for the runtime.
//!
//! All mounts are made in a mount namespace that the runtime's process and the container have
//! to themselves, so that they go with the container, as everywhere else in the node.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::Pid;

use super::super::message::{Failure, OciRuntime, Plan, Stage, Tell, View};
use super::super::namespaces::Namespaces;
use super::super::packet;
use super::super::syscalls::{close_all_on_exec, leave, move_mount, open_tree};
use super::configuration::{self, Ready, Volume};
use super::{create, identity, restore_signals, view, volumes};
use crate::isolation;
use crate::runtime::has_own_kernel;

/// Folders of any machine that a runtime has no business in. One of them is covered with what
/// was made ready: a container's root cannot walk through the node's own folder, which is
/// closed to everybody else.
const PLACES: [&str; 4] = ["/mnt", "/media", "/srv", "/tmp"];

pub(in super::super) use super::configuration::command;

/// Becomes the runtime that starts this container; never returns.
pub(in super::super) fn become_starter(
    plan: &Plan,
    namespaces: &Namespaces,
    beside: Option<Pid>,
    words: &[String],
    report: BorrowedFd<'_>,
) -> ! {
    close_all_on_exec();
    let made = match &plan.runtime {
        Some(runtime) => make(plan, runtime, namespaces, beside),
        None => Err(create("the runtime", "the plan names none")),
    };
    let failure = match made {
        Ok(runtime) => execute(runtime, words),
        Err(failure) => failure,
    };
    give_up(failure, report)
}

/// Becomes the runtime that does something to a container; never returns.
pub(in super::super) fn become_caller(
    runtime: &OciRuntime,
    words: &[String],
    report: BorrowedFd<'_>,
) -> ! {
    close_all_on_exec();
    let failure = match stand_in(runtime) {
        Ok(()) => execute(runtime, words),
        Err(error) => create("the runtime's surroundings", error),
    };
    give_up(failure, report)
}

/// A runtime looks for the container's root in its own mount namespace, where it only ever
/// was when the container was started: an empty folder will do.
fn stand_in(runtime: &OciRuntime) -> io::Result<()> {
    let whole = fs::read(runtime.bundle.join("config.json"))?;
    let whole: serde_json::Value = serde_json::from_slice(&whole)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let (from, kind) = (None::<&str>, None::<&str>);
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(from, "/", kind, private, None::<&str>)?;
    let root = whole["root"]["path"].as_str().map(Path::new);
    if let Some((root, place)) = root.and_then(|root| Some((root, root.parent()?))) {
        let options = Some("mode=755,size=4k");
        mount(
            Some("tmpfs"),
            place,
            Some("tmpfs"),
            MsFlags::empty(),
            options,
        )?;
        fs::create_dir(root)?;
    }
    Ok(())
}

fn give_up(failure: Failure, report: BorrowedFd<'_>) -> ! {
    let code = failure.code;
    let _ = packet::send(report, &Tell::Failed(failure), &[]);
    leave(code)
}

/// Only returns why the program could not be run.
fn execute(runtime: &OciRuntime, words: &[String]) -> Failure {
    use std::os::unix::process::CommandExt as _;
    restore_signals();
    // Where both versions of control groups are side by side, runtimes are shown the one whose
    // controllers are in use: crun refuses to work otherwise.
    let _ = umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH);
    let error = std::process::Command::new(&runtime.program)
        .args(words)
        .env_clear()
        .env("PATH", super::program::USUAL_PATH)
        .current_dir(&runtime.bundle)
        .exec();
    create(
        &format!("cannot run the runtime {}", runtime.program.display()),
        error,
    )
}

fn make<'a>(
    plan: &Plan,
    runtime: &'a OciRuntime,
    namespaces: &Namespaces,
    beside: Option<Pid>,
) -> Result<&'a OciRuntime, Failure> {
    let view = plan
        .view
        .as_ref()
        .ok_or_else(|| create("the container", "the plan has no view"))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| create("a mount namespace", error))?;
    let top = view::lay_root(view, namespaces)?;
    let place = place(&[&view.scratch, &runtime.program])
        .ok_or_else(|| create("a place to build in", "every one is in use"))?;
    let own_kernel = has_own_kernel(&runtime.program);
    let volumes = ready_volumes(view, top.as_fd(), namespaces, place, own_kernel)?;
    if own_kernel {
        volumes::target("/dev/shm", true, top.as_fd(), namespaces)
            .map_err(|error| create("the image's /dev/shm", error))?;
    }
    for folder in &plan.folders {
        // What cannot be made stays missing, as it does without a runtime.
        let _ = volumes::target(folder, true, top.as_fd(), namespaces);
    }
    let user = identity::find(&plan.identity, top.as_fd())?;
    view::freeze(view, top.as_fd())?;
    drop(top);
    fs::create_dir("shm")
        .and_then(|()| bind(&view.shm, Path::new("shm")))
        .map_err(|error| create("the pod's shared memory", error))?;
    let ready = Ready {
        root: place.join(view::ROOT),
        hostname: own_kernel
            .then(|| nix::unistd::gethostname().ok()?.into_string().ok())
            .flatten(),
        namespaces: shared(namespaces, beside, place)
            .map_err(|error| create("the pod's namespaces", error))?,
        users: namespaces.range,
        own_network: namespaces.own_network,
        // Root of users of its own holds them all.
        capabilities: match namespaces.users {
            Some(_) => isolation::ALL,
            None => identity::capabilities().map_err(|error| create("capabilities", error))?,
        },
        shm: place.join("shm"),
        volumes,
        queues: fs::read_to_string("/proc/filesystems").is_ok_and(|known| known.contains("mqueue")),
    };
    let whole = configuration::container(plan, view, runtime, &user, &ready);
    fs::write(runtime.bundle.join("config.json"), whole.to_string())
        .map_err(|error| create("the container's configuration", error))?;
    show_at(place).map_err(|error| create("a place to build in", error))?;
    Ok(runtime)
}

/// The first place that nothing which is still needed lies in.
fn place(needed: &[&Path]) -> Option<&'static Path> {
    PLACES
        .into_iter()
        .map(Path::new)
        .find(|place| place.is_dir() && !needed.iter().any(|path| path.starts_with(place)))
}

/// Makes each volume ready in the working directory, and its target in the root: the runtime
/// has no path of anybody's to resolve.
fn ready_volumes(
    view: &View,
    top: BorrowedFd<'_>,
    namespaces: &Namespaces,
    place: &Path,
    own_kernel: bool,
) -> Result<Vec<Volume>, Failure> {
    let mut volumes = Vec::new();
    for (number, wanted) in view.mounts.iter().enumerate() {
        let name = format!("volume-{number}");
        let made = (|| {
            let (tree, is_folder) = volumes::source(wanted, namespaces)?;
            // What lies over these the runtime makes itself, with the targets in it; but what
            // another kernel lays over them, the runtime cannot see when it looks for targets.
            if own_kernel
                || !["dev", "proc", "sys"]
                    .iter()
                    .any(|own| Path::new(&wanted.target).starts_with(Path::new("/").join(own)))
            {
                volumes::target(&wanted.target, is_folder, top, namespaces)?;
            }
            let onto = if is_folder {
                fs::create_dir(&name)?;
                view::open_folder(Path::new(&name))?
            } else {
                fs::File::create(&name)?;
                nix::fcntl::open(
                    name.as_str(),
                    OFlag::O_PATH | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )?
            };
            move_mount(tree.as_fd(), onto.as_fd())?;
            options(tree.as_fd())
        })();
        volumes.push(Volume {
            source: place.join(name),
            target: wanted.target.clone(),
            options: made.map_err(|error| volumes::unshown(wanted, &error))?,
        });
    }
    Ok(volumes)
}

/// The options that a mount has, in the words of `mount`.
fn options(tree: BorrowedFd<'_>) -> io::Result<Vec<&'static str>> {
    let flags = fstatvfs(tree)?.flags();
    Ok([
        (FsFlags::ST_RDONLY, "ro"),
        (FsFlags::ST_NOSUID, "nosuid"),
        (FsFlags::ST_NODEV, "nodev"),
        (FsFlags::ST_NOEXEC, "noexec"),
    ]
    .into_iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .map(|(_, word)| word)
    .collect())
}

/// Files that stand for what the pod's containers share. We are in most of it ourselves, but a
/// runtime may be one that is not told by where it is called.
fn shared(
    namespaces: &Namespaces,
    beside: Option<Pid>,
    place: &Path,
) -> io::Result<Vec<(&'static str, PathBuf)>> {
    let mut files = vec![
        ("ipc", "/proc/self/ns/ipc".to_owned()),
        ("uts", "/proc/self/ns/uts".to_owned()),
    ];
    if namespaces.own_network {
        files.push(("network", "/proc/self/ns/net".to_owned()));
    }
    if let Some(users) = &namespaces.users {
        files.push(("user", format!("/proc/self/fd/{}", users.as_raw_fd())));
    }
    if let Some(other) = beside {
        files.push(("pid", format!("/proc/{other}/ns/pid")));
    }
    files
        .into_iter()
        .map(|(kind, file)| {
            fs::File::create(kind)?;
            bind(Path::new(&file), Path::new(kind))?;
            Ok((kind, place.join(kind)))
        })
        .collect()
}

fn bind(from: &Path, to: &Path) -> io::Result<()> {
    Ok(mount(
        Some(from),
        to,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )?)
}

/// Shows what was built where a container's root may walk to it.
fn show_at(place: &Path) -> io::Result<()> {
    let built = open_tree(None, Path::new("."), true)?;
    move_mount(built.as_fd(), view::open_folder(place)?.as_fd())
}

/// Why the runtime says that it could not do what it was told, as its log has it.
pub(in super::super) fn complaint(program: &Path, log: &str, code: i32) -> Failure {
    let said = log.lines().rev().find_map(|line| {
        let Ok(entry) = serde_json::from_str::<serde_json::Value>(line) else {
            return Some(line.trim().to_owned()).filter(|line| !line.is_empty());
        };
        let grave = matches!(entry["level"].as_str(), Some("error" | "fatal" | "panic"));
        grave.then(|| entry["msg"].as_str().unwrap_or(line).to_owned())
    });
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let message = match said {
        Some(said) if said.starts_with(&*name) => said,
        Some(said) => format!("{name}: {said}"),
        None => format!("{name} ended with code {code} and did not say why"),
    };
    let (stage, code) = judge(&message);
    Failure {
        stage,
        message,
        code,
    }
}

/// Which of a start's steps a runtime complains of; each has words of its own for a command
/// that cannot be run.
fn judge(message: &str) -> (Stage, i32) {
    let of_command = ["exec:", "executable", "failed to load "]
        .into_iter()
        .any(|words| message.contains(words));
    let missing = message.contains("not found in $PATH")
        || message.to_lowercase().contains("no such file or directory");
    let denied = message.to_lowercase().contains("permission denied")
        || message.to_lowercase().contains("exec format error");
    match (of_command, missing, denied) {
        (true, true, _) => (Stage::Start, 127),
        (true, _, true) => (Stage::Start, 126),
        _ => (Stage::Create, 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_s_last_grave_word_is_its_reason() {
        let log = "{\"level\":\"warning\",\"msg\":\"first\"}\n\
                   {\"level\":\"error\",\"msg\":\"runc run failed: no room\"}\n\
                   {\"level\":\"debug\",\"msg\":\"last\"}\n";
        let failure = complaint(Path::new("/usr/bin/runc"), log, 1);
        assert_eq!(failure.message, "runc run failed: no room");
        assert_eq!(failure.stage, Stage::Create);
        let plain = complaint(Path::new("/x/own"), "it broke\n", 1);
        assert_eq!(plain.message, "own: it broke");
        let silent = complaint(Path::new("/x/own"), "", 3);
        assert!(silent.message.contains("code 3"));
    }

    #[test]
    fn a_command_that_cannot_be_run_is_told_apart_from_a_container_that_cannot_be_made() {
        let runc = "runc run failed: unable to start container process: exec: \"x\": executable file not found in $PATH";
        assert_eq!(judge(runc), (Stage::Start, 127));
        let crun = "crun: executable file `x` not found in $PATH: No such file or directory";
        assert_eq!(judge(crun), (Stage::Start, 127));
        let denied = "crun: open executable: Permission denied";
        assert_eq!(judge(denied), (Stage::Start, 126));
        let runsc = "runsc: running container: starting container: creating process: failed to load /no/such/thing: no such file or directory";
        assert_eq!(judge(runsc), (Stage::Start, 127));
        let mount = "runc run failed: mount /x: no such file or directory";
        assert_eq!(judge(mount), (Stage::Create, 128));
    }

    #[test]
    fn nothing_that_is_needed_is_covered() {
        let taken = PLACES.map(|place| Path::new(place).join("sandlot"));
        let taken: Vec<&Path> = taken.iter().map(PathBuf::as_path).collect();
        assert_eq!(place(&taken), None);
        let free = place(&[Path::new("/usr/bin/runc")]).unwrap();
        assert!(PLACES.contains(&free.to_str().unwrap()));
    }
}
