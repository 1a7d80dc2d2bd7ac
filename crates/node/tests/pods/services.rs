//! How this machine itself reaches services: by their addresses and by node ports.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::Cluster;
use crate::network::{becomes, call, inside, says, server};

/// What this machine hears at an address; nothing when nobody is there.
async fn hears(ip: &str, port: u16) -> Option<String> {
    let conversation = async {
        let mut stream = TcpStream::connect((ip, port)).await.ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await.ok()?;
        Some(said)
    };
    let patience = Duration::from_secs(5);
    tokio::time::timeout(patience, conversation).await.ok()?
}

async fn until_heard(ip: &str, port: u16, wanted: impl Fn(Option<&str>) -> bool) {
    let begun = Instant::now();
    loop {
        let heard = hears(ip, port).await;
        if wanted(heard.as_deref().filter(|said| !said.is_empty())) {
            return;
        }
        assert!(
            begun.elapsed() < crate::harness::PATIENCE,
            "{ip}:{port} says {heard:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An address and a node port that no other test's service has: several nodes share this
/// machine. Each test of this file has a number of its own, below 3.
fn own(test: u32) -> (String, u16) {
    let number = std::process::id();
    let ip = format!(
        "10.96.{}.{}",
        100 + 50 * test + number / 250 % 50,
        1 + number % 250
    );
    (ip, (30_000 + 900 * test + number % 900) as u16)
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_reaches_a_service_by_its_address() {
    let cluster = Cluster::start().await;
    let standing = cluster.node_condition("SandlotServicesHere").await;
    if standing["status"] != "True" {
        cluster.stop().await;
        return println!("skipped: {}", standing["message"]);
    }
    let (ip, _) = own(0);
    let service = json!({"metadata": {"name": "front"}, "spec": {"clusterIP": ip,
        "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    cluster.make("services", service).await;
    for name in ["web-1", "web-2"] {
        server(&cluster, name, json!({"app": "web"})).await;
    }
    until_heard(&ip, 80, |said| said.is_some()).await;
    // A port that the service does not have, and the service when nobody is behind it, are
    // closed at once.
    let begun = Instant::now();
    assert_eq!(hears(&ip, 81).await, None);
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "it was not refused"
    );
    for name in ["web-1", "web-2"] {
        cluster.delete(name).await;
    }
    until_heard(&ip, 80, |said| said.is_none()).await;
    // What a node opened goes with it, and comes again with the next.
    server(&cluster, "web-3", json!({"app": "web"})).await;
    let cluster = cluster.restart_node().await;
    cluster.ready("web-3").await;
    until_heard(&ip, 80, |said| said.is_some()).await;
    cluster.remove("services", "front").await;
    until_heard(&ip, 80, |said| said.is_none()).await;
    cluster.stop().await;
    assert_eq!(hears(&ip, 80).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_port_leads_from_this_machine_s_loopback_to_the_service() {
    let cluster = Cluster::start().await;
    let (_, free) = own(1);
    let service = json!({"metadata": {"name": "front"}, "spec": {"type": "NodePort",
        "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": 8080, "nodePort": free}]}});
    cluster.make("services", service).await;
    server(&cluster, "web", json!({"app": "web"})).await;
    until_heard("127.0.0.1", free, |said| said.is_some()).await;
    // It is this machine's, not the pods'.
    let web = inside(&cluster.ready("web").await);
    for address in ["127.0.0.1", "10.96.0.1", &web] {
        assert_eq!(says(&cluster, "web", &call(address, free)).await, "closed");
    }
    // Only the loopback is open.
    for address in nix::ifaddrs::getifaddrs().unwrap() {
        let Some(ip) = address
            .address
            .and_then(|one| Some(one.as_sockaddr_in()?.ip()))
        else {
            continue;
        };
        if !ip.is_loopback() {
            assert_eq!(hears(&ip.to_string(), free).await, None, "{ip}");
        }
    }
    cluster.remove("services", "front").await;
    until_heard("127.0.0.1", free, |said| said.is_none()).await;
    cluster.stop().await;
}

/// A server that answers every packet with the caller's address.
const PACKET_SERVER: &str = "exec python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"\", 5353))
while True:
    said, who = s.recvfrom(2000); s.sendto(who[0].encode(), who)
'";

/// A script that sends a packet and writes the answer, or `silence`.
fn ask(host: &str, port: u16) -> String {
    format!(
        "python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3)
try: s.sendto(b\"who\", (\"{host}\", {port})); print(s.recv(100).decode())
except OSError: print(\"silence\")
'"
    )
}

/// Sends packets from this machine until one is answered.
async fn until_answered(ip: &str, port: u16) -> String {
    let begun = Instant::now();
    let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await.unwrap();
    loop {
        // Refused at first, when nobody is there yet.
        let _ = socket.send_to(b"who", (ip, port)).await;
        let mut said = [0u8; 100];
        let heard = socket.recv_from(&mut said);
        if let Ok(Ok((length, _))) = tokio::time::timeout(Duration::from_secs(1), heard).await {
            return String::from_utf8_lossy(&said[..length]).into_owned();
        }
        let took = begun.elapsed();
        assert!(took < crate::harness::PATIENCE, "{ip}:{port} is silent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_reach_a_service_from_pods_and_from_this_machine() {
    let cluster = Cluster::start().await;
    let (ip, free) = own(2);
    // The same port is free for connections, which are another protocol's.
    let service = json!({"metadata": {"name": "ask"}, "spec": {"type": "NodePort", "clusterIP": ip,
        "selector": {"app": "ask"}, "ports": [
            {"name": "p", "protocol": "UDP", "port": 53, "targetPort": 5353, "nodePort": free},
            {"name": "c", "port": 53, "targetPort": 5353, "nodePort": free}]}});
    cluster.make("services", service).await;
    cluster
        .create(
            json!({"metadata": {"name": "server", "labels": {"app": "ask"}}, "spec": {
            "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "host",
                "command": ["sh", "-c", PACKET_SERVER],
                "ports": [{"containerPort": 5353, "protocol": "UDP"}]}]}}),
        )
        .await;
    cluster.run("client", "exec sleep 1000").await;
    let own = inside(&cluster.ready("client").await);
    let server = cluster.ready("server").await;
    becomes(&cluster, "client", &ask(&ip, 53), &own).await;
    becomes(&cluster, "client", &ask("ask", 53), &own).await;
    // By its node port, and by the pod's own address; there may be no way to the service's.
    until_answered("127.0.0.1", free).await;
    until_answered(server["status"]["podIP"].as_str().unwrap(), 5353).await;
    if !cluster.lacks("SandlotServicesHere").await {
        until_answered(&ip, 53).await;
    }
    assert_eq!(
        says(&cluster, "client", &ask("127.0.0.1", free)).await,
        "silence"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_port_that_cannot_be_opened_is_an_event_of_its_service() {
    let cluster = Cluster::start().await;
    let (_, free) = own(2);
    let service = |name, protocol, port| {
        json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "selector": {"app": "x"},
            "ports": [{"protocol": protocol, "port": 80, "nodePort": port}]}})
    };
    let streams = service("streams", "SCTP", free);
    cluster.make("services", streams).await;
    let said = cluster.event("streams", "NodePortNotOpened").await;
    let named = format!("node port {}/SCTP is not opened", free);
    assert!(said.starts_with(&named), "{said}");
    assert_eq!(
        cluster.events("streams", "NodePortNotOpened").await.len(),
        1
    );
    cluster.stop().await;
}

/// It does keep track of everything else: the rules for pods live on that.
#[tokio::test(flavor = "multi_thread")]
async fn what_this_machine_says_to_itself_nobody_keeps_track_of() {
    let cluster = Cluster::start().await;
    let listen = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (own, other) = (listen().await, listen().await);
    let ports = [&own, &other].map(|listener| listener.local_addr().unwrap().port());
    let tracked = async |port: u16| {
        // Kept open, for the kernel to have something to know of.
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let from = stream.local_addr().unwrap().port();
        let known = std::fs::read_to_string("/proc/net/nf_conntrack").unwrap_or_default();
        known.contains(&format!("sport={from} dport={port} "))
    };
    if !tracked(ports[1]).await {
        cluster.stop().await;
        return println!("skipped: this machine does not show what it keeps track of");
    }
    cluster.node.speaks_to_itself_at([ports[0]]);
    let begun = Instant::now();
    while tracked(ports[0]).await {
        assert!(begun.elapsed() < crate::harness::PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(tracked(ports[1]).await);
    cluster.stop().await;
}
