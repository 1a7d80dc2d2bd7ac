//! What an OCI runtime is told of a container: the same plan that the keeper carries out
//! itself, in the words of the OCI runtime specification.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::message::{IdRange, OciRuntime, Plan, View};
use super::identity::User;
use super::kernel_files::{FROZEN, HIDDEN};
use super::program::environment;
use crate::cgroup::PERIOD_MICROSECONDS;
use crate::isolation;

/// The version of the specification that all runtimes in use understand.
const VERSION: &str = "1.0.2";

/// What was made ready for the runtime before it is called.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub root: PathBuf,
    /// The pod's name, for a runtime whose kernel does not know it from the pod's namespaces.
    pub hostname: Option<String>,
    /// The pod's namespaces: their kinds, and the files that stand for them.
    pub namespaces: Vec<(&'static str, PathBuf)>,
    pub users: Option<IdRange>,
    /// The pod has a network of its own.
    pub own_network: bool,
    /// What we hold ourselves, and can give: one bit for each capability.
    pub capabilities: u64,
    pub shm: PathBuf,
    pub volumes: Vec<Volume>,
    /// The kernel has message queues.
    pub queues: bool,
}

/// A volume that only has to be bound.
#[derive(Debug)]
pub(super) struct Volume {
    pub source: PathBuf,
    pub target: String,
    /// As the source has them: what may not be dropped has to be said again.
    pub options: Vec<&'static str>,
}

/// The whole of `config.json`.
pub(super) fn container(
    plan: &Plan,
    view: &View,
    runtime: &OciRuntime,
    user: &User,
    ready: &Ready,
) -> Value {
    let mut mounts = devices(view, ready);
    mounts.extend(kernel(view, ready));
    mounts.extend(ready.volumes.iter().map(|volume| {
        let options: Vec<&str> = ["rbind"]
            .into_iter()
            .chain(volume.options.clone())
            .collect();
        json!({"destination": volume.target, "type": "bind", "source": volume.source,
            "options": options})
    }));
    let mut whole = json!({
        "ociVersion": VERSION,
        "root": {"path": ready.root, "readonly": view.read_only},
        "process": process(plan, user, ready),
        "mounts": mounts,
        "linux": linux(plan, view, runtime, ready),
    });
    if let Some(name) = &ready.hostname {
        whole["hostname"] = json!(name);
    }
    whole
}

/// How the first process, or a command, runs.
fn process(plan: &Plan, user: &User, ready: &Ready) -> Value {
    let environment: Vec<String> = environment(plan, user)
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let bounding = isolation::names(plan.identity.capabilities & ready.capabilities);
    // Another user than root keeps nothing, and cannot get back more than this.
    let held = if user.uid == 0 {
        bounding.clone()
    } else {
        Vec::new()
    };
    let mut process = json!({
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
        "args": plan.argv,
        "env": environment,
        "cwd": plan.cwd,
        "capabilities": {"bounding": bounding, "effective": held, "permitted": held},
        "noNewPrivileges": plan.identity.no_new_privileges,
    });
    with_terminal(&mut process, plan.terminal);
    process
}

/// A command in a container: as its first process runs, with words and a terminal of its own.
pub(in super::super) fn command(container: &Value, plan: &Plan) -> Value {
    let mut process = container["process"].clone();
    process["args"] = json!(plan.argv);
    if plan.terminal.is_some()
        && let Some(environment) = process["env"].as_array_mut()
        && !environment
            .iter()
            .any(|one| one.as_str().is_some_and(|one| one.starts_with("TERM=")))
    {
        environment.push(json!("TERM=xterm"));
    }
    with_terminal(&mut process, plan.terminal);
    process
}

fn with_terminal(process: &mut Value, terminal: Option<(u16, u16)>) {
    process["terminal"] = json!(terminal.is_some());
    if let Some((width, height)) = terminal {
        process["consoleSize"] = json!({"width": width, "height": height});
    }
}

