//! From a container's specification to the keeper's plan.

use std::path::Path;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, Pod, PodSecurityContext, SecurityContext,
};

use super::volumes::Volumes;
use crate::cgroup::{Group, Limits};
use crate::images::Image;
use crate::isolation;
use crate::keeper::message::{Identity, LogPlan, Mount, OciRuntime, Overlay, Plan, View};
use crate::pod::expand;
use crate::sandbox::Sandbox;

/// At this size a container's log is turned over.
const LOG_TURNS_AT: u64 = 10 << 20;

/// What a plan is made from.
pub(super) struct Ingredients<'a> {
    pub(super) pod: &'a Pod,
    pub(super) container: &'a Container,
    pub(super) image: &'a Image,
    pub(super) env: Vec<(String, String)>,
    pub(super) volumes: &'a Volumes,
    pub(super) sandbox: &'a Sandbox,
    /// The run's name at the keeper.
    pub(super) id: &'a str,
    /// Where its output is kept.
    pub(super) log: std::path::PathBuf,
    pub(super) group: &'a Group,
    pub(super) limits: Limits,
    pub(super) allow_privileged: bool,
    /// Nothing stands between the pod and a sender on its packets that is not its own.
    pub(super) may_forge: bool,
    /// The run whose processes it sees.
    pub(super) beside: Option<String>,
}

