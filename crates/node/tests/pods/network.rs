//! Who reaches whom: pods, services, names, this machine and the world.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Cluster;

/// A server in Python that answers every connection with the caller's address.
const SERVER: &str = "exec python3 -c '
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((\"\", 8080)); s.listen(16)
while True:
    c, who = s.accept(); c.sendall(who[0].encode()); c.close()
'";

/// A script that tries to speak with an address, and writes what it heard or `closed`.
pub(crate) fn call(host: &str, port: u16) -> String {
    format!(
        "python3 -c '
import socket
try:
    s = socket.create_connection((\"{host}\", {port}), 3)
    print(s.recv(100).decode() or \"silence\")
except OSError: print(\"closed\")
'"
    )
}

pub(crate) async fn says(cluster: &Cluster, pod: &str, script: &str) -> String {
    cluster.exec(pod, script).await.1.trim().to_owned()
}

/// Runs a script in a pod until it says what it should; others have to learn first.
pub(crate) async fn becomes(cluster: &Cluster, pod: &str, script: &str, wanted: &str) {
    let begun = Instant::now();
    loop {
        let said = says(cluster, pod, script).await;
        if said == wanted {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{pod} says {said:?}, not {wanted:?}, to {script}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The address that servers see a pod come from. Without root the API has another one for
/// it, which is good on this machine too.
pub(crate) fn inside(pod: &serde_json::Value) -> String {
    let ip = pod["status"]["podIP"].as_str().unwrap();
    match ip.strip_prefix("127.") {
        Some(rest) => format!("10.{rest}"),
        None => ip.to_owned(),
    }
}

pub(crate) async fn server(cluster: &Cluster, name: &str, labels: serde_json::Value) -> String {
    cluster
        .create(json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
                "name": "c", "image": "host", "command": ["sh", "-c", SERVER],
                "ports": [{"name": "web", "containerPort": 8080}],
                "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}]}
        }))
        .await;
    let pod = cluster.ready(name).await;
    pod["status"]["podIP"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_reaches_pods_services_and_names_but_not_this_machine() {
    let cluster = Cluster::start().await;
    let ip = server(&cluster, "web", json!({"app": "web"})).await;
    cluster.run("client", "exec sleep 1000").await;
    let client = cluster.ready("client").await;
    let own = &inside(&client);

    assert_eq!(says(&cluster, "client", &call(&ip, 8080)).await, *own);
    // This machine reaches the pod by the address that the API gives.
    let mut heard = String::new();
    let mut stream = tokio::net::TcpStream::connect((ip.as_str(), 8080))
        .await
        .unwrap();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut heard)
        .await
        .unwrap();
    assert!(!heard.is_empty());

    let service = json!({"metadata": {"name": "front"}, "spec": {
        "clusterIP": "10.96.200.7", "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}});
    cluster.make("services", service).await;
    becomes(&cluster, "client", &call("10.96.200.7", 80), own).await;
    let by_name = call("front", 80);
    becomes(&cluster, "client", &by_name, own).await;
    let whole = call("front.default.svc.cluster.local", 80);
    becomes(&cluster, "client", &whole, own).await;
    let dashed = format!("{}.default.pod.cluster.local", ip.replace('.', "-"));
    becomes(&cluster, "client", &call(&dashed, 8080), own).await;
    // A service leads a pod to itself, too.
    let itself = says(&cluster, "web", &call("front", 80)).await;
    assert_ne!(itself, "closed");

    let headless = json!({"metadata": {"name": "each"}, "spec": {
        "clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 8080}]}});
    cluster.make("services", headless).await;
    becomes(&cluster, "client", &call("each", 8080), own).await;

    // What listens on every address of this machine is not for pods.
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let gateway = says(
        &cluster,
        "client",
        "sed -n 's/nameserver //p' /etc/resolv.conf",
    )
    .await;
    for machine in [gateway.as_str(), "169.254.169.254", "10.96.0.1"] {
        let heard = says(&cluster, "client", &call(machine, port)).await;
        assert_eq!(heard, "closed", "{machine}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_policy_holds_from_a_pod_s_first_moment() {
    let cluster = Cluster::start().await;
    let policy = |name: &str, spec: serde_json::Value| {
        json!({"apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec})
    };
    let guarded = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"may": "in"}}}], "ports": [{"port": "web"}]}]});
    cluster
        .post(
            "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
            policy("guard", guarded),
        )
        .await;
    let mute = json!({"podSelector": {"matchLabels": {"mute": "yes"}}, "policyTypes": ["Egress"]});
    cluster
        .post(
            "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
            policy("mute", mute),
        )
        .await;

    let ip = server(&cluster, "web", json!({"app": "web"})).await;
    let client = |name: &str, labels: serde_json::Value, script: String| {
        json!({"metadata": {"name": name, "labels": labels}, "spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "host", "command": ["sh", "-c", script]}]}})
    };
    // The very first thing that these do is already judged.
    cluster
        .create(client("stranger", json!({}), call(&ip, 8080)))
        .await;
    cluster
        .create(client(
            "mute",
            json!({"mute": "yes", "may": "in"}),
            call(&ip, 8080),
        ))
        .await;
    for name in ["stranger", "mute"] {
        cluster.phase(name, "Succeeded").await;
        let heard = cluster.logs(name, Default::default()).await;
        assert_eq!(heard.trim(), "closed", "{name}");
    }
    cluster
        .create(client(
            "friend",
            json!({"may": "in"}),
            "exec sleep 1000".to_owned(),
        ))
        .await;
    let friend = cluster.ready("friend").await;
    let own = &inside(&friend);
    becomes(&cluster, "friend", &call(&ip, 8080), own).await;
    // A label that goes takes the allowance with it.
    let patch = kube::api::Patch::Merge(json!({"metadata": {"labels": {"may": null}}}));
    cluster
        .pods()
        .patch("friend", &Default::default(), &patch)
        .await
        .unwrap();
    becomes(&cluster, "friend", &call(&ip, 8080), "closed").await;
    cluster.stop().await;
}

/// A machine beside this one: a network of its own at the end of a cable.
pub(crate) struct Outside {
    name: String,
    pub(crate) address: String,
    server: std::process::Child,
}

impl Outside {
    /// Made with `ip`; the reason when that cannot be.
    pub(crate) fn make() -> Result<Outside, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root can make a network to reach".to_owned());
        }
        static USES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let use_of = USES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let number = (std::process::id() * 4 + use_of) % 16_000;
        let name = format!("slo{number}");
        let (near, far) = (2 * (number % 64), 2 * (number % 64) + 1);
        let third = number / 64 % 250;
        let address = format!("198.18.{third}.{far}");
        let script = format!(
            "set -e; ip netns add {name}; ip link add {name} type veth peer name far netns {name}
             ip addr add 198.18.{third}.{near}/31 dev {name}; ip link set {name} up
             ip -n {name} addr add {address}/31 dev far; ip -n {name} link set far up"
        );
        let made = Command::new("sh").args(["-c", &script]).output();
        let made = made.map_err(|error| error.to_string())?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned());
        }
        let server = Command::new("ip")
            .args(["netns", "exec", &name, "sh", "-c", SERVER])
            .spawn()
            .map_err(|error| error.to_string())?;
        Ok(Outside {
            name,
            address,
            server,
        })
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let script = format!("ip link del {0}; ip netns del {0}", self.name);
        let _ = Command::new("sh").args(["-c", &script]).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_world_is_open_to_pods_unless_egress_is_closed() {
    let outside = match Outside::make() {
        Ok(outside) => outside,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let open = Cluster::start().await;
    let closed = Cluster::with(|config| config.egress = false).await;
    for cluster in [&open, &closed] {
        cluster.run("agent", "exec sleep 1000").await;
        cluster.ready("agent").await;
    }
    let here = {
        let (start, last) = outside.address.rsplit_once('.').unwrap();
        format!("{start}.{}", last.parse::<u8>().unwrap() - 1)
    };
    let calling = call(&outside.address, 8080);
    becomes(&open, "agent", &calling, &here).await;
    assert_eq!(says(&closed, "agent", &calling).await, "closed");
    for (cluster, reason) in [(&open, "AddressTranslation"), (&closed, "ClosedOnRequest")] {
        assert_eq!(
            cluster.node_condition("SandlotEgress").await["reason"],
            reason
        );
    }
    open.stop().await;
    closed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_links_go_with_the_node() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: without root they are in a network that goes by itself");
    }
    let cluster = Cluster::start().await;
    let prefix = prefix(&cluster);
    let (bridge, table) = (format!("sl{prefix}-br"), format!("sandlot-{prefix}"));
    let there = || (has_link(&bridge), has_rules(&table));
    assert_eq!(there(), (true, true));
    let restarted = cluster.restart_node().await;
    assert_eq!(there(), (true, true));
    restarted.stop().await;
    assert_eq!(there(), (false, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_left_that_is_no_more_is_cleared_away_by_another() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: without root nothing is left that others could see");
    }
    // As a killed node leaves it whose folder was deleted.
    let left = format!("sl{:04x}-br", std::process::id() % 0x1_0000);
    let made = Command::new("ip")
        .args(["link", "add", &left, "type", "bridge"])
        .status();
    if !made.is_ok_and(|made| made.success()) {
        return println!("skipped: there is no `ip` to make a bridge with");
    }
    let cluster = Cluster::start().await;
    assert!(!has_link(&left), "{left} is still there");
    assert!(has_link(&format!("sl{}-br", prefix(&cluster))));
    cluster.stop().await;
}

/// What the names of everything of a node have in common.
fn prefix(cluster: &Cluster) -> String {
    use sha2::Digest as _;
    let dir = cluster.dir.canonicalize().unwrap();
    let digest = sha2::Sha256::digest(dir.as_os_str().as_encoded_bytes());
    format!("{:02x}{:02x}", digest[0], digest[1])
}

fn has_link(name: &str) -> bool {
    std::path::Path::new("/sys/class/net").join(name).exists()
}

/// Asks the kernel for all its tables and looks for this one's name.
fn has_rules(table: &str) -> bool {
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
    };
    use std::os::fd::AsRawFd as _;
    let flags = SockFlag::SOCK_CLOEXEC;
    let filter = SockProtocol::NetlinkNetFilter;
    let kernel = socket(AddressFamily::Netlink, SockType::Raw, flags, filter).unwrap();
    // The header says: all tables, of every family.
    let mut question = vec![20, 0, 0, 0, 1, 10, 1, 3];
    question.resize(20, 0);
    send(kernel.as_raw_fd(), &question, MsgFlags::empty()).unwrap();
    let (mut answer, mut part) = (Vec::new(), vec![0u8; 64 << 10]);
    loop {
        let length = recv(kernel.as_raw_fd(), &mut part, MsgFlags::empty()).unwrap();
        answer.extend_from_slice(&part[..length]);
        let done = part[4..6] == 3u16.to_ne_bytes();
        if done || answer.len() > 1 << 24 {
            return answer
                .windows(table.len())
                .any(|window| window == table.as_bytes());
        }
    }
}
