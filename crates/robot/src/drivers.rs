//! What is run for a task: each driver turns the task's configuration into a command.

mod container;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use sandlot_api::robot::{Driver, TaskDefinition};
use sandlot_supervisor::{DEFAULT_PATH, Keep, Launch, User};

use crate::cell::{self, Account, Cell, Share};

pub(crate) use container::{Engine, owner as owner_in_container};

/// How long a task has to end by itself when nothing says so.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// Who an isolated task is when nothing says so.
const NOBODY: &str = "nobody";
/// How much of each output stream is kept on the robot.
const KEPT: Keep = Keep {
    head: 0,
    tail: 10 << 20,
};

/// Why a task cannot be run here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// The robot does not have the driver.
    #[error("this robot has no driver {0:?}: {1}")]
    NoDriver(&'static str, &'static str),
    /// The driver's part of the configuration is missing.
    #[error("the task's config has no {0}, which its driver needs")]
    NoConfig(&'static str),
    /// The engine would take the name for an option of its own.
    #[error("{0:?} is no image: its engine would take it for an option, or for nothing")]
    NoImage(String),
    /// There is no such user.
    #[error("there is no user {0:?} on this robot")]
    NoUser(String),
    /// Another user than the agent's own takes root.
    #[error("the agent does not run as root, so that a task cannot run as {0:?}")]
    NotRoot(String),
}

/// Where a task runs.
pub(crate) struct Place<'a> {
    /// Its folder.
    pub(crate) folder: &'a Path,
    /// The folder of its group.
    pub(crate) shared: &'a Path,
    /// An empty folder to build a cell in.
    pub(crate) site: &'a Path,
    /// What else its environment says.
    pub(crate) facts: &'a BTreeMap<String, String>,
    /// A name for its container, if it is one.
    pub(crate) name: &'a str,
    /// What runs containers, where that was said.
    pub(crate) engine: Option<&'a Path>,
}

/// The drivers that this robot has, with this engine for containers if one was named.
pub(crate) fn available(engine: Option<&Path>) -> Vec<String> {
    let mut drivers = vec![Driver::RawExec];
    if cell::possible().is_ok() {
        drivers.push(Driver::Exec);
    }
    if Engine::find(engine).is_some() {
        drivers.push(Driver::Docker);
    }
    if found("java").is_some() {
        drivers.push(Driver::Java);
    }
    drivers
        .into_iter()
        .map(|driver| driver.name().to_owned())
        .collect()
}

/// The command of a task.
pub(crate) fn launch(task: &TaskDefinition, place: &Place<'_>) -> Result<Launch, Unfit> {
    let argv = match task.driver {
        Driver::RawExec => exec(task)?,
        Driver::Java => java(task)?,
        Driver::Docker => in_container(task, place)?,
        Driver::Exec => in_cell(task, place)?,
    };
    let mut launch = Launch::new(argv);
    launch.env = match task.driver {
        Driver::Docker => container::environment(),
        _ => environment(task, place),
    };
    launch.cwd = Some(place.folder.to_owned());
    if matches!(task.driver, Driver::RawExec | Driver::Java) {
        launch.user = task.user.as_deref().map(user).transpose()?.flatten();
    }
    launch.timeout = task.timeout.map(|timeout| timeout.0);
    launch.grace = task.kill_timeout.map_or(KILL_TIMEOUT, |timeout| timeout.0);
    launch.keep = KEPT;
    Ok(launch)
}

/// The agent's own program, which becomes the task's cell.
fn in_cell(task: &TaskDefinition, place: &Place<'_>) -> Result<Vec<OsString>, Unfit> {
    let config = task.config.exec_config.as_ref();
    let config = config.ok_or(Unfit::NoConfig("execConfig"))?;
    cell::possible().map_err(|why| Unfit::NoDriver("exec", why))?;
    let wanted = task.user.as_deref();
    let account = match cell::may_choose() {
        true => user(wanted.unwrap_or(NOBODY))?,
        false => wanted.map(user).transpose()?.flatten(),
    };
    let arguments = config.args.iter().flatten();
    let cell = Cell {
        site: place.site.to_owned(),
        folder: place.folder.to_owned(),
        shared: place.shared.to_owned(),
        user: account.map(|user| Account {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
        }),
        share: task.resources.as_ref().map(share),
        argv: std::iter::once(&config.command)
            .chain(arguments)
            .cloned()
            .collect(),
    };
    Ok(cell.command())
}

fn in_container(task: &TaskDefinition, place: &Place<'_>) -> Result<Vec<OsString>, Unfit> {
    let none = match place.engine {
        Some(_) => "what it was told to run containers with is not there",
        None => "there is neither docker nor podman on its PATH",
    };
    let engine = Engine::find(place.engine).ok_or(Unfit::NoDriver("docker", none))?;
    engine.run(task, place)
}

fn share(wanted: &sandlot_api::robot::Resources) -> Share {
    Share {
        cpu: wanted.cpu.as_ref().and_then(|amount| amount.millis()),
        memory: wanted.memory.as_ref().and_then(|amount| amount.units()),
    }
}

fn exec(task: &TaskDefinition) -> Result<Vec<OsString>, Unfit> {
    let config = task.config.exec_config.as_ref();
    let config = config.ok_or(Unfit::NoConfig("execConfig"))?;
    let args = config.args.iter().flatten();
    Ok(std::iter::once(&config.command)
        .chain(args)
        .map(OsString::from)
        .collect())
}

