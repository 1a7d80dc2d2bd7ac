//! The processes below a keeper, found and signalled through `/proc`.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpgrp, getpid},
};

/// How often one call looks for processes forked meanwhile.
const ROUNDS: usize = 16;

/// What `/proc` says about one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    /// Dead already, only its parent has not looked.
    zombie: bool,
}

/// What a tree hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// Everything below this process belongs to the tree; the process itself does not.
    pub above: i32,
    /// And everything in this session with what is below it; 0 for none.
    pub session: i32,
}

/// The living processes of a tree.
pub fn members(root: Root) -> Vec<i32> {
    below(root, &processes())
        .into_iter()
        .map(|process| process.pid)
        .collect()
}

/// How many living processes each of several trees has, by one look at all of them. A tree
/// without a root has none.
pub fn sizes(roots: &[Option<Root>]) -> Vec<usize> {
    let all = processes();
    let size = |root: &Option<Root>| root.map_or(0, |root| below(root, &all).len());
    roots.iter().map(size).collect()
}

/// How many processes can be seen, without a look at any of them.
pub fn visible() -> usize {
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0;
    };
    let is_number = |name: &OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    entries
        .flatten()
        .filter(|entry| is_number(&entry.file_name()))
        .count()
}

/// Sends a signal once to every process of a tree.
pub fn signal(root: Root, signal: Signal) {
    for process in below(root, &processes()) {
        // Gone meanwhile is as good as signalled.
        let _ = kill(Pid::from_raw(process.pid), signal);
    }
}

/// Sends KILL to a tree until none is left or it grows faster than it dies. Whole process
/// groups first: the kernel signals a group at once, so nobody can fork out of it.
pub fn kill_all(root: Root) {
    kill_found(root.above, |all| below(root, all));
}

/// Sends KILL to all of a session in the same way, but not to who left it.
pub(crate) fn kill_session(session: i32) {
    kill_found(0, |all| in_session(session, all).collect());
}

fn kill_found(spared: i32, find: impl Fn(&[Process]) -> Vec<Process>) {
    let own = [getpgrp().as_raw(), spared];
    for _ in 0..ROUNDS {
        let found = find(&processes());
        if found.is_empty() {
            return;
        }
        let groups: BTreeSet<i32> = found
            .iter()
            .map(|p| p.group)
            .filter(|g| *g > 1 && !own.contains(g))
            .collect();
        for group in groups {
            let _ = kill(Pid::from_raw(-group), Signal::SIGKILL);
        }
        for process in found {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
    }
}

/// The living members of a session; nobody is in session 0.
fn in_session(session: i32, all: &[Process]) -> impl Iterator<Item = Process> {
    let own = getpid().as_raw();
    let is_member = move |p: &&Process| session > 1 && p.session == session && p.pid != own;
    all.iter().filter(is_member).filter(|p| !p.zombie).copied()
}

fn below(root: Root, all: &[Process]) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let own = getpid().as_raw();
    let in_session = |p: &&Process| root.session > 1 && p.session == root.session && p.pid != own;
    let mut waiting: Vec<&Process> = all.iter().filter(in_session).collect();
    if root.above > 0 {
        waiting.extend(children.get(&root.above).into_iter().flatten());
    }
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    while let Some(process) = waiting.pop() {
        if seen.insert(process.pid) {
            waiting.extend(children.get(&process.pid).into_iter().flatten());
            found.push(*process);
        }
    }
    found.retain(|process| !process.zombie);
    found
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter_map(|pid| parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// Reads a line of `/proc/PID/stat`. The name in it may contain anything, so what counts
/// begins behind its last parenthesis.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let mut number = || fields.next()?.parse().ok();
    Some(Process {
        pid,
        zombie,
        parent: number()?,
        group: number()?,
        session: number()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32) -> Process {
        Process {
            pid,
            parent,
            group: session,
            session,
            zombie: false,
        }
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_confuse() {
        let read = parse(7, "7 (a) S 1 (b)) S 5 6 4 0 -1 4194304 0").unwrap();
        assert_eq!(
            read,
            Process {
                pid: 7,
                parent: 5,
                group: 6,
                session: 4,
                zombie: false
            }
        );
    }

    #[test]
    fn a_tree_is_what_hangs_below_or_sits_in_its_session() {
        let all = [
            process(10, 1, 10),
            process(11, 10, 11),
            process(12, 11, 12),
            process(20, 1, 11),
            process(21, 20, 21),
            process(30, 1, 30),
        ];
        let pids = |root| {
            let mut pids: Vec<i32> = below(root, &all).into_iter().map(|p| p.pid).collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!(
            pids(Root {
                above: 10,
                session: 0
            }),
            [11, 12]
        );
        assert_eq!(
            pids(Root {
                above: 99,
                session: 11
            }),
            [11, 12, 20, 21]
        );
    }
}
