//! Control groups: limits on what a container may use, and how much it does.
//!
//! Three arrangements are in use on Linux machines: one tree for everything (v2), a tree
//! for each controller (v1), and v1 beside an empty v2 (hybrid). Which one is here, and
//! which limits we may set, is found out once by trying.

mod detect;
mod limits;
mod rest;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) use detect::Layout;
pub(crate) use limits::{Limits, PERIOD_MICROSECONDS};

/// Processes that were killed are given so long to be gone.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// The groups of this node.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    layout: Layout,
    /// The name of our own group, below which all others are.
    name: String,
}

/// The group of one sandbox or container.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    layout: Layout,
    path: PathBuf,
}

/// What a group uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Since it was made.
    pub(crate) cpu_nanoseconds: u64,
    /// Without what the kernel could drop.
    pub(crate) memory_bytes: u64,
}

impl Cgroups {
    /// Finds out what this machine has.
    pub(crate) fn open(name: &str) -> Cgroups {
        Cgroups {
            layout: Layout::detect(name),
            name: name.to_owned(),
        }
    }

    /// Whether the groups tell what is used in them.
    pub(crate) fn count_memory(&self) -> bool {
        self.layout.has("memory")
    }

    /// What of these limits the machine does not let us enforce.
    pub(crate) fn unenforced(&self, limits: &Limits) -> Vec<&'static str> {
        limits
            .asked()
            .into_iter()
            .filter(|controller| !self.layout.has(controller))
            .collect()
    }

    /// The group of a sandbox.
    pub(crate) fn sandbox(&self, id: &str) -> Group {
        Group {
            layout: self.layout.clone(),
            path: Path::new(&self.name).join(id),
        }
    }

    /// Removes our own group, when nothing is left in it.
    pub(crate) fn close(&self) {
        Group {
            layout: self.layout.clone(),
            path: PathBuf::from(&self.name),
        }
        .remove();
    }
}

impl Group {
    /// The group of a container in this sandbox.
    pub(crate) fn container(&self, name: &str) -> Group {
        Group {
            layout: self.layout.clone(),
            path: self.path.join(name),
        }
    }

    /// Makes it and sets its limits.
    pub(crate) fn create(&self, limits: &Limits) -> io::Result<()> {
        let name = |error: io::Error, what: &Path| {
            io::Error::new(
                error.kind(),
                format!("cannot make the control group {}: {error}", what.display()),
            )
        };
        for dir in self.dirs() {
            fs::create_dir_all(&dir).map_err(|error| name(error, &dir))?;
        }
        if let Some(root) = self.layout.unified() {
            // Each level hands its controllers on to the next.
            let mut above = root.to_owned();
            for step in self.path.parent().into_iter().flat_map(Path::components) {
                above.push(step);
                for controller in self.layout.controllers() {
                    let _ = fs::write(
                        above.join("cgroup.subtree_control"),
                        format!("+{controller}"),
                    );
                }
            }
        }
        for (controller, file, value) in limits.writes(self.layout.unified().is_some()) {
            if let Some(dir) = self.dir(controller) {
                let path = dir.join(file);
                fs::write(&path, &value).map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("cannot set {} to {value}: {error}", path.display()),
                    )
                })?;
            }
        }
        Ok(())
    }

    /// The files through which a process joins.
    pub(crate) fn doors(&self) -> Vec<PathBuf> {
        self.dirs()
            .into_iter()
            .map(|dir| dir.join("cgroup.procs"))
            .collect()
    }

    /// Its name below the root of each tree, as OCI runtimes have it; none where no tree can
    /// be used.
    pub(crate) fn name(&self) -> Option<String> {
        let usable = !self.dirs().is_empty();
        usable.then(|| format!("/{}", self.path.display()))
    }

    fn dirs(&self) -> Vec<PathBuf> {
        match self.layout.unified() {
            Some(root) => vec![root.join(&self.path)],
            None => self
                .layout
                .controllers()
                .iter()
                .filter_map(|name| self.dir(name))
                .collect(),
        }
    }

    fn dir(&self, controller: &str) -> Option<PathBuf> {
        self.layout
            .root_of(controller)
            .map(|root| root.join(&self.path))
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        fs::read_to_string(self.dir(controller)?.join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    fn field(&self, controller: &str, file: &str, field: &str) -> Option<u64> {
        let text = fs::read_to_string(self.dir(controller)?.join(file)).ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix(field)?.trim().parse().ok())
    }

    /// How often the kernel has killed in this group for want of memory.
    pub(crate) fn memory_kills(&self) -> u64 {
        match self.layout.unified() {
            Some(_) => self.field("memory", "memory.events", "oom_kill "),
            None => self.field("memory", "memory.oom_control", "oom_kill "),
        }
        .unwrap_or(0)
    }

    /// What it uses.
    pub(crate) fn usage(&self) -> Usage {
        if self.layout.unified().is_some() {
            let cpu = self.field("cpu", "cpu.stat", "usage_usec ").unwrap_or(0) * 1000;
            let memory = self.number("memory", "memory.current").unwrap_or(0);
            let droppable = self
                .field("memory", "memory.stat", "inactive_file ")
                .unwrap_or(0);
            Usage {
                cpu_nanoseconds: cpu,
                memory_bytes: memory.saturating_sub(droppable),
            }
        } else {
            let memory = self.number("memory", "memory.usage_in_bytes").unwrap_or(0);
            let droppable = self
                .field("memory", "memory.stat", "total_inactive_file ")
                .unwrap_or(0);
            Usage {
                cpu_nanoseconds: self.number("cpuacct", "cpuacct.usage").unwrap_or(0),
                memory_bytes: memory.saturating_sub(droppable),
            }
        }
    }

    /// Kills whatever is left in it, and removes it with the groups below.
    pub(crate) fn remove(&self) {
        // OCI runtimes make their groups in every tree there is.
        let others = self.layout.other_roots().iter();
        let dirs: Vec<PathBuf> = self
            .dirs()
            .into_iter()
            .chain(others.map(|root| root.join(&self.path)))
            .collect();
        let begun = Instant::now();
        while dirs.iter().any(|dir| kill_below(dir)) && begun.elapsed() < LAST_PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        for dir in dirs {
            remove_below(&dir);
        }
    }
}

/// Kills every process in a group and the groups below; whether there was any.
fn kill_below(dir: &Path) -> bool {
    let below = folders(dir);
    let processes = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut any = false;
    // One that this machine cannot see from here is numbered 0.
    for process in processes
        .lines()
        .flat_map(str::parse)
        .filter(|pid| *pid > 0)
    {
        any |= kill(Pid::from_raw(process), Signal::SIGKILL).is_ok();
    }
    below.iter().fold(any, |any, dir| kill_below(dir) | any)
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Groups are removed from the leaves up; one that still holds a dying process refuses,
/// and is tried again when its sandbox is removed or the node starts.
fn remove_below(dir: &Path) {
    for below in folders(dir) {
        remove_below(&below);
    }
    for _ in 0..50 {
        match fs::remove_dir(dir) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => return,
        }
    }
}
