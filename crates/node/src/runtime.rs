//! Which program starts a pod's containers: the node's own keeper, or an OCI runtime. A pod
//! that asks for one which is not here is told so rather than run with less than it asked for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;

mod words;

/// The handler that means the node's own keeper.
const OWN: &str = "sandlot";

/// The OCI runtimes that pods may ask for, by the names of their programs.
const KNOWN: [&str; 4] = ["runc", "crun", GVISOR, KATA];

/// The program of gVisor.
const GVISOR: &str = "runsc";

/// The program of Kata Containers.
const KATA: &str = "kata-runtime";

/// What Kata's virtual machines run on.
const KVM: &str = "/dev/kvm";

/// Names under which some of them are known too.
const ALSO: [(&str, &str); 2] = [("gvisor", GVISOR), ("kata", KATA)];

/// Where a program may be that an ordinary search path does not name.
const FURTHER: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/sbin"];

/// Which program starts containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// The node's own keeper.
    #[default]
    Own,
    /// An OCI runtime: runc, crun, or another one with their command line.
    Program(PathBuf),
}

/// Why a runtime cannot be had.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RuntimeError {
    /// Nobody knows the name.
    #[error(
        "there is no runtime {0:?}; this node knows sandlot (its own), runc, crun, runsc and kata-runtime, and can be started with the path of another one"
    )]
    Unknown(String),
    /// It is not installed.
    #[error("the runtime {0} is not on this machine; install it, or leave it to sandlot's own")]
    Missing(String),
    /// The path leads to no program.
    #[error("{0} is not a program that can be run")]
    NoProgram(PathBuf),
    /// It needs more than this user has.
    #[error("the runtime {0} needs root here; sandlot's own does not")]
    NeedsRoot(String),
    /// There is nothing to run virtual machines on.
    #[error(
        "{0} starts virtual machines, and this machine has no {KVM} to run them on; use runsc, runc or crun, or leave it to sandlot's own"
    )]
    NoVirtualMachines(PathBuf),
    /// It has the name of an OCI runtime and is none.
    #[error(
        "{0} has no command that starts a container: Kata Containers has none since its version 2, which only containerd can use (by containerd-shim-kata-v2); use runsc, runc or crun, or leave it to sandlot's own"
    )]
    NoOciRuntime(PathBuf),
}

impl Runtime {
    /// Finds a runtime by its name or the path of its program.
    pub fn named(name: &str) -> Result<Runtime, RuntimeError> {
        if name == OWN {
            return Ok(Runtime::Own);
        }
        let program = if name.contains('/') {
            let path = PathBuf::from(name);
            std::path::absolute(&path)
                .ok()
                .filter(|path| is_program(path))
                .ok_or(RuntimeError::NoProgram(path))?
        } else {
            let known = known(name).ok_or_else(|| RuntimeError::Unknown(name.to_owned()))?;
            program(known).ok_or_else(|| RuntimeError::Missing(known.to_owned()))?
        };
        if !nix::unistd::geteuid().is_root() {
            return Err(RuntimeError::NeedsRoot(name.to_owned()));
        }
        if is_named(&program, KATA) {
            let has_kvm = Path::new(KVM).exists();
            judge_kata(&program, has_kvm, || words::commands_of(&program))?;
        }
        Ok(Runtime::Program(program))
    }

    /// The program, when it is not the node itself.
    pub(crate) fn program(&self) -> Option<PathBuf> {
        match self {
            Runtime::Own => None,
            Runtime::Program(path) => Some(path.clone()),
        }
    }

    /// Whether its containers can have the users that the pod's sandbox was made with. gVisor
    /// cannot join a user namespace, and needs none: its containers meet a kernel of its own,
    /// which has no more than an unprivileged user of the machine.
    pub(crate) fn joins_users(&self) -> bool {
        match self {
            Runtime::Own => true,
            Runtime::Program(path) => !is_gvisor(path),
        }
    }
}

/// Whether a runtime's program is gVisor's. It gives each container a kernel of its own.
pub(crate) fn is_gvisor(program: &Path) -> bool {
    is_named(program, GVISOR)
}

/// Whether a runtime's containers meet another kernel than this machine's, which knows of a pod
/// what it is told.
pub(crate) fn has_own_kernel(program: &Path) -> bool {
    is_gvisor(program) || is_named(program, KATA)
}

fn is_named(program: &Path, name: &str) -> bool {
    program.file_name().is_some_and(|found| found == name)
}

/// Kata's program as an OCI runtime is one of the past; the one of today only looks after what
/// containerd has started.
fn judge_kata(
    program: &Path,
    has_kvm: bool,
    help: impl FnOnce() -> String,
) -> Result<(), RuntimeError> {
    if !has_kvm {
        return Err(RuntimeError::NoVirtualMachines(program.to_owned()));
    }
    let help = help();
    let mut commands = help
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    match commands.any(|first| first.trim_end_matches(',') == "create") {
        true => Ok(()),
        false => Err(RuntimeError::NoOciRuntime(program.to_owned())),
    }
}

