//! Pods that may write packets by hand and speak under addresses of others. Each attempt is
//! also made on a node that does not look at senders, to prove that it would work.

use sandlot_node::PacketRules;
use serde_json::json;

use crate::Cluster;
use crate::network::{inside, says};

/// Writes down what it is told.
const LISTENER: &str = "exec python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"\", 7000))
while True:
    said, who = s.recvfrom(100)
    open(\"/tmp/heard\", \"a\").write(said.decode() + \"\\n\")
'";

/// Speaks to VICTIM under the address and the hardware of OTHER in every way, says something in
/// its own name, and at last tells GATEWAY that it is the VICTIM.
const FORGER: &str = r#"
import fcntl, os, socket, struct, subprocess, time
victim, other, gateway = (os.environ[name] for name in ("VICTIM", "OTHER", "GATEWAY"))
raw = lambda ip: socket.inet_aton(ip)
plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
plain.sendto(b"x", (gateway, 9))
own = next(iter(subprocess.run("ip -4 -o addr show eth0", shell=True, capture_output=True,
    text=True).stdout.split("inet ")[1:])).split("/")[0]
mac = open("/sys/class/net/eth0/address").read().strip() if os.path.exists("/sys/class/net/eth0/address") else ""
mac = bytes.fromhex(mac.replace(":", "")) or b"\x02S" + raw(own)
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def packet(source, said):
    udp = struct.pack("!4H", 7001, 7000, 8 + len(said), 0) + said
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + raw(source) + raw(victim)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + udp
deadline = time.time() + 10
router = b""
while not router and time.time() < deadline:
    for line in open("/proc/net/arp").readlines()[1:]:
        ip, _, _, found, _, _ = line.split()
        if ip == gateway and found != "00:00:00:00:00:00": router = bytes.fromhex(found.replace(":", ""))
    time.sleep(.05)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x800)); wire.bind(("eth0", 0))
by_hand = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
arp = struct.pack("!HHBBH", 1, 0x800, 6, 4, 2) + mac + raw(victim) + router + raw(gateway)
subprocess.run(["ip", "addr", "add", other + "/32", "dev", "eth0"])
taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); taken.bind((other, 7002))
for _ in range(25):
    by_hand.sendto(packet(other, b"raw"), (victim, 0))
    wire.send(router + mac + b"\x08\x00" + packet(other, b"frame"))
    wire.send(router + b"\x02S" + raw(other) + b"\x08\x00" + packet(own, b"hardware"))
    taken.sendto(b"taken", (victim, 7000))
    time.sleep(.02)
plain.sendto(b"own", (victim, 7000))
# The machine believes news of its neighbours at most once a second.
for _ in range(25):
    wire.send(router + mac + b"\x08\x06" + arp)
    time.sleep(.1)
"#;

/// What came of the attempts.
#[derive(Debug, PartialEq, Eq)]
struct Fooled {
    /// What the victim heard, each once, in order.
    heard: Vec<String>,
    /// The machine sends what is meant for the victim to somebody else; none where it cannot
    /// be looked at.
    misled: Option<bool>,
}

async fn forge(cluster: &Cluster) -> Fooled {
    let pod = |name: &str, script: &str, add: &[&str]| {
        json!({"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "c", "image": "host", "command": ["sh", "-c", script],
            "securityContext": {"capabilities": {"add": add}}}]}})
    };
    let idle = "exec sleep 1000";
    cluster.create(pod("victim", LISTENER, &[])).await;
    cluster.create(pod("other", idle, &[])).await;
    let powers = ["NET_RAW", "NET_ADMIN"];
    cluster.create(pod("forger", idle, &powers)).await;
    let mut addresses = Vec::new();
    for name in ["victim", "other", "forger"] {
        addresses.push(inside(&cluster.ready(name).await));
    }
    let (victim, other) = (&addresses[0], &addresses[1]);
    let resolver = "sed -n 's/nameserver //p' /etc/resolv.conf";
    let gateway = says(cluster, "forger", resolver).await;
    // The machine knows where the victim is; without root it is somewhere else.
    let _ = std::net::UdpSocket::bind("0.0.0.0:0")
        .unwrap()
        .send_to(b"x", (victim.as_str(), 9));
    let script = format!(
        "export VICTIM={victim} OTHER={other} GATEWAY={gateway}; cat > /tmp/f.py <<'EOF'\n{FORGER}\nEOF\npython3 /tmp/f.py"
    );
    let (code, said) = cluster.exec("forger", &script).await;
    assert_eq!(code, 0, "{said}");
    let heard = "grep -c own /tmp/heard";
    cluster.until_shows("victim", heard, "1").await;
    let heard = says(cluster, "victim", "sort -u /tmp/heard").await;
    let true_one = says(
        cluster,
        "victim",
        "ip -o link show eth0 | sed 's/.*ether //; s/ .*//'",
    )
    .await;
    Fooled {
        heard: heard.lines().map(str::to_owned).collect(),
        misled: neighbour(victim).map(|found| found != true_one),
    }
}

/// The hardware that this machine takes an address to be.
fn neighbour(ip: &str) -> Option<String> {
    let known = std::fs::read_to_string("/proc/net/arp").ok()?;
    let line = known
        .lines()
        .find(|line| line.split_whitespace().next() == Some(ip))?;
    line.split_whitespace().nth(3).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_speaks_under_no_address_but_its_own() {
    let cluster = Cluster::start().await;
    let standing = cluster.node_condition("SandlotSenders").await;
    if standing["status"] != "True" {
        cluster.stop().await;
        return println!("skipped: {}", standing["message"]);
    }
    let fooled = forge(&cluster).await;
    assert_eq!(fooled.heard, ["own"]);
    assert_ne!(fooled.misled, Some(true));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_look_at_senders_each_forgery_works() {
    let cluster = Cluster::with(|config| {
        config.packet_rules = PacketRules::WithoutSenders;
        config.allow_privileged = true;
    })
    .await;
    let fooled = forge(&cluster).await;
    assert_eq!(fooled.heard, ["frame", "hardware", "own", "raw", "taken"]);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(fooled.misled, Some(true));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_senders_are_not_looked_at_no_pod_may_write_packets() {
    let cluster = Cluster::with(|config| config.packet_rules = PacketRules::WithoutSenders).await;
    let condition = cluster.node_condition("SandlotSenders").await;
    assert_eq!(condition["status"], "False");
    for power in ["NET_RAW", "NET_ADMIN"] {
        let name = power.to_lowercase().replace('_', "-");
        let container = json!({"name": "c", "image": "host", "command": ["sleep", "1000"],
            "securityContext": {"capabilities": {"add": [power]}}});
        cluster
            .create(json!({"metadata": {"name": name}, "spec": {"containers": [container]}}))
            .await;
        cluster
            .until_event(&name, "Failed", "NET_RAW and NET_ADMIN")
            .await;
        cluster.delete(&name).await;
    }
    cluster.run("usual", "exec sleep 1000").await;
    cluster.ready("usual").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_cannot_write_packets_unless_it_asks_to() {
    let cluster = Cluster::start().await;
    cluster.run("usual", "exec sleep 1000").await;
    cluster.ready("usual").await;
    let attempt = "python3 -c \"import socket;socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW);print('may')\" 2>/dev/null || echo may not";
    assert_eq!(says(&cluster, "usual", attempt).await, "may not");
    cluster.stop().await;
}
