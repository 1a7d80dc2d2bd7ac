//! Ways out of a container. Each attempt is a script that writes `reached` when it works.
//! Each is also run outside, to prove that the attempt would work if nothing stood in its way: on
//! the machine itself, or in a place made for it where it could harm the machine or needs what only
//! a container has.

mod files;
mod kernel;
mod namespaces;
mod network;
mod processes;
mod runtime;

use std::os::linux::net::SocketAddrExt as _;
use std::process::Command;

use serde_json::json;

use crate::Cluster;

/// Where an attempt is proved: a script that runs `$ATTEMPT` there. `$SITE` is an empty folder,
/// `$ROOTLESS` what `unshare` needs to be told by an ordinary user.
type Place = &'static str;

/// The machine as it is.
const MACHINE: Place = r#"sh -c "$ATTEMPT""#;
/// Mounts of its own.
const MOUNTS: Place = r#"unshare $ROOTLESS -m sh -c "$ATTEMPT""#;

/// An attempt that fails outside too shows no wall: so many at least must work there for root.
const PROVED: usize = 40;

/// What it is after, where it works, and the script.
type Attempt = (&'static str, Place, &'static str);

fn attempts() -> impl Iterator<Item = &'static Attempt> {
    let kinds = [
        files::ATTEMPTS,
        processes::ATTEMPTS,
        namespaces::ATTEMPTS,
        kernel::ATTEMPTS,
        network::ATTEMPTS,
        runtime::ATTEMPTS,
    ];
    kinds.into_iter().flatten()
}

/// What the attempts are told of the machine.
struct Known {
    mark: String,
    outer: u32,
    port: u16,
}

impl Known {
    fn outside(&self, place: &str, attempt: &str) -> String {
        let site = tempfile::tempdir_in("/var/tmp").unwrap();
        let is_root = nix::unistd::geteuid().is_root();
        let run = Command::new("sh")
            .args(["-c", place])
            .env("ATTEMPT", attempt)
            .env("SITE", site.path())
            .env("ROOTLESS", if is_root { "" } else { "-r" })
            .env("MARK", &self.mark)
            .env("OUTER", self.outer.to_string())
            .env("PORT", self.port.to_string())
            .output()
            .unwrap();
        String::from_utf8_lossy(&run.stdout).into_owned()
    }