fn devices(view: &View, ready: &Ready) -> Vec<Value> {
    if view.privileged {
        return vec![
            json!({"destination": "/dev", "type": "bind", "source": "/dev",
            "options": ["rbind"]}),
        ];
    }
    let mut terminals = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    if ready.users.is_none_or(|users| users.count > 5) {
        terminals.push("gid=5");
    }
    let mut mounts = vec![
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "noexec", "mode=755", "size=64k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": terminals}),
        json!({"destination": "/dev/shm", "type": "bind", "source": ready.shm,
            "options": ["rbind", "nosuid", "nodev"]}),
    ];
    if ready.queues {
        mounts.push(
            json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"]}),
        );
    }
    mounts
}

fn kernel(view: &View, ready: &Ready) -> Vec<Value> {
    let quiet = ["nosuid", "noexec", "nodev"];
    let system: Vec<&str> = if view.privileged {
        quiet.to_vec()
    } else {
        quiet.into_iter().chain(["ro"]).collect()
    };
    // Only who owns a network may mount the files that show it.
    let system = if ready.own_network || ready.users.is_none() {
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": system})
    } else {
        let options: Vec<&str> = ["rbind"].into_iter().chain(system).collect();
        json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": options})
    };
    vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": quiet}),
        system,
    ]
}

fn linux(plan: &Plan, view: &View, runtime: &OciRuntime, ready: &Ready) -> Value {
    let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "cgroup"})];
    if !ready.namespaces.iter().any(|(kind, _)| *kind == "pid") {
        namespaces.push(json!({"type": "pid"}));
    }
    let shared = ready.namespaces.iter();
    namespaces.extend(shared.map(|(kind, path)| json!({"type": kind, "path": path})));
    let mut linux = json!({"namespaces": namespaces, "rootfsPropagation": "private"});
    if let Some(users) = ready.users {
        let map = json!([{"containerID": 0, "hostID": users.first, "size": users.count}]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    }
    if let Some(group) = &runtime.group {
        linux["cgroupsPath"] = json!(group);
        linux["resources"] = resources(runtime, view.privileged);
    }
    if !view.privileged {
        let below_root = |paths: &[&str]| -> Vec<PathBuf> {
            paths.iter().map(|path| Path::new("/").join(path)).collect()
        };
        linux["maskedPaths"] = json!(below_root(HIDDEN));
        linux["readonlyPaths"] = json!(below_root(FROZEN));
    }
    if !plan.identity.seccomp.is_empty() {
        linux["seccomp"] = isolation::oci_profile();
    }
    linux
}

