//! Exec, attach, port-forward and logs, as kube-rs and kubectl use them.

use std::process::Stdio;
use std::sync::atomic::Ordering;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, LogParams};
use sandlot_cluster::{Cluster, Config};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::echo::{all_ended, furnish};
use crate::kubectl::{Reachable, said};

async fn pods() -> (Cluster, kube::Api<Pod>) {
    let cluster = Cluster::start(Config::default()).await.unwrap();
    furnish(&cluster).await;
    let pods = kube::Api::namespaced(cluster.client(), "default");
    (cluster, pods)
}

#[tokio::test]
async fn a_client_in_process_runs_commands() {
    let (cluster, pods) = pods().await;
    let mut said = pods
        .exec("web", ["say", "hello"], &AttachParams::default())
        .await
        .unwrap();
    let mut text = String::new();
    said.stdout()
        .unwrap()
        .read_to_string(&mut text)
        .await
        .unwrap();
    assert_eq!(text, "main: hello\n");
    let status = said.take_status().unwrap().await.unwrap();
    assert_eq!(status.status.as_deref(), Some("Success"));

    let params = AttachParams::default()
        .container("side")
        .stdin(true)
        .stdout(true)
        .stderr(true);
    let mut cat = pods.exec("web", ["cat"], &params).await.unwrap();
    let mut stdin = cat.stdin().unwrap();
    stdin.write_all(b"to and fro").await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut text = String::new();
    cat.stdout()
        .unwrap()
        .read_to_string(&mut text)
        .await
        .unwrap();
    assert_eq!(text, "to and fro");
    cluster.stop().await;
}

