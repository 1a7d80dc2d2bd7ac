//! Tasks in containers: an engine's client, run in the foreground so that it ends with its container.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use sandlot_api::robot::{DockerConfig, Driver, TaskDefinition};
use sandlot_supervisor::{Launch, Memory};

use super::{Place, Unfit, found};

/// Where a container finds its task's folder, and its group's.
const IN_CONTAINER: (&str, &str) = ("/task", "/alloc");
/// Where podman's init program is.
const INITS: [&str; 5] = [
    "/usr/libexec/podman/catatonit",
    "/usr/local/libexec/podman/catatonit",
    "/usr/lib/podman/catatonit",
    "/usr/libexec/catatonit",
    "/usr/bin/catatonit",
];
/// How long it may take to take a container away.
const CLEARING: Duration = Duration::from_secs(60);

/// A program that runs containers: podman, docker, or one that is called as they are.
pub(crate) struct Engine {
    program: PathBuf,
    is_podman: bool,
}

impl Engine {
    /// The one that is wanted, or else the first that is there.
    pub(crate) fn find(wanted: Option<&Path>) -> Option<Self> {
        let program = match wanted {
            Some(path) if path.components().count() > 1 => {
                Some(path.to_owned()).filter(|path| path.is_file())
            }
            Some(name) => found(name),
            None => found("podman").or_else(|| found("docker")),
        }?;
        let is_podman = program.file_name() == Some("podman".as_ref());
        Some(Self { program, is_podman })
    }

    /// Whether it has a program to put before a container's own, which passes signals on. Docker
    /// brings one; podman's is a package that is often left out, and without it nothing starts.
    fn has_init(&self) -> bool {
        !self.is_podman || INITS.iter().any(|init| Path::new(init).exists())
    }

    /// Its client's command.
    fn command(&self, words: &[&str]) -> Vec<OsString> {
        let mut argv = vec![self.program.clone().into_os_string()];
        argv.extend(words.iter().map(OsString::from));
        argv
    }

    /// What takes away a container that its client has left behind, as one does that was killed.
    pub(crate) fn clear_away(&self, container: &str) -> Launch {
        let mut launch = Launch::new(self.command(&["rm", "--force", container]));
        launch.env = environment();
        launch.timeout = Some(CLEARING);
        launch.memory = Memory::Passing;
        launch
    }

    /// What runs a task in a container.
    pub(super) fn run(
        &self,
        task: &TaskDefinition,
        place: &Place<'_>,
    ) -> Result<Vec<OsString>, Unfit> {
        let config = task.config.docker_config.as_ref();
        let config = config.ok_or(Unfit::NoConfig("dockerConfig"))?;
        if !DockerConfig::may_be_image(&config.image) {
            return Err(Unfit::NoImage(config.image.clone()));
        }
        let mut argv = self.command(&["run", "--rm", "--name", place.name]);
        if self.has_init() {
            argv.push("--init".into());
        }
        argv.extend(["--security-opt", "no-new-privileges"].map(OsString::from));
        for (inside, folder) in [
            (IN_CONTAINER.0, place.folder),
            (IN_CONTAINER.1, place.shared),
        ] {
            let mut mount = OsString::from(format!("type=bind,target={inside},source="));
            mount.push(folder);
            argv.extend(["--mount".into(), mount]);
        }
        argv.extend(self.who(task));
        for (name, value) in variables(task, place) {
            argv.extend(["--env".into(), format!("{name}={value}").into()]);
        }
        argv.extend(surroundings(config));
        argv.extend(limits(task));
        let mut command = config.command.iter().flatten();
        if let Some(program) = command.next() {
            argv.extend(["--entrypoint".into(), program.into()]);
        }
        argv.push(config.image.clone().into());
        argv.extend(
            command
                .chain(config.args.iter().flatten())
                .map(OsString::from),
        );
        Ok(argv)
    }

