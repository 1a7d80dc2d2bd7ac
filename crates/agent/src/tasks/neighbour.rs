//! The sandbox container beside the executor, found through one of its processes.
//!
//! In a pod whose containers share their processes, a process of the other container leads to
//! everything that is needed to run beside it: its root folder, its environment and its user.
//! Looking at it takes CAP_SYS_PTRACE.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use sandlot_supervisor::{Inside, User};

/// The variable that marks the processes of the container tasks are meant for.
const MARK: &str = "SANDBOX_MAIN_CONTAINER";

/// Where tasks run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// In the executor's own container.
    Own,
    /// In the container that is marked with this name, or else in the only other one.
    Beside(String),
    /// In the other container where there is one, else in the executor's own.
    Either(String),
}

/// The sandbox container.
pub(crate) struct Neighbour {
    pub(crate) inside: Inside,
    pub(crate) user: User,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Where its process works.
    pub(crate) directory: PathBuf,
}

/// What tells whether a process is one to follow.
struct Candidate {
    pid: u32,
    marked: bool,
}

impl Site {
    /// The container to run in, if it is not the executor's own.
    pub(crate) fn neighbour(&self) -> Result<Option<Neighbour>, String> {
        let (name, needed) = match self {
            Site::Own => return Ok(None),
            Site::Beside(name) => (name, true),
            Site::Either(name) => (name, false),
        };
        let found = candidates(name).map_err(|error| format!("/proc: {error}"))?;
        let Some(chosen) = choose(&found) else {
            return match needed {
                true => Err(format!(
                    "no process of container {name} is to be seen: the pod needs shareProcessNamespace, \
                     this container CAP_SYS_PTRACE, and {MARK}={name} in the other one helps"
                )),
                false => Ok(None),
            };
        };
        let read = Neighbour::of(chosen.pid);
        read.map(Some)
            .map_err(|error| format!("process {} of container {name}: {error}", chosen.pid))
    }
}

/// The oldest marked process, or else the oldest of another container.
fn choose(found: &[Candidate]) -> Option<&Candidate> {
    let oldest = |candidates: &mut dyn Iterator<Item = &'_ Candidate>| -> Option<u32> {
        candidates.map(|candidate| candidate.pid).min()
    };
    let pid = oldest(&mut found.iter().filter(|candidate| candidate.marked))
        .or_else(|| oldest(&mut found.iter()))?;
    found.iter().find(|candidate| candidate.pid == pid)
}

/// The processes of other containers, the pod's own first process left out.
fn candidates(name: &str) -> io::Result<Vec<Candidate>> {
    let own = fs::read_link("/proc/self/ns/mnt")?;
    let mark = format!("{MARK}={name}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = pid.filter(|pid| *pid > 1) else {
            continue;
        };
        let process = PathBuf::from(format!("/proc/{pid}"));
        // What may not be looked at, or has just ended, is not one to follow.
        let Ok(mounts) = fs::read_link(process.join("ns/mnt")) else {
            continue;
        };
        if mounts == own {
            continue;
        }
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        let marked = environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes());
        found.push(Candidate { pid, marked });
    }
    Ok(found)
}

impl Neighbour {
    fn of(pid: u32) -> io::Result<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let root = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(process.join("root"))?;
        let status = fs::read_to_string(process.join("status"))?;
        let (user, capabilities) =
            identity(&status).ok_or_else(|| io::Error::other("its status makes no sense"))?;
        Ok(Self {
            env: environment(&fs::read(process.join("environ"))?),
            directory: directory(&process),
            user,
            inside: Inside {
                root: Arc::new(File::into(root)),
                capabilities,
            },
        })
    }
}

/// The variables that a process was started with.
fn environment(bytes: &[u8]) -> Vec<(OsString, OsString)> {
    let variables = bytes.split(|byte| *byte == 0).filter_map(|variable| {
        let at = variable.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&variable[..at], &variable[at + 1..]);
        Some((
            OsStr::from_bytes(name).into(),
            OsStr::from_bytes(value).into(),
        ))
    });
    variables.collect()
}

/// Where a process works, as its own container names it; the root where that cannot be told.
fn directory(process: &Path) -> PathBuf {
    let told = fs::read_link(process.join("cwd")).ok();
    told.filter(|path| path.is_absolute())
        .unwrap_or_else(|| "/".into())
}

/// Who a process is, and the capabilities that it and its children may ever have.
fn identity(status: &str) -> Option<(User, u64)> {
    let line = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    // Real, effective, saved and for files: what counts is what it runs as.
    let effective = |name| line(name)?.split_whitespace().nth(1)?.parse().ok();
    let groups = line("Groups")?.split_whitespace();
    let user = User {
        uid: effective("Uid")?,
        gid: effective("Gid")?,
        groups: groups.filter_map(|group| group.parse().ok()).collect(),
    };
    let capabilities = u64::from_str_radix(line("CapBnd")?.trim(), 16).ok()?;
    Some((user, capabilities))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_process_is_preferred_and_then_the_oldest() {
        let candidate = |pid, marked| Candidate { pid, marked };
        let pid = |found: &[Candidate]| choose(found).map(|chosen| chosen.pid);
        let found = [
            candidate(9, false),
            candidate(40, true),
            candidate(30, true),
        ];
        assert_eq!(pid(&found), Some(30));
        assert_eq!(pid(&found[..1]), Some(9));
        assert_eq!(pid(&[]), None);
    }

    #[test]
    fn identity_and_environment_are_read_as_the_kernel_writes_them() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t6 20 \n\
                      CapBnd:\t00000000a80425fb\n";
        let (user, capabilities) = identity(status).unwrap();
        let wanted = User {
            uid: 2,
            gid: 6,
            groups: vec![6, 20],
        };
        assert_eq!((user, capabilities), (wanted, 0xa804_25fb));
        assert_eq!(
            environment(b"A=1\0B==\0junk\0"),
            [("A".into(), "1".into()), ("B".into(), "=".into())]
        );
    }
}