#[tokio::test]
async fn a_command_that_fails_tells_its_code() {
    let (cluster, pods) = pods().await;
    let mut failed = pods
        .exec("web", ["fail", "3"], &AttachParams::default())
        .await
        .unwrap();
    let mut text = String::new();
    failed
        .stderr()
        .unwrap()
        .read_to_string(&mut text)
        .await
        .unwrap();
    assert_eq!(text, "it went wrong\n");
    let status = failed.take_status().unwrap().await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    let causes = status.details.unwrap().causes.unwrap();
    assert_eq!(
        (causes[0].reason.as_deref(), causes[0].message.as_deref()),
        (Some("ExitCode"), Some("3"))
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_terminal_learns_its_size() {
    let (cluster, pods) = pods().await;
    let params = AttachParams::interactive_tty();
    let mut shell = pods.exec("web", ["size"], &params).await.unwrap();
    let size = kube::api::TerminalSize {
        width: 80,
        height: 25,
    };
    use futures::SinkExt;
    shell.terminal_size().unwrap().send(size).await.unwrap();
    let mut text = String::new();
    shell
        .stdout()
        .unwrap()
        .read_to_string(&mut text)
        .await
        .unwrap();
    assert_eq!(text, "80x25\n");
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_command() {
    let cluster = Cluster::start(Config::default()).await.unwrap();
    let running = furnish(&cluster).await;
    let pods: kube::Api<Pod> = kube::Api::namespaced(cluster.client(), "default");
    let hang = pods
        .exec("web", ["hang"], &AttachParams::default())
        .await
        .unwrap();
    while running.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    hang.abort();
    drop(hang);
    all_ended(&running).await;
    cluster.stop().await;
}

#[tokio::test]
async fn stopping_the_cluster_ends_every_stream() {
    let cluster = Cluster::start(Config::default()).await.unwrap();
    let running = furnish(&cluster).await;
    let pods: kube::Api<Pod> = kube::Api::namespaced(cluster.client(), "default");
    let hang = pods
        .exec("web", ["hang"], &AttachParams::default())
        .await
        .unwrap();
    while running.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    cluster.stop().await;
    assert_eq!(running.load(Ordering::SeqCst), 0);
    drop(hang);
}

#[tokio::test]
async fn a_port_is_forwarded_in_process() {
    let (cluster, pods) = pods().await;
    let mut forward = pods.portforward("web", &[80]).await.unwrap();
    let mut stream = forward.take_stream(80).unwrap();
    stream.write_all(b"hi\n").await.unwrap();
    let mut text = [0; 12];
    stream.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"you said hi\n");
    cluster.stop().await;
}

#[tokio::test]
async fn logs_are_read_as_asked() {
    let (cluster, pods) = pods().await;
    let params = LogParams {
        tail_lines: Some(5),
        container: Some("side".into()),
        ..LogParams::default()
    };
    assert_eq!(
        pods.logs("web", &params).await.unwrap(),
        "side says Some(5)\n"
    );
    for (params, code, words) in [
        (
            LogParams {
                previous: true,
                ..LogParams::default()
            },
            400,
            "previous terminated container",
        ),
        (
            LogParams {
                container: Some("x".into()),
                ..LogParams::default()
            },
            400,
            "container x is not valid for pod web",
        ),
        (
            LogParams {
                tail_lines: Some(-1),
                ..LogParams::default()
            },
            422,
            "must be greater than or equal to 0",
        ),
    ] {
        let Err(kube::Error::Api(status)) = pods.logs("web", &params).await else {
            panic!("{words}")
        };
        assert!(
            status.code == code && status.message.contains(words),
            "{status:?}"
        );
    }
    let Err(kube::Error::Api(status)) = pods.logs("gone", &LogParams::default()).await else {
        panic!()
    };
    assert_eq!(status.message, "pods \"gone\" not found");
    cluster.stop().await;
}

#[tokio::test]
async fn kubectl_runs_commands_and_reads_logs() {
    let reachable = Reachable::start().await;
    furnish(&reachable.cluster).await;
    for (words, expected) in [
        ("exec web -- say hello", "main: hello"),
        ("exec web -c side -- say hello", "side: hello"),
        (
            "exec web -- fail 7",
            "it went wrong\ncommand terminated with exit code 7",
        ),
        ("logs web --tail=3", "main says Some(3)"),
        (
            "logs web -c nowhere",
            "error: container nowhere is not valid for pod web",
        ),
    ] {
        assert_eq!(
            said(&reachable.kubectl(words).await),
            expected,
            "kubectl {words}"
        );
    }
    let flood = reachable.kubectl("exec web -- flood 5000000").await;
    assert_eq!(flood.stdout.len(), 5_000_000);
    reachable.stop().await;
}

#[tokio::test]
async fn kubectl_sends_stdin_and_its_end() {
    let reachable = Reachable::start().await;
    furnish(&reachable.cluster).await;
    for spdy in ["true", "false"] {
        let mut cat = Command::new("kubectl")
            .env("KUBECONFIG", reachable.folder.path().join("kubeconfig"))
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", spdy)
            .args(["exec", "-i", "web", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = cat.stdin.take().unwrap();
        let sent = "0123456789abcdef".repeat(20_000);
        let send = async {
            stdin.write_all(sent.as_bytes()).await.unwrap();
            drop(stdin);
        };
        let (output, ()) = tokio::join!(cat.wait_with_output(), send);
        assert!(
            output.unwrap().stdout == sent.as_bytes(),
            "WebSockets: {spdy}"
        );
    }
    reachable.stop().await;
}

#[tokio::test]
async fn kubectl_forwards_ports() {
    let reachable = Reachable::start().await;
    furnish(&reachable.cluster).await;
    for websockets in ["true", "false"] {
        let mut forward = Command::new("kubectl")
            .env("KUBECONFIG", reachable.folder.path().join("kubeconfig"))
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
            .args(["port-forward", "pod/web", ":80"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(forward.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().unwrap();
        let address = line.split_whitespace().nth(2).unwrap().to_owned();
        let talk = async |word: &str| {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream
                .write_all(format!("{word}\n").as_bytes())
                .await
                .unwrap();
            let mut answer = BufReader::new(stream).lines();
            answer.next_line().await.unwrap().unwrap()
        };
        for _ in 0..3 {
            let (one, two) = tokio::join!(talk("one"), talk("two"));
            assert_eq!(
                (one.as_str(), two.as_str()),
                ("you said one", "you said two")
            );
        }
        forward.kill().await.unwrap();
    }
    reachable.stop().await;
}

#[tokio::test]
async fn kubectl_shows_what_pods_use() {
    let reachable = Reachable::start().await;
    furnish(&reachable.cluster).await;
    let top = said(&reachable.kubectl("top pods --no-headers").await);
    assert_eq!(
        top.split_whitespace().collect::<Vec<_>>(),
        ["web", "250m", "64Mi"]
    );
    reachable.stop().await;
}
