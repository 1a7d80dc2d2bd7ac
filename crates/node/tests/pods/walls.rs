//! What is closed to pods: this machine with everything that listens on it, and, where the
//! kernel takes no rules for packets, everybody else too.

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use sandlot_cluster::server::{Limits, Listen};
use sandlot_node::PacketRules;
use serde_json::json;

use crate::Cluster;
use crate::network::{call, inside, says, server};

/// Every address that this machine has, its loopback's among them.
fn addresses() -> Vec<Ipv4Addr> {
    let found = nix::ifaddrs::getifaddrs().unwrap();
    let mut all: Vec<Ipv4Addr> = found
        .filter_map(|one| Some(one.address?.as_sockaddr_in()?.ip()))
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Tries every address with every port, all at once, and writes which connections were made
/// and held: a node that carries connections resets those that it may not make.
fn call_all(addresses: &[Ipv4Addr], ports: &[u16]) -> String {
    format!(
        "python3 -c '
import socket, concurrent.futures as f
def one(to):
    try: s = socket.create_connection(to, 3)
    except OSError: return \"\"
    try: s.recv(1)
    except TimeoutError: pass
    except OSError: return \"\"
    return \"%s:%d\" % to
all = [(a, p) for a in \"{}\".split() for p in {ports:?}]
with f.ThreadPoolExecutor(32) as pool: print(\" \".join(filter(None, pool.map(one, all))))
'",
        addresses
            .iter()
            .map(Ipv4Addr::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    )
}

/// Says what it is sent.
fn heard(socket: &UdpSocket) -> Option<String> {
    let mut said = [0; 16];
    let length = socket.recv(&mut said).ok()?;
    Some(String::from_utf8_lossy(&said[..length]).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_listens_on_this_machine_is_open_to_a_pod() {
    let cluster = Cluster::start().await;
    // The API as `sandlot up --listen 0.0.0.0:…` has it, and what stands for a gateway and a
    // broker that somebody let listen everywhere.
    let keys = tempfile::tempdir().unwrap();
    let api = Listen {
        address: ([0, 0, 0, 0], 0).into(),
        keys: keys.path().to_owned(),
        kubeconfig: None,
        name: "test".to_owned(),
        limits: Limits::default(),
    };
    let api = cluster.listen(api).await;
    let services: Vec<TcpListener> = (0..2)
        .map(|_| TcpListener::bind("0.0.0.0:0").unwrap())
        .collect();
    let mut ports = vec![api.address.port()];
    ports.extend(services.iter().map(|one| one.local_addr().unwrap().port()));
    // Those of other tests' bridges may go at any moment.
    let mut addresses = addresses();
    addresses.retain(|address| {
        ports.iter().all(|port| {
            let there = (*address, *port).into();
            TcpStream::connect_timeout(&there, Duration::from_secs(5)).is_ok()
        })
    });
    assert!(addresses.len() >= 2, "not even open here: {addresses:?}");
    cluster.run("p", "exec sleep 1000").await;
    cluster.ready("p").await;
    let reached = says(&cluster, "p", &call_all(&addresses, &ports)).await;
    assert_eq!(reached, "", "open to pods");
    // Nor by packets that need no answer.
    let packets = UdpSocket::bind("0.0.0.0:0").unwrap();
    packets
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let port = packets.local_addr().unwrap().port();
    for address in &addresses {
        let outside = UdpSocket::bind("0.0.0.0:0").unwrap();
        let sent = outside.send_to(b"here", (*address, port)).is_ok();
        let proved = sent && heard(&packets).as_deref() == Some("here");
        assert!(proved || !address.is_loopback(), "{address}");
        let script = format!("echo there > /dev/udp/{address}/{port}");
        cluster
            .exec("p", &format!("bash -c '{script}' 2>/dev/null"))
            .await;
    }
    assert_eq!(heard(&packets), None);
    api.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_kernel_takes_no_rules_pods_are_cut_off_and_the_node_still_reaches_them() {
    let none = |config: &mut sandlot_node::NodeConfig| {
        config.packet_rules = PacketRules::None;
        config.agent_ports = vec![7777];
    };
    let cluster = Cluster::with(none).await;
    let firewall = cluster.node_condition("SandlotFirewall").await;
    assert_eq!(firewall["status"], "False");
    assert!(
        firewall["message"].as_str().unwrap().contains("cut off"),
        "{firewall}"
    );
    assert_eq!(
        cluster.node_condition("SandlotEgress").await["status"],
        "False"
    );

    let shown = server(&cluster, "web", json!({"app": "web"})).await;
    assert!(shown.starts_with("127."), "{shown}");
    let web = inside(&cluster.ready("web").await);
    cluster.run("client", "exec sleep 1000").await;
    cluster.ready("client").await;
    // The node comes to the pod: probes did, this machine does, and so do commands and names.
    let mut stream = tokio::net::TcpStream::connect((shown.as_str(), 8080))
        .await
        .unwrap();
    let mut said = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut said)
        .await
        .unwrap();
    assert!(!said.is_empty());
    let names = "python3 -c 'import socket;print(socket.gethostbyname(\"kubernetes.default.svc.cluster.local\"))'";
    assert_eq!(says(&cluster, "client", names).await, "10.96.0.1");

    // Nobody else is reached, by no address.
    for address in [&web, &shown] {
        assert_eq!(
            says(&cluster, "client", &call(address, 8080)).await,
            "closed"
        );
    }
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut all = addresses();
    let resolver = "sed -n 's/nameserver //p' /etc/resolv.conf";
    all.push(says(&cluster, "client", resolver).await.parse().unwrap());
    assert_eq!(says(&cluster, "client", &call_all(&all, &[port])).await, "");

    // Even one that may change its own network finds no way.
    let container = json!({"name": "c", "image": "host", "command": ["sleep", "1000"],
        "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}});
    cluster
        .create(json!({"metadata": {"name": "mighty"}, "spec": {"containers": [container]}}))
        .await;
    cluster.until_event("mighty", "Failed", "NET_ADMIN").await;
    cluster.delete("mighty").await;

    // A node that starts again finds them.
    let before = cluster.pods().get("web").await.unwrap().status;
    let cluster = cluster.restart_node_as(none).await;
    let after = cluster.ready("web").await;
    assert_eq!(
        after["status"]["containerStatuses"],
        serde_json::to_value(before).unwrap()["containerStatuses"]
    );
    cluster.until_shows("web", "echo here", "here").await;
    tokio::net::TcpStream::connect((shown.as_str(), 8080))
        .await
        .unwrap();
    for name in ["web", "client"] {
        cluster.delete(name).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_sandbox_any_more_needs_the_node_s_leave() {
    let cluster = Cluster::start().await;
    let own = cluster.dir.display().to_string();
    let sysctl =
        |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
    let volume = |path: &str| json!({"volumes": [{"name": "v", "hostPath": {"path": path}}]});
    for (name, more, reason, says) in [
        (
            "network",
            json!({"hostNetwork": true}),
            "FailedCreatePodSandBox",
            "hostNetwork",
        ),
        (
            "processes",
            json!({"hostPID": true}),
            "FailedCreatePodSandBox",
            "hostPID",
        ),
        (
            "memory",
            json!({"hostIPC": true}),
            "FailedCreatePodSandBox",
            "hostIPC",
        ),
        (
            "core-pattern",
            sysctl("kernel.core_pattern"),
            "FailedCreatePodSandBox",
            "forbidden sysctl",
        ),
        (
            "unsafe",
            sysctl("net.core.somaxconn"),
            "FailedCreatePodSandBox",
            "forbidden sysctl",
        ),
        (
            "own-folder",
            volume(&own),
            "FailedMount",
            "Sandlot's own folder",
        ),
        (
            "above-it",
            volume("/"),
            "FailedMount",
            "Sandlot's own folder",
        ),
    ] {
        let mut spec = json!({"containers": [{"name": "c", "image": "host", "command": ["true"]}]});
        let fields = spec.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        cluster
            .create(json!({"metadata": {"name": name}, "spec": spec}))
            .await;
        cluster.until_event(name, reason, says).await;
        cluster.delete(name).await;
    }
    let safe = sysctl("net.ipv4.tcp_syncookies");
    let mut spec =
        json!({"containers": [{"name": "c", "image": "host", "command": ["sleep", "1000"]}]});
    spec["securityContext"] = safe["securityContext"].clone();
    cluster
        .create(json!({"metadata": {"name": "safe"}, "spec": spec}))
        .await;
    cluster.ready("safe").await;
    cluster
        .until_shows("safe", "cat /proc/sys/net/ipv4/tcp_syncookies", "1")
        .await;
    cluster.stop().await;
}