fn resources(runtime: &OciRuntime, privileged: bool) -> Value {
    let limits = &runtime.limits;
    let (shares, quota) = limits.shares_and_quota();
    let mut cpu = json!({"shares": shares});
    if let Some(quota) = quota {
        cpu["quota"] = json!(quota);
        cpu["period"] = json!(PERIOD_MICROSECONDS);
    }
    let mut resources = json!({
        "cpu": cpu,
        "devices": [{"allow": privileged, "access": "rwm"}],
    });
    if let Some(bytes) = limits.memory_bytes {
        resources["memory"] = json!({"limit": bytes});
    }
    if let Some(most) = limits.processes {
        resources["pids"] = json!({"limit": most});
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Limits;
    use crate::keeper::message::Identity;

    fn runtime() -> OciRuntime {
        OciRuntime {
            program: "/usr/bin/runc".into(),
            state: "/s".into(),
            bundle: "/b".into(),
            id: "c.0".into(),
            group: Some("/sandlot/s/c.0".into()),
            limits: Limits {
                cpu_share: 100,
                cpu_most: Some(250),
                memory_bytes: Some(1 << 20),
                processes: Some(64),
            },
        }
    }

    fn user(uid: u32) -> User {
        User {
            uid,
            gid: 7,
            groups: vec![8],
            home: "/home/u".into(),
        }
    }

    fn plan() -> Plan {
        Plan {
            argv: vec!["sh".into()],
            cwd: "/work".into(),
            identity: Identity {
                capabilities: 1,
                no_new_privileges: true,
                seccomp: vec![vec![0]],
                ..Identity::default()
            },
            ..Plan::default()
        }
    }

    fn pod() -> Ready {
        Ready {
            root: "/mnt/root".into(),
            namespaces: vec![("network", "/mnt/network".into())],
            users: Some(IdRange {
                first: 1000,
                count: 65536,
            }),
            own_network: true,
            capabilities: isolation::ALL,
            ..Ready::default()
        }
    }

    #[test]
    fn a_user_who_is_not_root_holds_no_capability() {
        let made = container(&plan(), &View::default(), &runtime(), &user(5), &pod());
        let held = &made["process"]["capabilities"];
        assert_eq!(held["bounding"], json!(["CAP_CHOWN"]));
        assert_eq!(held["effective"], json!([]));
        let made = container(&plan(), &View::default(), &runtime(), &user(0), &pod());
        assert_eq!(made["process"]["capabilities"]["effective"][0], "CAP_CHOWN");
    }

    #[test]
    fn limits_users_and_the_filter_are_told() {
        let made = container(&plan(), &View::default(), &runtime(), &user(0), &pod());
        let linux = &made["linux"];
        assert_eq!(linux["resources"]["cpu"]["quota"], 25_000);
        assert_eq!(linux["resources"]["memory"]["limit"], 1 << 20);
        assert_eq!(linux["uidMappings"][0]["hostID"], 1000);
        assert_eq!(linux["seccomp"]["defaultErrnoRet"], libc::ENOSYS);
        assert!(linux["maskedPaths"].to_string().contains("/proc/kcore"));
        assert_eq!(linux["cgroupsPath"], "/sandlot/s/c.0");
        let kinds = linux["namespaces"].to_string();
        assert!(kinds.contains("pid") && kinds.contains("/mnt/network"));
    }

    #[test]
    fn a_privileged_container_sees_and_does_what_root_does() {
        let view = View {
            privileged: true,
            ..View::default()
        };
        let bare = Plan {
            identity: Identity {
                capabilities: isolation::ALL,
                ..Identity::default()
            },
            ..plan()
        };
        let ready = Ready {
            users: None,
            ..pod()
        };
        let made = container(&bare, &view, &runtime(), &user(0), &ready);
        assert!(made["linux"].get("maskedPaths").is_none());
        assert!(made["linux"].get("seccomp").is_none());
        assert!(made["linux"].get("uidMappings").is_none());
        assert_eq!(made["mounts"][0]["source"], "/dev");
        assert_eq!(made["linux"]["resources"]["devices"][0]["allow"], true);
    }

    #[test]
    fn a_pod_on_the_machine_s_network_sees_its_files_without_mounting_them() {
        let ready = Ready {
            own_network: false,
            ..pod()
        };
        let made = container(&plan(), &View::default(), &runtime(), &user(0), &ready);
        let mounts = made["mounts"].as_array().unwrap();
        let system = mounts.iter().find(|one| one["destination"] == "/sys");
        assert_eq!(system.unwrap()["type"], "bind");
    }

    #[test]
    fn only_a_kernel_of_its_own_is_told_the_pod_s_name() {
        let told = |hostname| {
            let ready = Ready { hostname, ..pod() };
            container(&plan(), &View::default(), &runtime(), &user(0), &ready)
        };
        assert_eq!(told(Some("p".into()))["hostname"], "p");
        assert!(told(None).get("hostname").is_none());
    }

    #[test]
    fn a_command_runs_as_the_container_with_words_and_a_terminal_of_its_own() {
        let made = container(&plan(), &View::default(), &runtime(), &user(5), &pod());
        let asked = Plan {
            argv: vec!["ls".into(), "/".into()],
            terminal: Some((100, 30)),
            ..Plan::default()
        };
        let process = command(&made, &asked);
        assert_eq!(process["args"], json!(["ls", "/"]));
        assert_eq!(process["user"]["uid"], 5);
        assert_eq!(process["consoleSize"]["width"], 100);
        assert!(process["env"].to_string().contains("TERM=xterm"));
    }
}
