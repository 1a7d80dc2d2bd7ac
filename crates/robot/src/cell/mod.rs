//! Cells: where tasks of the `exec` driver run, apart from the robot and from one another.
//!
//! A task in a cell sees processes, message queues and a host name of its own, the system's
//! programs read-only, no other task's files, a handful of harmless devices, and its own folder to
//! write to. It is another user where the agent is root, gains no rights by any program, and may
//! not make the system calls that lead out. It keeps the robot's network, as robots' programs
//! talk to what is beside them; one that needs devices runs as `raw_exec`.
//!
//! The agent starts its own program again with [`CALL`] as first argument ([`enter_if_called`]):
//! that one steps aside ([`outside`]), its child furnishes the cell and waits in it as process 1
//! ([`inside`]), and the child of that becomes the task. So the supervisor above it keeps its
//! one way of running things.

mod inside;
mod limits;
mod outside;
mod view;

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

pub(crate) use limits::Share;

/// The first argument of the agent's program where it is to be a cell.
const CALL: &str = "robot-cell";
/// The number of the capability that namespaces take, CAP_SYS_ADMIN.
const ADMIN: u32 = 21;

/// What a cell is furnished with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cell {
    /// An empty folder that the cell is built in.
    pub(crate) site: PathBuf,
    /// The task's own folder, where it begins.
    pub(crate) folder: PathBuf,
    /// The folder that it shares with the other tasks of its group.
    pub(crate) shared: PathBuf,
    /// Who it is, where the agent may choose.
    pub(crate) user: Option<Account>,
    /// How much it may take, if that is limited.
    pub(crate) share: Option<Share>,
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
}

/// A user, by numbers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// Why something of a cell did not work.
#[derive(Debug, thiserror::Error)]
#[error("the cell of this task could not be made: {what}: {why}")]
struct Failed {
    what: String,
    why: String,
}

/// Says what was being done when something failed.
trait During<T> {
    fn during(self, what: impl Into<String>) -> Result<T, Failed>;
}

impl<T, E: std::fmt::Display> During<T> for Result<T, E> {
    fn during(self, what: impl Into<String>) -> Result<T, Failed> {
        self.map_err(|why| Failed {
            what: what.into(),
            why: why.to_string(),
        })
    }
}

impl Cell {
    /// The command that runs the task in its cell.
    pub(crate) fn command(&self) -> Vec<OsString> {
        // Plain data: writing it as JSON cannot fail.
        let text = serde_json::to_string(self).unwrap_or_default();
        vec!["/proc/self/exe".into(), CALL.into(), text.into()]
    }
}

/// Becomes a cell, if that is what this program was started as.
///
/// Must be the first thing in `main` of every program that embeds a robot's agent: before any
/// thread, any runtime and any reading of arguments.
pub fn enter_if_called() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(CALL)) {
        return;
    }
    let text = arguments.next().unwrap_or_default();
    let ended = match serde_json::from_slice(text.as_encoded_bytes()) {
        Ok(cell) => outside::run(&cell),
        Err(error) => Err(error).during("reading what it is to be"),
    };
    let code = ended.unwrap_or_else(|failed| {
        eprintln!("{failed}");
        126
    });
    std::process::exit(code);
}

/// Whether cells can be made on this robot; if not, why.
pub(crate) fn possible() -> Result<(), &'static str> {
    if may_choose() {
        return Ok(());
    }
    let is = |file: &str, value: &str| {
        let text = fs::read_to_string(file);
        text.is_ok_and(|text| text.trim() == value)
    };
    if is("/proc/sys/user/max_user_namespaces", "0")
        || is("/proc/sys/kernel/unprivileged_userns_clone", "0")
        || is(
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
        )
    {
        return Err(
            "its agent is not root, and this kernel lets nobody else make namespaces; run the agent as root, or use raw_exec if that is meant",
        );
    }
    Ok(())
}

/// Whether this process has all the rights that cells take, so that they can be other users too.
pub(crate) fn may_choose() -> bool {
    let status = fs::read_to_string("/proc/self/status");
    status.is_ok_and(|status| may_all(&status))
}

