//! Probes decide when a container is started, ready and alive.

use serde_json::{Value, json};

use crate::Cluster;
use crate::harness::{condition, state};

/// Serves `grpc.health.v1.Health` as far as a probe needs it: whatever is asked, the answer
/// is the file `/tmp/health`, 1 for serving and 2 for not.
const HEALTH: &str = r#"
import socket
def frame(kind, flags, stream, body=b""):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body
server = socket.create_server(("", 7000), backlog=16)
while True:
    client, _ = server.accept()
    data = client.recv(65536)
    while b"\x01\x04\x00\x00\x00\x01" not in data[24:]:
        more = client.recv(65536)
        if not more: break
        data += more
    health = int(open("/tmp/health").read())
    text = b"\x10application/grpc"
    client.sendall(frame(4, 0, 0) + frame(4, 1, 0)
        + frame(1, 4, 1, b"\x88\x0f\x10" + text)
        + frame(0, 0, 1, bytes([0, 0, 0, 0, 2, 8, health]))
        + frame(1, 5, 1, b"\x00\x0bgrpc-status\x010"))
    client.settimeout(1)
    try: client.recv(65536)
    except OSError: pass
    client.close()
"#;

/// Serves the file `/tmp/code` as the status of every answer.
const WEB: &str = r#"
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers["X-Word"] == "hush" and self.path == "/live?a=b"
        self.send_response(int(open("/tmp/code").read()) if wanted else 404)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("", 7000), Answer).serve_forever()
"#;