/// Makes the plan; the error says what the pod asks that cannot be.
pub(super) fn plan(of: Ingredients<'_>) -> Result<Plan, String> {
    let spec = of
        .pod
        .spec
        .as_ref()
        .ok_or("a pod without a specification")?;
    let security = of.container.security_context.clone().unwrap_or_default();
    let whole = spec.security_context.clone().unwrap_or_default();
    let privileged = security.privileged == Some(true);
    if privileged && !of.allow_privileged {
        return Err("privileged containers are not allowed on this node".to_owned());
    }
    let view = View {
        scratch: of.sandbox.dir.join("build"),
        overlays: overlays(of.image, &of.sandbox.container_dir(of.id)),
        mounts: mounts(&of)?,
        read_only: security.read_only_root_filesystem == Some(true),
        privileged,
        shm: of.sandbox.dir.join("shm"),
    };
    let identity = identity(&security, &whole, of.image.config.user.clone(), privileged)?;
    if of.may_forge && !of.allow_privileged && isolation::writes_packets(identity.capabilities) {
        return Err(
            "NET_RAW and NET_ADMIN are not allowed on this node: it cannot check what pods send"
                .to_owned(),
        );
    }
    let config = &of.image.config;
    let known = |name: &str| {
        of.env
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    let cwd = of
        .container
        .working_dir
        .clone()
        .filter(|cwd| !cwd.is_empty())
        .unwrap_or_else(|| config.working_dir.clone());
    let runtime = runtime(&of);
    Ok(Plan {
        argv: argv(of.container, of.image, |word| expand(word, known))?,
        cwd: if cwd.is_empty() { "/".to_owned() } else { cwd },
        folders: config.volumes.clone(),
        view: Some(view),
        identity,
        cgroups: of.group.doors(),
        rlimits: Vec::new(),
        oom_score_adj: 0,
        terminal: (of.container.tty == Some(true)).then_some((80, 24)),
        stdin: of.container.stdin == Some(true),
        stdin_once: of.container.stdin_once == Some(true),
        log: Some(LogPlan {
            path: of.log,
            turn_at: LOG_TURNS_AT,
        }),
        runtime,
        beside: of.beside,
        env: of.env,
    })
}

/// The OCI runtime that starts the pod's containers, if one does.
fn runtime(of: &Ingredients<'_>) -> Option<OciRuntime> {
    let program = of.sandbox.record.runtime.clone()?;
    Some(OciRuntime {
        program,
        state: of.sandbox.dir.join("runtime"),
        bundle: of.sandbox.container_dir(of.id).join("bundle"),
        id: format!("{}.{}", of.sandbox.id(), of.id),
        group: of.group.name(),
        limits: of.limits,
    })
}

/// What stands in a command for the image's own, which whoever wrote the command cannot know:
/// the agent that starts a container's command is told so what to start.
const IMAGE_COMMAND: &str = "$(SANDLOT_IMAGE_COMMAND)";

/// The pod's command replaces the image's entry point, and with it the image's arguments.
/// Variables are put in where the pod wrote them, never in the image's words.
fn argv(
    container: &Container,
    image: &Image,
    expanded: impl Fn(&str) -> String,
) -> Result<Vec<String>, String> {
    let given = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (command, args) = (given(&container.command), given(&container.args));
    let config = &image.config;
    let mut words = Vec::new();
    if command.is_empty() {
        words.extend(config.entrypoint.iter().cloned());
        if args.is_empty() {
            words.extend(config.cmd.iter().cloned());
        }
    }
    let wrote: Vec<String> = command.into_iter().chain(args).collect();
    for (at, word) in wrote.iter().enumerate() {
        if word != IMAGE_COMMAND {
            words.push(expanded(word));
            continue;
        }
        let own = image.own_command(at + 1 < wrote.len());
        if own.is_empty() {
            return Err("no command specified: neither the pod nor the image names one".to_owned());
        }
        words.extend(own);
    }
    Ok(words)
}

/// Where a run's changes to one of its image's trees go.
pub(crate) fn writes(dir: &Path, tree: usize) -> std::path::PathBuf {
    dir.join(format!("writes-{tree}"))
}

fn overlays(image: &Image, dir: &Path) -> Vec<Overlay> {
    let trees = image.trees.iter().enumerate();
    trees
        .map(|(number, tree)| Overlay {
            at: tree.at.clone(),
            layers: tree.layers.clone(),
            writes: writes(dir, number),
        })
        .collect()
}

fn identity(
    security: &SecurityContext,
    whole: &PodSecurityContext,
    image_user: String,
    privileged: bool,
) -> Result<Identity, String> {
    let id = |value: Option<i64>, what: &str| {
        value
            .map(|id| u32::try_from(id).map_err(|_| format!("{what} {id} is out of range")))
            .transpose()
    };
    let mut groups = Vec::new();
    for group in whole
        .supplemental_groups
        .iter()
        .flatten()
        .chain(whole.fs_group.iter())
    {
        groups.extend(id(Some(*group), "group")?);
    }
    let Capabilities { add, drop } = security.capabilities.clone().unwrap_or_default();
    let profile = security
        .seccomp_profile
        .as_ref()
        .or(whole.seccomp_profile.as_ref());
    let mut seccomp = match profile.map(|profile| profile.type_.as_str()) {
        _ if privileged => Vec::new(),
        Some("Unconfined") => Vec::new(),
        None | Some("RuntimeDefault") => isolation::default_profile()?,
        Some(other) => {
            return Err(format!(
                "the seccomp profile type {other:?} is not supported on this node"
            ));
        }
    };
    if !nix::unistd::geteuid().is_root() {
        seccomp.push(isolation::one_user()?);
    }
    Ok(Identity {
        image_user,
        uid: id(security.run_as_user.or(whole.run_as_user), "user")?,
        gid: id(security.run_as_group.or(whole.run_as_group), "group")?,
        groups,
        must_not_be_root: security.run_as_non_root.or(whole.run_as_non_root) == Some(true),
        capabilities: if privileged {
            isolation::ALL
        } else {
            isolation::mask(&add.unwrap_or_default(), &drop.unwrap_or_default())?
        },
        // Kubernetes leaves this open; here a pod must ask to gain what it was not given.
        no_new_privileges: !privileged && security.allow_privilege_escalation != Some(true),
        seccomp,
    })
}

fn mounts(of: &Ingredients<'_>) -> Result<Vec<Mount>, String> {
    let wanted = of.container.volume_mounts.iter().flatten();
    let targets: Vec<&str> = wanted
        .clone()
        .map(|mount| mount.mount_path.as_str())
        .collect();
    let mut mounts = Vec::new();
    for (name, target) in [
        ("hosts", "/etc/hosts"),
        ("hostname", "/etc/hostname"),
        ("resolv.conf", "/etc/resolv.conf"),
    ] {
        if !targets.contains(&target) {
            mounts.push(Mount {
                source: of.sandbox.dir.join("etc").join(name),
                sub_path: None,
                create: false,
                target: target.to_owned(),
                read_only: false,
                map_users: true,
            });
        }
    }
    for mount in wanted {
        let volume = of.volumes.get(&mount.name).ok_or_else(|| {
            format!(
                "the volume {:?} of mount {:?} is not in the pod",
                mount.name, mount.mount_path
            )
        })?;
        let known = |name: &str| {
            of.env
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        };
        let sub_path = match (&mount.sub_path_expr, &mount.sub_path) {
            (Some(expression), _) => Some(expand(expression, known)),
            (None, path) => path.clone(),
        };
        mounts.push(Mount {
            source: volume.path.clone(),
            sub_path: sub_path.filter(|path| !path.is_empty()),
            create: volume.writable,
            target: mount.mount_path.clone(),
            read_only: mount.read_only == Some(true) || !volume.writable,
            map_users: volume.map_users,
        });
    }
    // Outer folders first, so that inner mounts lie on top.
    mounts.sort_by_key(|mount| Path::new(&mount.target).components().count());
    Ok(mounts)
}
