//! Which arrangement of control groups this machine has, and what we may do in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// The controllers that pods are limited or measured by.
const WANTED: [&str; 4] = ["cpu", "cpuacct", "memory", "pids"];

/// Where groups can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    unified: Option<PathBuf>,
    roots: BTreeMap<String, PathBuf>,
    /// Controllers have trees of their own, and there is a tree of v2 without any beside.
    hybrid: bool,
    /// The trees of other controllers, and those of none.
    others: Vec<PathBuf>,
}

impl Layout {
    /// Looks at the machine and tries: what can be made below `name` can be used.
    pub(crate) fn detect(name: &str) -> Layout {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let v1 = split_trees(&mounts, &own, name);
        if !v1.roots.is_empty() {
            return v1;
        }
        one_tree(&mounts, &own, name).unwrap_or_default()
    }

    /// The one tree of v2.
    pub(crate) fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// The roots of the trees that we limit nothing in.
    pub(crate) fn other_roots(&self) -> &[PathBuf] {
        &self.others
    }

    /// The controllers that can be used.
    pub(crate) fn controllers(&self) -> Vec<&str> {
        self.roots.keys().map(String::as_str).collect()
    }

    /// Whether a limit of this kind can be enforced.
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.roots.contains_key(controller)
    }

    pub(crate) fn root_of(&self, controller: &str) -> Option<&Path> {
        self.roots.get(controller).map(PathBuf::as_path)
    }

    /// The arrangement in words.
    pub(crate) fn words(&self) -> &'static str {
        match (self.unified.is_some(), self.roots.is_empty()) {
            (true, _) => "cgroup v2",
            (false, false) if self.hybrid => "cgroup v1 beside v2 (hybrid)",
            (false, false) => "cgroup v1",
            (false, true) => "none that this user may use",
        }
    }
}

/// Mount point, file system type and super options of each mount.
fn mounts_of(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    text.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let at = before.split(' ').nth(4)?;
        let mut after = after.split(' ');
        let kind = after.next()?;
        Some((at, kind, after.nth(1)?))
    })
}

/// A folder below `root` that we can make groups in: the root's own for root, ours otherwise.
fn writable(root: &Path, own: &str, name: &str) -> Option<PathBuf> {
    [root.to_owned(), root.join(own.trim_start_matches('/'))]
        .into_iter()
        .find(|base| {
            let probe = base.join(name);
            // One that is there may be root's.
            (probe.is_dir() || fs::create_dir(&probe).is_ok())
                && access(&probe, AccessFlags::W_OK).is_ok()
        })
}

fn split_trees(mounts: &str, own: &str, name: &str) -> Layout {
    let mut roots = BTreeMap::new();
    for (at, kind, options) in mounts_of(mounts) {
        if kind != "cgroup" {
            continue;
        }
        for controller in options.split(',').filter(|option| WANTED.contains(option)) {
            let position = own.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                fields
                    .next()?
                    .split(',')
                    .any(|one| one == controller)
                    .then(|| fields.next())
                    .flatten()
            });
            if let Some(root) = writable(Path::new(at), position.unwrap_or("/"), name) {
                roots.insert(controller.to_owned(), root);
            }
        }
    }
    let others = mounts_of(mounts)
        .filter(|(at, kind, _)| {
            kind.starts_with("cgroup") && !roots.values().any(|root| root.starts_with(at))
        })
        .map(|(at, _, _)| PathBuf::from(at))
        .collect();
    Layout {
        unified: None,
        others,
        roots,
        hybrid: mounts_of(mounts).any(|(_, kind, _)| kind == "cgroup2"),
    }
}

fn one_tree(mounts: &str, own: &str, name: &str) -> Option<Layout> {
    let (at, _, _) = mounts_of(mounts).find(|(_, kind, _)| *kind == "cgroup2")?;
    let position = own
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or("/");
    let root = writable(Path::new(at), position, name)?;
    let offered = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let mut roots = BTreeMap::new();
    for controller in offered
        .split_whitespace()
        .filter(|one| WANTED.contains(one))
    {
        if hand_down(&root, controller, name) {
            roots.insert(controller.to_owned(), root.clone());
        }
    }
    Some(Layout {
        unified: Some(root),
        others: Vec::new(),
        roots,
        hybrid: false,
    })
}

/// A group can hand controllers down only while no process is in it; when ours is such a
/// group, this process moves into one below.
fn hand_down(root: &Path, controller: &str, name: &str) -> bool {
    let wanted = format!("+{controller}");
    let control = root.join("cgroup.subtree_control");
    if fs::write(&control, &wanted).is_ok() {
        return true;
    }
    let own = root.join(format!("{name}-node"));
    let _ = fs::create_dir(&own);
    fs::write(own.join("cgroup.procs"), std::process::id().to_string()).is_ok()
        && fs::write(control, wanted).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_their_controllers() {
        let text = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                    41 31 0:38 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found: Vec<_> = mounts_of(text).collect();
        assert_eq!(found[0], ("/sys/fs/cgroup/memory", "cgroup", "rw,memory"));
        assert_eq!(found[1], ("/sys/fs/cgroup", "cgroup2", "rw,nsdelegate"));
    }

    #[test]
    fn what_cannot_be_written_is_not_offered() {
        let layout = split_trees(
            "1 2 0:3 / /proc/1/ns rw - cgroup cgroup rw,memory\n",
            "4:memory:/\n",
            "x",
        );
        assert!(!layout.has("memory"));
    }
}