/// A shop behind TLS with the certificate in PEM, which it sends from its door on to its
/// counter; the file `/tmp/code` is what it answers there. It knows its guests by their words.
const SHOP: &str = r#"
import http.server, os, ssl
open("/tmp/pem", "w").write(os.environ["PEM"])
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.headers["Host"] == "shop" and self.headers["X-Word"] == "hush"
        to = {"/door": "/counter", "/out": "https://203.0.113.9/", "/circle": "/circle"}.get(self.path)
        code = 404 if not known else 302 if to else int(open("/tmp/code").read())
        self.send_response(code)
        if to: self.send_header("Location", to)
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("", 7000), Shop)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("/tmp/pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

fn pod(name: &str, script: &str, probes: Value) -> Value {
    let mut container = json!({"name": "c", "image": "host", "command": ["python3", "-c", script],
        "ports": [{"name": "web", "containerPort": 7000}]});
    if let (Some(container), Some(more)) = (container.as_object_mut(), probes.as_object()) {
        container.extend(more.clone());
    }
    json!({"metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}})
}

async fn is_ready(cluster: &Cluster, name: &str, wanted: &str) {
    cluster
        .until(name, wanted, |pod| condition(pod, "Ready") == wanted)
        .await;
}

fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_u64()
        .unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_what_an_http_server_answers() {
    let cluster = Cluster::start().await;
    let probe = json!({"periodSeconds": 1, "failureThreshold": 1, "httpGet": {"port": "web",
        "path": "/live?a=b", "httpHeaders": [{"name": "X-Word", "value": "hush"}]}});
    let script = format!("open('/tmp/code','w').write('503')\n{WEB}");
    cluster
        .create(pod("p", &script, json!({"readinessProbe": probe})))
        .await;
    // Before it listens it has not written its first word either.
    cluster
        .until_event("p", "Unhealthy", "statuscode: 503")
        .await;
    is_ready(&cluster, "p", "False").await;
    for (code, ready) in [("204", "True"), ("500", "False"), ("302", "True")] {
        cluster.exec("p", &format!("echo {code} > /tmp/code")).await;
        is_ready(&cluster, "p", ready).await;
    }
    let said = cluster.events("p", "Unhealthy").await;
    assert!(
        said.contains(&"Readiness probe failed: HTTP probe failed with statuscode: 500".into()),
        "{said:?}"
    );
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_https_server_is_asked_whoever_it_is_and_followed_to_where_it_sends() {
    let cluster = Cluster::start().await;
    let made = rcgen::generate_simple_self_signed(["somebody.else".to_owned()]).unwrap();
    let pem = made.cert.pem() + &made.signing_key.serialize_pem();
    let probe = |path: &str| {
        json!({"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5,
            "httpGet": {"port": "web", "scheme": "HTTPS", "path": path, "httpHeaders": [
                {"name": "Host", "value": "shop"}, {"name": "X-Word", "value": "hush"}]}})
    };
    let script = format!("open('/tmp/code','w').write('200')\n{SHOP}");
    for (name, path) in [("in", "/door"), ("out", "/out"), ("circle", "/circle")] {
        let more = json!({"readinessProbe": probe(path), "env": [{"name": "PEM", "value": pem}]});
        cluster.create(pod(name, &script, more)).await;
    }
    is_ready(&cluster, "in", "True").await;
    cluster.exec("in", "echo 500 > /tmp/code").await;
    is_ready(&cluster, "in", "False").await;
    cluster
        .until_event("in", "Unhealthy", "statuscode: 500")
        .await;
    // Who is sent to another host has been answered; nobody is asked there.
    is_ready(&cluster, "out", "True").await;
    cluster
        .until_event("circle", "Unhealthy", "stopped after 10 redirects")
        .await;
    is_ready(&cluster, "circle", "False").await;
    for name in ["in", "out", "circle"] {
        cluster.delete(name).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_asks_the_host_that_it_names() {
    let cluster = Cluster::start().await;
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let idle = "import time\ntime.sleep(1000)";
    let tcp = |host: &str| json!({"periodSeconds": 1, "tcpSocket": {"host": host, "port": port}});
    for (name, host) in [("by-name", "localhost"), ("by-address", "127.0.0.1")] {
        let probes = json!({"readinessProbe": tcp(host)});
        cluster.create(pod(name, idle, probes)).await;
    }
    let nobody = json!({"readinessProbe": tcp("no-such-host.invalid")});
    cluster.create(pod("nobody", idle, nobody)).await;
    is_ready(&cluster, "by-name", "True").await;
    is_ready(&cluster, "by-address", "True").await;
    cluster
        .until_event("nobody", "Unhealthy", "dial tcp no-such-host.invalid")
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_what_a_grpc_server_says_of_its_health() {
    let cluster = Cluster::start().await;
    let probe = json!({"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5,
        "grpc": {"port": 7000}});
    let script = format!("open('/tmp/health','w').write('1')\n{HEALTH}");
    cluster
        .create(pod("p", &script, json!({"readinessProbe": probe})))
        .await;
    is_ready(&cluster, "p", "True").await;
    cluster.exec("p", "echo 2 > /tmp/health").await;
    is_ready(&cluster, "p", "False").await;
    cluster.until_event("p", "Unhealthy", "not serving").await;
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_waits_for_a_port_to_be_open() {
    let cluster = Cluster::start().await;
    let script = "import os,time,socket\nwhile not os.path.exists('/tmp/go'): time.sleep(.05)\n\
        s=socket.create_server(('',7000))\nwhile 1: s.accept()";
    let probe = json!({"periodSeconds": 1, "tcpSocket": {"port": "web"}});
    cluster
        .create(pod("p", script, json!({"readinessProbe": probe})))
        .await;
    cluster
        .until_event("p", "Unhealthy", "Readiness probe failed: dial tcp")
        .await;
    is_ready(&cluster, "p", "False").await;
    cluster.exec("p", "touch /tmp/go").await;
    is_ready(&cluster, "p", "True").await;
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn liveness_is_not_asked_before_the_startup_probe_has_succeeded() {
    let cluster = Cluster::start().await;
    let startup = json!({"periodSeconds": 1, "failureThreshold": 100,
        "exec": {"command": ["test", "-e", "/tmp/started"]}});
    let liveness = json!({"periodSeconds": 1, "failureThreshold": 1,
        "exec": {"command": ["test", "-e", "/tmp/alive"]}});
    let probes = json!({"startupProbe": startup, "livenessProbe": liveness});
    cluster
        .create(pod("p", "import time\ntime.sleep(1000)", probes))
        .await;
    cluster
        .until_event("p", "Unhealthy", "Startup probe failed")
        .await;
    let young = cluster
        .until("p", "there", |pod| state(pod)["running"].is_object())
        .await;
    assert_eq!(young["status"]["containerStatuses"][0]["started"], false);
    assert_eq!(condition(&young, "Ready"), "False");
    cluster.exec("p", "touch /tmp/alive /tmp/started").await;
    is_ready(&cluster, "p", "True").await;
    cluster.exec("p", "rm /tmp/alive").await;
    cluster
        .until_event(
            "p",
            "Killing",
            "Container c failed liveness probe, will be restarted",
        )
        .await;
    let pod = cluster
        .until("p", "restarted", |pod| restarts(pod) > 0)
        .await;
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 137);
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_never_starts_up_is_run_again() {
    let cluster = Cluster::start().await;
    let startup =
        json!({"periodSeconds": 1, "failureThreshold": 2, "exec": {"command": ["false"]}});
    let script = "import time\ntime.sleep(1000)";
    cluster
        .create(pod("p", script, json!({"startupProbe": startup})))
        .await;
    cluster
        .until_event("p", "Killing", "failed startup probe")
        .await;
    cluster
        .until("p", "restarted", |pod| restarts(pod) > 0)
        .await;
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_takes_too_long_has_failed() {
    let cluster = Cluster::start().await;
    let slow = json!({"periodSeconds": 1, "timeoutSeconds": 1,
        "exec": {"command": ["sleep", "1000"]}});
    let script = "import time\ntime.sleep(1000)";
    cluster
        .create(pod("p", script, json!({"readinessProbe": slow})))
        .await;
    cluster.until_event("p", "Unhealthy", "timed out").await;
    // The command does not outlive its time.
    cluster
        .until_shows(
            "p",
            "grep -l '^sleep' /proc/[0-9]*/cmdline | wc -l; true",
            "1",
        )
        .await;
    cluster.delete("p").await;
    cluster.stop().await;
}