fn java(task: &TaskDefinition) -> Result<Vec<OsString>, Unfit> {
    let config = task.config.java_config.as_ref();
    let config = config.ok_or(Unfit::NoConfig("javaConfig"))?;
    let java = found("java").ok_or(Unfit::NoDriver("java", "there is no java on its PATH"))?;
    let mut argv = vec![java.into_os_string()];
    argv.extend(config.jvm_options.iter().flatten().map(OsString::from));
    let mut classes = config.classpath.clone().unwrap_or_default();
    match &config.class {
        Some(class) => {
            classes.insert(0, config.jar_path.clone());
            argv.extend(["-cp".into(), classes.join(":").into(), class.into()]);
        }
        None => {
            if !classes.is_empty() {
                argv.extend(["-cp".into(), classes.join(":").into()]);
            }
            argv.extend(["-jar".into(), config.jar_path.clone().into()]);
        }
    }
    argv.extend(config.args.iter().flatten().map(OsString::from));
    Ok(argv)
}

/// The whole environment of a task: a plain one, facts about the task, and its own.
fn environment(task: &TaskDefinition, place: &Place<'_>) -> Vec<(OsString, OsString)> {
    let mut variables: BTreeMap<String, OsString> = BTreeMap::new();
    variables.insert("PATH".to_owned(), DEFAULT_PATH.into());
    variables.insert("HOME".to_owned(), place.folder.into());
    variables.insert("NOMAD_TASK_DIR".to_owned(), place.folder.into());
    variables.insert("TASK_DIR".to_owned(), place.folder.into());
    for (name, value) in place.facts.iter().chain(task.env.iter().flatten()) {
        variables.insert(name.clone(), value.into());
    }
    variables
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect()
}

/// Who a task runs as; nothing when that is who the agent is.
fn user(name: &str) -> Result<Option<User>, Unfit> {
    let missing = || Unfit::NoUser(name.to_owned());
    let found = match name.parse::<u32>() {
        Ok(number) => nix::unistd::User::from_uid(number.into()),
        Err(_) => nix::unistd::User::from_name(name),
    };
    let found = found.ok().flatten().ok_or_else(missing)?;
    if found.uid == nix::unistd::geteuid() {
        return Ok(None);
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Unfit::NotRoot(name.to_owned()));
    }
    let account = std::ffi::CString::new(found.name).map_err(|_| missing())?;
    let groups = nix::unistd::getgrouplist(&account, found.gid).map_err(|_| missing())?;
    Ok(Some(User {
        uid: found.uid.as_raw(),
        gid: found.gid.as_raw(),
        groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
    }))
}

/// Where a program is on the agent's PATH.
fn found(program: impl AsRef<Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(&program))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use sandlot_api::robot::{DockerConfig, ExecConfig, TaskConfig};

    use super::*;

    fn task() -> TaskDefinition {
        TaskDefinition {
            name: "hello".to_owned(),
            driver: Driver::RawExec,
            config: TaskConfig {
                exec_config: Some(ExecConfig {
                    command: "echo".to_owned(),
                    args: Some(vec!["hello".to_owned()]),
                }),
                ..TaskConfig::default()
            },
            ..TaskDefinition::default()
        }
    }

    fn launched(task: &TaskDefinition) -> Result<Launch, Unfit> {
        let facts = BTreeMap::from([("ROBOT_ID".to_owned(), "arm-1".to_owned())]);
        launch(
            task,
            &Place {
                folder: Path::new("/tasks/a"),
                shared: Path::new("/groups/a"),
                site: Path::new("/cell"),
                facts: &facts,
                name: "a",
                engine: Some(Path::new("/bin/sh")),
            },
        )
    }

    #[test]
    fn a_program_gets_its_arguments_and_an_environment_of_its_own() {
        let mut task = task();
        task.env = Some(BTreeMap::from([("ROBOT_ID".to_owned(), "mine".to_owned())]));
        let launch = launched(&task).unwrap();
        assert_eq!(launch.argv, ["echo", "hello"]);
        assert_eq!(launch.cwd.as_deref(), Some(Path::new("/tasks/a")));
        let value = |name: &str| {
            let mut found = launch.env.iter().filter(|(known, _)| known == name);
            found.next().map(|(_, value)| value.to_str().unwrap())
        };
        assert_eq!(
            value("ROBOT_ID"),
            Some("mine"),
            "the task's own word counts"
        );
        assert_eq!(value("HOME"), Some("/tasks/a"));
        assert!(
            launch.env.iter().all(|(name, _)| name != "CARGO"),
            "nothing is inherited"
        );
    }

    #[test]
    fn what_cannot_be_run_here_is_said() {
        let mut wrong = task();
        wrong.config = TaskConfig::default();
        assert_eq!(launched(&wrong).unwrap_err(), Unfit::NoConfig("execConfig"));
        let mut nobody = task();
        nobody.user = Some("nobody-of-that-name".to_owned());
        assert!(matches!(launched(&nobody).unwrap_err(), Unfit::NoUser(_)));
    }

    #[test]
    fn an_image_is_no_option_of_the_engines() {
        let mut task = task();
        task.driver = Driver::Docker;
        task.config.docker_config = Some(DockerConfig {
            image: "busybox".to_owned(),
            args: Some(vec!["--privileged".to_owned()]),
            ..DockerConfig::default()
        });
        let argv = launched(&task).unwrap().argv;
        assert!(argv.ends_with(&["busybox".into(), "--privileged".into()]));
        let image = "--privileged".to_owned();
        task.config.docker_config.as_mut().unwrap().image = image.clone();
        assert_eq!(launched(&task).unwrap_err(), Unfit::NoImage(image));
    }
}
