//! Registries: Debian's own, and a small one that lies.

use std::collections::BTreeMap;
use std::net::TcpListener as StdListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::making::{Image, digest};

/// `someone:secret`, as htpasswd writes it.
const LOGINS: &str = "someone:$2y$05$XFZ7GMEqNGCjsVncg/wHE.epCk1eCsDIpNSdkdeeItc2FGL7kYy36\n";

/// A registry of its own for one test; gone with it.
pub(crate) struct Registry {
    child: Child,
    pub(crate) host: String,
    log: PathBuf,
    login: bool,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// One that anybody may use; `None`, said aloud, where there is none to start.
    pub(crate) async fn start() -> Option<Registry> {
        Registry::begin(false).await
    }

    /// One that wants a login.
    pub(crate) async fn with_login() -> Option<Registry> {
        Registry::begin(true).await
    }

    async fn begin(login: bool) -> Option<Registry> {
        let dir = tempfile::tempdir().unwrap();
        let free = StdListener::bind("127.0.0.1:0").unwrap();
        let host = free.local_addr().unwrap().to_string();
        drop(free);
        let auth = if login {
            let file = dir.path().join("htpasswd");
            std::fs::write(&file, LOGINS).unwrap();
            format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                file.display()
            )
        } else {
            String::new()
        };
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n{auth}",
            dir.path().join("data").display()
        );
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let log = dir.path().join("log");
        let out = std::fs::File::create(&log).unwrap();
        let started = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::from(out.try_clone().unwrap()))
            .stderr(Stdio::from(out))
            .spawn();
        let Ok(child) = started else {
            eprintln!(
                "SKIPPED: there is no docker-registry on this machine (apt install docker-registry)"
            );
            return None;
        };
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(&host).await.is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "the registry does not start"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(Registry {
            child,
            host,
            log,
            login,
            _dir: dir,
        })
    }

    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host)
    }

    /// Puts an image there; the digest is its manifest's.
    pub(crate) async fn put(&self, repository: &str, tag: &str, image: &Image) -> String {
        for (name, bytes) in &image.blobs {
            let begun = self
                .ask(
                    "POST",
                    &format!("{repository}/blobs/uploads/"),
                    None,
                    Vec::new(),
                )
                .await;
            let to = begun.headers()["location"].to_str().unwrap().to_owned();
            let to = format!("{to}&digest={name}");
            let put = self
                .ask("PUT", &to, Some("application/octet-stream"), bytes.clone())
                .await;
            assert_eq!(put.status(), 201);
        }
        self.put_manifest(
            repository,
            tag,
            "application/vnd.oci.image.manifest.v1+json",
            &image.manifest,
        )
        .await
    }

    pub(crate) async fn put_manifest(
        &self,
        repository: &str,
        tag: &str,
        kind: &str,
        manifest: &[u8],
    ) -> String {
        let path = format!("{repository}/manifests/{tag}");
        let put = self.ask("PUT", &path, Some(kind), manifest.to_vec()).await;
        let status = put.status();
        assert_eq!(status, 201, "{}", put.text().await.unwrap());
        digest(manifest)
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        kind: Option<&str>,
        body: Vec<u8>,
    ) -> reqwest::Response {
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("http://{}/v2/{path}", self.host)
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut request = reqwest::Client::new()
            .request(method.parse().unwrap(), url)
            .body(body);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        if self.login {
            request = request.basic_auth("someone", Some("secret"));
        }
        request.send().await.unwrap()
    }

    /// How often it was asked for a path that holds this.
    pub(crate) fn asked(&self, method: &str, path: &str) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let asked = format!("\"{method} /v2/");
        log.lines()
            .filter(|line| line.contains(&asked) && line.contains(path))
            .count()
    }
}

/// A registry that answers what it is told to, true or not.
pub(crate) struct Liar {
    pub(crate) host: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Liar {
    /// Answers by the end of the path; what is not known is not found.
    pub(crate) async fn start(answers: BTreeMap<String, Vec<u8>>) -> Liar {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answers = answers.clone();
                tokio::spawn(async move {
                    let mut question = vec![0; 8192];
                    let count = stream.read(&mut question).await.unwrap_or(0);
                    let question = String::from_utf8_lossy(&question[..count]).into_owned();
                    let path = question.split_whitespace().nth(1).unwrap_or_default();
                    let found = answers.iter().find(|(end, _)| path.ends_with(end.as_str()));
                    let (status, body) = match found {
                        Some((_, body)) => ("200 OK", body.as_slice()),
                        None => ("404 Not Found", &b"{}"[..]),
                    };
                    let head = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.write_all(body).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Liar { host, task }
    }

    /// One that has this image, except for what `change` makes of its answers.
    pub(crate) async fn of(
        image: &Image,
        change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>),
    ) -> Liar {
        let mut answers: BTreeMap<String, Vec<u8>> = image
            .blobs
            .iter()
            .map(|(name, bytes)| (format!("/blobs/{name}"), bytes.clone()))
            .collect();
        answers.insert("/manifests/1".to_owned(), image.manifest.clone());
        change(&mut answers);
        Liar::start(answers).await
    }
}

/// The messages of a pod's events with a reason.
pub(crate) async fn events(client: &kube::Client, pod: &str, reason: &str) -> Vec<String> {
    let path =
        format!("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3D{pod}");
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let list = client.request::<Value>(request).await.unwrap();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items
        .iter()
        .filter(|event| event["reason"] == reason)
        .map(|event| event["message"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Waits for an event whose message holds this.
pub(crate) async fn event(client: &kube::Client, pod: &str, reason: &str, words: &str) {
    let begun = Instant::now();
    loop {
        let found = events(client, pod, reason).await;
        if found.iter().any(|message| message.contains(words)) {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "no event {reason} with {words:?}, only {found:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
