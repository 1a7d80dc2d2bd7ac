//! A node that runs no pods, but answers as if it did.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use sandlot_cluster::Cluster;
use sandlot_cluster::kubelet::{
    BoxFuture, ContainerRef, ContainerUsage, Exit, Kubelet, KubeletError, LogOptions, PodUsage,
    Reader, Streams, Writer,
};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy, duplex, split};

/// A node whose commands echo: `say` what follows, `cat` stdin, `fail` with a code, `flood`
/// with bytes, `hang` for ever, `size` of the terminal.
#[derive(Default)]
pub(crate) struct Echo {
    /// Commands that run now.
    pub(crate) running: Arc<AtomicUsize>,
}

/// Counts one command for as long as it runs.
struct Runs(Arc<AtomicUsize>);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Kubelet for Echo {
    fn logs(
        &self,
        of: ContainerRef,
        options: LogOptions,
    ) -> BoxFuture<'_, Result<BoxStream<'static, io::Result<Bytes>>, KubeletError>> {
        Box::pin(async move {
            if options.previous {
                let why = format!("previous terminated container {:?} not found", of.container);
                return Err(KubeletError::BadRequest(why));
            }
            let line = format!("{} says {:?}\n", of.container, options.tail_lines);
            let first = futures::stream::iter([Ok(Bytes::from(line))]);
            Ok(if options.follow {
                first.chain(futures::stream::pending()).boxed()
            } else {
                first.boxed()
            })
        })
    }

    fn exec(
        &self,
        of: ContainerRef,
        command: Vec<String>,
        streams: Streams,
    ) -> BoxFuture<'_, Result<Exit, KubeletError>> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let runs = Runs(self.running.clone());
        Box::pin(async move {
            let code = run(&of, &command, streams).await;
            drop(runs);
            code.map_err(|error| KubeletError::Internal(error.to_string()))
        })
    }

    fn attach(
        &self,
        of: ContainerRef,
        streams: Streams,
    ) -> BoxFuture<'_, Result<Exit, KubeletError>> {
        self.exec(of, vec!["cat".to_owned()], streams)
    }

    fn connect(
        &self,
        _: String,
        _: String,
        port: u16,
    ) -> BoxFuture<'_, Result<(Reader, Writer), KubeletError>> {
        Box::pin(async move {
            if port != 80 {
                return Err(KubeletError::Internal("connection refused".to_owned()));
            }
            let (near, far) = duplex(1024);
            tokio::spawn(async move {
                let (from, mut to) = split(far);
                let mut lines = BufReader::new(from).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    to.write_all(format!("you said {line}\n").as_bytes())
                        .await
                        .unwrap();
                }
            });
            let (from, to) = split(near);
            Ok((Box::new(from) as Reader, Box::new(to) as Writer))
        })
    }

    fn usage(&self) -> BoxFuture<'_, Vec<PodUsage>> {
        let container = ContainerUsage {
            name: "main".into(),
            cpu_nanocores: 250_000_000,
            memory_bytes: 64 << 20,
        };
        let usage = PodUsage {
            namespace: "default".into(),
            pod: "web".into(),
            containers: vec![container],
        };
        Box::pin(async move { vec![usage] })
    }
}

async fn run(of: &ContainerRef, command: &[String], mut streams: Streams) -> io::Result<Exit> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut stdout = streams
        .stdout
        .take()
        .unwrap_or_else(|| Box::new(tokio::io::sink()));
    match words.as_slice() {
        ["say", rest @ ..] => {
            stdout
                .write_all(format!("{}: {}\n", of.container, rest.join(" ")).as_bytes())
                .await?;
        }
        ["cat"] => {
            let mut stdin = streams
                .stdin
                .take()
                .unwrap_or_else(|| Box::new(tokio::io::empty()));
            copy(&mut stdin, &mut stdout).await?;
        }
        ["fail", code] => {
            if let Some(mut stderr) = streams.stderr.take() {
                stderr.write_all(b"it went wrong\n").await?;
            }
            return Ok(Exit {
                code: code.parse().unwrap(),
            });
        }
        ["flood", bytes] => {
            let mut zeros = tokio::io::repeat(b'0').take(bytes.parse().unwrap());
            copy(&mut zeros, &mut stdout).await?;
        }
        ["size"] => {
            let size = streams.resize.recv().await.unwrap();
            stdout
                .write_all(format!("{}x{}\n", size.width, size.height).as_bytes())
                .await?;
        }
        ["hang"] => std::future::pending().await,
        _ => return Err(io::Error::other(format!("no such command: {words:?}"))),
    }
    Ok(Exit { code: 0 })
}

/// Puts a pod `web` with containers `main` and `side` into the cluster, which echoes.
pub(crate) async fn furnish(cluster: &Cluster) -> Arc<AtomicUsize> {
    use k8s_openapi::api::core::v1::Pod;
    let echo = Echo::default();
    let running = echo.running.clone();
    cluster.set_kubelet(Arc::new(echo));
    let pods: kube::Api<Pod> = kube::Api::namespaced(cluster.client(), "default");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "annotations": {"kubectl.kubernetes.io/default-container": "main"}},
        "spec": {"nodeName": "n", "containers": [
            {"name": "main", "image": "host"}, {"name": "side", "image": "host"},
        ]},
    });
    pods.create(&Default::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    pods.patch_status("web", &Default::default(), &kube::api::Patch::Merge(status))
        .await
        .unwrap();
    running
}

/// Waits until no command runs any more.
pub(crate) async fn all_ended(running: &AtomicUsize) {
    for _ in 0..500 {
        if running.load(Ordering::SeqCst) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a command still runs");
}