fn known(name: &str) -> Option<&'static str> {
    let also = ALSO.iter().find(|(also, _)| *also == name);
    let name = also.map_or(name, |(_, name)| *name);
    KNOWN.into_iter().find(|known| *known == name)
}

/// The runtimes that pods may ask for, and the programs of those that are on this machine.
pub(crate) fn all() -> Vec<(&'static str, Option<PathBuf>)> {
    KNOWN.map(|name| (name, program(name))).to_vec()
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FURTHER.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_absolute() && is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Makes a RuntimeClass for each runtime that is here, so that pods can ask for it by its name.
pub(crate) async fn offer(client: &Client) -> kube::Result<()> {
    let classes: Api<RuntimeClass> = Api::all(client.clone());
    let here = all().into_iter().filter(|(_, program)| program.is_some());
    for name in here.map(|(name, _)| name).chain([OWN]) {
        let class = json!({"metadata": {"name": name}, "handler": name});
        let class = serde_json::from_value(class).map_err(kube::Error::SerdeError)?;
        match classes.create(&PostParams::default(), &class).await {
            Err(kube::Error::Api(error)) if error.code == 409 => {}
            made => drop(made?),
        }
    }
    Ok(())
}

/// Finds the runtime that a pod asks for, or else the node's usual one; the error says why it
/// cannot be had.
pub(crate) async fn find(client: &Client, pod: &Pod, usual: &Runtime) -> Result<Runtime, String> {
    let asked = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.runtime_class_name.as_deref())
        .filter(|name| !name.is_empty());
    let Some(name) = asked else {
        return Ok(usual.clone());
    };
    let classes: Api<RuntimeClass> = Api::all(client.clone());
    let class = classes
        .get_opt(name)
        .await
        .map_err(|error| format!("cannot read the RuntimeClass {name:?}: {error}"))?;
    let (name, handler) = (name.to_owned(), class.map(|class| class.handler));
    // The program itself may be asked what it can do, which takes its time.
    tokio::task::spawn_blocking(move || judge(&name, handler.as_deref()))
        .await
        .map_err(|error| format!("cannot look for the runtime: {error}"))?
}

fn judge(class: &str, handler: Option<&str>) -> Result<Runtime, String> {
    let handler = handler.ok_or_else(|| format!("RuntimeClass {class:?} not found"))?;
    // A class names a runtime, never a path: who may make classes does not choose programs.
    let found = if handler == OWN || known(handler).is_some() {
        Runtime::named(handler)
    } else {
        Err(RuntimeError::Unknown(handler.to_owned()))
    };
    found.map_err(|error| format!("RuntimeClass {class:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_cannot_be_had_is_named() {
        assert_eq!(judge("usual", Some("sandlot")), Ok(Runtime::Own));
        let unknown = judge("quick", None).unwrap_err();
        assert_eq!(unknown, "RuntimeClass \"quick\" not found");
        let elsewhere = judge("odd", Some("zonk")).unwrap_err();
        assert!(elsewhere.contains("zonk") && elsewhere.contains("odd"));
    }

    #[test]
    fn a_class_is_no_way_to_run_any_program() {
        assert!(judge("sly", Some("/bin/sh")).is_err());
    }

    #[test]
    fn gvisor_alone_joins_no_users() {
        let of = |path: &str| Runtime::Program(path.into()).joins_users();
        assert!(Runtime::Own.joins_users() && of("/usr/bin/runc") && of("/opt/crun"));
        assert!(!of("/usr/local/bin/runsc"));
    }

    #[test]
    fn kata_is_taken_where_it_can_start_a_container_and_told_why_not_elsewhere() {
        let of_today = "COMMANDS:\n   check, kata-check  tests\n   exec  a shell in a guest\n";
        let of_the_past = "COMMANDS:\n   create    Create a container\n   delete    Delete\n";
        let judged = |kvm, help: &str| {
            let program = Path::new("/usr/bin/kata-runtime");
            judge_kata(program, kvm, || help.to_owned())
        };
        assert_eq!(judged(true, of_the_past), Ok(()));
        let none = judged(true, of_today).unwrap_err().to_string();
        assert!(
            none.contains("containerd") && none.contains("runsc"),
            "{none}"
        );
        let no_kvm = judged(false, of_the_past).unwrap_err().to_string();
        assert!(no_kvm.contains("/dev/kvm"), "{no_kvm}");
    }

    #[test]
    fn a_path_must_lead_to_a_program() {
        let none = Runtime::named("/etc/passwd");
        assert_eq!(none, Err(RuntimeError::NoProgram("/etc/passwd".into())));
    }
}