    fn inside(&self, attempt: &str) -> String {
        let Known { mark, outer, port } = self;
        format!("MARK={mark} OUTER={outer} PORT={port}; export MARK OUTER PORT; {attempt}")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_attempt_to_reach_the_machine_works() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let mark = folder.path().join("mark");
    std::fs::write(&mark, "secret").unwrap();
    let mark = mark.display().to_string();
    let mut outer = Command::new("sleep").arg("1000").spawn().unwrap();
    let name = std::os::unix::net::SocketAddr::from_abstract_name(&mark).unwrap();
    let _abstract = std::os::unix::net::UnixListener::bind_addr(&name).unwrap();
    let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    let known = Known {
        mark,
        outer: outer.id(),
        port,
    };
    cluster.run("p", "exec sleep 1000").await;
    cluster.ready("p").await;
    let (mut wrong, mut unproved) = (Vec::new(), Vec::new());
    for (name, place, script) in attempts() {
        if !known.outside(place, script).contains("reached") {
            unproved.push(*name);
        }
        let (_, text) = cluster.exec("p", &known.inside(script)).await;
        if text.contains("reached") {
            wrong.push(*name);
        }
    }
    // What the container writes is its own.
    let own = "/usr/local/sandlot-was-here";
    assert_eq!(cluster.exec("p", &format!("touch {own}")).await.0, 0);
    assert!(
        !std::path::Path::new(own).exists(),
        "it writes to the machine"
    );
    let proved = attempts().count() - unproved.len();
    println!("{}", sandlot_node::doctor::probe());
    println!(
        "{proved} attempts that work outside, none inside; outside this machine does not offer"
    );
    for one in &unproved {
        println!("  {one}");
    }
    outer.kill().unwrap();
    outer.wait().unwrap();
    assert!(wrong.is_empty(), "reached from inside: {wrong:#?}");
    // An ordinary user of the machine can do less outside, and so prove less.
    if nix::unistd::geteuid().is_root() {
        assert!(
            proved >= PROVED,
            "only {proved} attempts work outside: {unproved:#?}"
        );
    }
    cluster.stop().await;
}

/// A command that is run in a container passes through it before it is the container's:
/// whoever waits there must not get hold of the machine by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_its_way_in_cannot_be_looked_into() {
    let cluster = Cluster::start().await;
    let lurk = r#"
import os, time
seen, end = set(), time.time() + 1000
while time.time() < end:
    for pid in filter(str.isdigit, os.listdir('/proc')):
        for name in ('exe', 'root', 'cwd', 'fd/3', 'fd/4', 'fd/5'):
            try: found = os.readlink(f'/proc/{pid}/{name}')
            except OSError: continue
            if 'sandlot' in found or 'memfd' in found or (name == 'root' and found != '/'):
                seen.add(name + ' ' + found)
        for name in ('environ', 'maps', 'mem'):
            try: text = open(f'/proc/{pid}/{name}', 'rb').read(4096)
            except OSError: continue
            if b'sandlot' in text: seen.add(name)
    open('/tmp/seen', 'w').write('\n'.join(sorted(seen)))
"#;
    let container = json!({"name": "c", "image": "host", "command": ["python3", "-c", lurk]});
    cluster
        .create(json!({"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}))
        .await;
    cluster.ready("p").await;
    cluster
        .until_shows("p", "test -e /tmp/seen && echo lurks", "lurks")
        .await;
    for _ in 0..60 {
        assert_eq!(cluster.exec("p", "true").await.0, 0);
    }
    assert_eq!(cluster.exec("p", "cat /tmp/seen").await, (0, String::new()));
    cluster.stop().await;
}

/// What a pod has for itself, and how to look for it: found in the pod, but in no other.
const OWN: &[(&str, &str, &str)] = &[
    (
        "abstract sockets",
        "nohup python3 -c 'import socket,time;s=socket.socket(1);s.bind(\"\\0own\");s.listen();time.sleep(1000)' >/dev/null 2>&1 &",
        "python3 -c 'import socket;socket.socket(1).connect(\"\\0own\");print(\"reached\")' 2>/dev/null",
    ),
    (
        "services on its loopback",
        "nohup python3 -c 'import socket,time;s=socket.create_server((\"127.0.0.1\",18081));time.sleep(1000)' >/dev/null 2>&1 &",
        "python3 -c 'import socket;socket.create_connection((\"127.0.0.1\",18081),2);print(\"reached\")' 2>/dev/null",
    ),
    (
        "shared memory by name",
        "echo own > /dev/shm/own",
        "test -e /dev/shm/own && echo reached",
    ),
    (
        "shared memory by key",
        "ipcmk -M 4321 -p 0666 >/dev/null",
        "ipcs -m | grep -q 4321 && echo reached",
    ),
    (
        "files",
        "echo own > /var/tmp/own",
        "test -e /var/tmp/own && echo reached",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_a_pod_s_own_no_other_pod_reaches() {
    let cluster = Cluster::start().await;
    for name in ["owner", "other"] {
        cluster.run(name, "exec sleep 1000").await;
        cluster.ready(name).await;
    }
    let mut wrong = Vec::new();
    for (name, make, look) in OWN {
        cluster.exec("owner", make).await;
        cluster.until_shows("owner", look, "reached").await;
        if cluster.exec("other", look).await.1.contains("reached") {
            wrong.push(*name);
        }
    }
    assert!(wrong.is_empty(), "reached from another pod: {wrong:#?}");
    cluster.stop().await;
}