/// Whether the process of a status has the right to make namespaces.
fn may_all(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
    rights.is_some_and(|rights| rights & (1 << ADMIN) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_told_what_it_is_in_one_argument() {
        let cell = Cell {
            site: "/robot/cell".into(),
            folder: "/robot/tasks/a b".into(),
            shared: "/robot/groups/g".into(),
            user: Some(Account {
                uid: 7,
                gid: 8,
                groups: vec![9],
            }),
            share: Some(Share::default()),
            argv: vec!["echo".to_owned(), "\"quoted\"".to_owned()],
        };
        let command = cell.command();
        assert_eq!(command[1], CALL);
        let read: Cell = serde_json::from_str(command[2].to_str().unwrap()).unwrap();
        assert_eq!(read, cell);
    }

    /// The cell that [`stands_in_for_the_agents_program`] is to be.
    const TOLD: &str = "SANDLOT_TEST_CELL";

    #[test]
    fn stands_in_for_the_agents_program() {
        // Started again by the tests below, on the only thread.
        if let Ok(text) = std::env::var(TOLD) {
            let ended = outside::run(&serde_json::from_str(&text).unwrap());
            std::process::exit(ended.unwrap_or_else(|failed| {
                eprintln!("{failed}");
                126
            }));
        }
    }

    /// Runs a script in a cell; nothing where this machine lets nobody make any.
    fn run(script: &str) -> Option<std::process::Output> {
        run_on(tempfile::tempdir().unwrap(), script)
    }

    /// Runs a script in a cell of a robot whose agent has this folder.
    fn run_on(robot: tempfile::TempDir, script: &str) -> Option<std::process::Output> {
        if let Err(why) = possible() {
            eprintln!("skipped: {why}");
            return None;
        }
        let folder = |name: &str| {
            let folder = robot.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        fs::write(robot.path().join("secret"), "").unwrap();
        let cell = Cell {
            site: folder("cell"),
            folder: folder("task"),
            shared: folder("group"),
            user: may_choose().then_some(Account {
                uid: 65534,
                gid: 65534,
                groups: vec![65534],
            }),
            share: None,
            argv: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        };
        let this = "cell::tests::stands_in_for_the_agents_program";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", this, "--test-threads=1", "--nocapture"])
            .env(TOLD, serde_json::to_string(&cell).unwrap())
            .output();
        Some(output.unwrap())
    }

    #[test]
    fn a_task_in_a_cell_sees_and_writes_nothing_but_its_own() {
        let script = r#"
            echo "processes $(ls /proc | grep -c '^[0-9]')"
            echo hello > mine && echo "own $(cat mine)"
            touch /tmp/scratch && echo scratch
            ls ../secret ../../secret 2>/dev/null && echo STOLEN
            touch /usr/bin/planted /planted 2>/dev/null && echo WROTE
            ls /home /root 2>/dev/null && echo SAW
            mount -t tmpfs none /tmp 2>/dev/null && echo MOUNTED
            unshare -U true 2>/dev/null && echo ESCAPED
            grep -h -E 'NoNewPrivs|CapEff|Seccomp:' /proc/self/status
            exit 7"#;
        let Some(output) = run(script) else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{said}");
        for word in [
            "own hello",
            "scratch",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
            "CapEff:\t0000000000000000",
        ] {
            assert!(said.contains(word), "{word}: {said}");
        }
        for word in ["STOLEN", "WROTE", "SAW", "MOUNTED", "ESCAPED"] {
            assert!(!said.contains(word), "{said}");
        }
        // The test harness has begun the first line with the test's name.
        let (_, count) = said.split_once("processes ").unwrap();
        let count: u32 = count.lines().next().unwrap().parse().unwrap();
        assert!(count <= 6, "{said}");
    }

    #[test]
    fn an_agent_that_lives_among_the_systems_programs_is_not_shown_with_them() {
        let Ok(robot) = tempfile::tempdir_in("/opt") else {
            eprintln!("skipped: nobody may write to /opt here");
            return;
        };
        let Some(output) = run_on(robot, "ls ..; echo hello > mine && echo own $(cat mine)") else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("own hello"), "{output:?}");
        assert!(!said.contains("secret"), "{said}");
    }

    #[test]
    fn a_cell_ends_by_the_signal_that_its_task_ended_by() {
        use std::os::unix::process::ExitStatusExt;
        let Some(output) = run("kill -9 $$") else {
            return;
        };
        assert_eq!(output.status.signal(), Some(9), "{output:?}");
    }

    #[test]
    fn who_may_make_namespaces_is_read_from_its_rights() {
        assert!(may_all("Name:\ta\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_all("Name:\ta\nCapEff:\t0000000000000000\n"));
        assert!(!may_all(""));
    }
}
