//! How this machine itself reaches services: by their addresses and by node ports.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::Cluster;
use crate::network::{call, inside, says, server};

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

/// An address that no other test's service has: several nodes share this machine.
fn own_address() -> String {
    let number = std::process::id();
    format!("10.96.{}.{}", 100 + number / 250 % 100, 1 + number % 250)
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_reaches_a_service_by_its_address() {
    let cluster = Cluster::start().await;
    let standing = cluster.node_condition("SandlotServicesHere").await;
    if standing["status"] != "True" {
        cluster.stop().await;
        return println!("skipped: {}", standing["message"]);
    }
    let ip = own_address();
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
    let free = 30_000 + (std::process::id() % 2700) as u16;
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