    /// Who a container's task is. Where podman works for an ordinary user, that one is root in
    /// there; another number is made to be that user instead, whose the task's folder is.
    fn who(&self, task: &TaskDefinition) -> Vec<OsString> {
        let mut who: Vec<OsString> = Vec::new();
        if let Some(user) = &task.user {
            who.extend(["--user".into(), user.into()]);
        }
        if self.is_podman
            && !nix::unistd::geteuid().is_root()
            && let Some((user @ 1.., group)) = numbers(task)
        {
            // Root's group in there cannot be given to it.
            let group = if group == 0 { user } else { group };
            let same = format!("keep-id:uid={user},gid={group}");
            who.extend(["--userns".into(), same.into()]);
        }
        who
    }
}

/// Where a container's task is: its folder, network, ports and volumes.
fn surroundings(config: &DockerConfig) -> Vec<OsString> {
    let mut argv: Vec<OsString> = Vec::new();
    if let Some(folder) = &config.work_dir {
        argv.extend(["--workdir".into(), folder.into()]);
    }
    if let Some(network) = &config.network_mode {
        argv.extend(["--network".into(), network.into()]);
    }
    for port in config.ports.iter().flatten() {
        let (Some(inside), Some(outside)) = (port.to.or(port.value), port.value) else {
            continue;
        };
        let address = port.host_ip.as_deref().unwrap_or("127.0.0.1");
        argv.extend([
            "--publish".into(),
            format!("{address}:{outside}:{inside}").into(),
        ]);
    }
    for volume in config.volumes.iter().flatten() {
        let mode = if volume.read_only == Some(true) {
            ":ro"
        } else {
            ""
        };
        let text = format!("{}:{}{mode}", volume.source, volume.target);
        argv.extend(["--volume".into(), text.into()]);
    }
    argv
}

/// The environment of a container's task, whose folders are elsewhere for it. Its image has a PATH
/// and a HOME of its own.
fn variables<'a>(task: &'a TaskDefinition, place: &'a Place<'_>) -> BTreeMap<&'a str, &'a str> {
    let facts = place.facts.iter().chain(task.env.iter().flatten());
    let mut variables: BTreeMap<&str, &str> = facts
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    for (name, folder) in [
        ("NOMAD_TASK_DIR", IN_CONTAINER.0),
        ("TASK_DIR", IN_CONTAINER.0),
        ("ALLOC_DIR", IN_CONTAINER.1),
    ] {
        variables.insert(name, folder);
    }
    variables
}

fn limits(task: &TaskDefinition) -> Vec<OsString> {
    let mut limits = Vec::new();
    let Some(wanted) = &task.resources else {
        return limits;
    };
    if let Some(bytes) = wanted.memory.as_ref().and_then(|amount| amount.units()) {
        limits.extend(["--memory".into(), bytes.to_string().into()]);
    }
    if let Some(millis) = wanted.cpu.as_ref().and_then(|amount| amount.millis()) {
        limits.extend([
            "--cpus".into(),
            format!("{:.3}", millis as f64 / 1000.0).into(),
        ]);
    }
    limits
}

/// The environment of an engine's client: the agent's own, which says where images and the logins to
/// registries are, but for what lets the agent in itself. A task's own goes to its container.
pub(super) fn environment() -> Vec<(OsString, OsString)> {
    let known = std::env::vars_os();
    known
        .filter(|(name, _)| !name.as_encoded_bytes().starts_with(b"K8S4R_"))
        .collect()
}

/// Who a container's files are to belong to, where its task says so by number and the agent may give
/// files away. Names are the image's to know.
pub(crate) fn owner(task: &TaskDefinition) -> Option<(u32, u32)> {
    let owner = numbers(task).filter(|_| task.driver == Driver::Docker)?;
    nix::unistd::geteuid().is_root().then_some(owner)
}

/// The user and group that a task names by number.
fn numbers(task: &TaskDefinition) -> Option<(u32, u32)> {
    let user = task.user.as_deref()?;
    let (user, group) = user.split_once(':').unwrap_or((user, "0"));
    Some((user.parse().ok()?, group.parse().ok()?))
}
