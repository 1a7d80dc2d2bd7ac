//! A client of sessions over REST.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{TryStreamExt, stream};
use reqwest::{Body, Client, Method, RequestBuilder, header};
use serde_json::{Value, json};

/// How much of a large file is sent at once.
const PIECE: usize = 1 << 20;
/// What separates the parts of a form.
const BOUNDARY: &str = "sandlot-bench-boundary";

/// A gateway, called over HTTP.
#[derive(Clone)]
pub(super) struct Rest {
    client: Client,
    address: String,
}

impl Rest {
    pub(super) fn new(address: &str) -> Self {
        // The client wants one even where nothing is encrypted; that there is one already is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            client: Client::new(),
            address: address.to_owned(),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/api/v1{path}", self.address);
        self.client.request(method, url)
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        let text = String::from_utf8_lossy(&body);
        ensure!(status.is_success(), "{path}: {status} {text}");
        match body.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(&body).context("the answer is no JSON"),
        }
    }

    /// Makes a session and waits until it runs.
    pub(super) async fn session(&self, patience: Duration) -> Result<String> {
        self.session_with(json!({}), patience).await
    }

    /// One with room for a large file.
    pub(super) async fn large_session(&self, patience: Duration) -> Result<String> {
        self.session_with(json!({ "disk": "3Gi" }), patience).await
    }

    /// One of a template whose sessions have an interpreter wait for code.
    pub(super) async fn waiting_session(&self, patience: Duration) -> Result<String> {
        let template = json!({
            "id": "waiting", "name": "An interpreter waits", "image_url": "host",
            "runtime_type": "python3.11", "prestarted_interpreter": true,
        });
        let made = self.call(Method::POST, "/templates", Some(template));
        made.await?;
        let wanted = json!({ "template_id": "waiting" });
        self.session_with(wanted, patience).await
    }

    async fn session_with(&self, wanted: Value, patience: Duration) -> Result<String> {
        let made = self.call(Method::POST, "/sessions", Some(wanted)).await?;
        let id = made["id"].as_str().context("no id")?.to_owned();
        let path = format!("/sessions/{id}");
        let deadline = Instant::now() + patience;
        loop {
            let found = self.call(Method::GET, &path, None).await?;
            match found["status"].as_str() {
                Some("running") => return Ok(id),
                Some("creating") if Instant::now() < deadline => {}
                _ => bail!("session {id}: {found}"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Deletes a session.
    pub(super) async fn end(&self, session: &str) -> Result<()> {
        let path = format!("/sessions/{session}");
        self.call(Method::DELETE, &path, None).await.map(drop)
    }

    /// Runs code to its end, which must be a good one; the execution as it is then.
    pub(super) async fn run(&self, session: &str, language: &str, code: &str) -> Result<Value> {
        let path = format!("/executions/sessions/{session}/execute-sync");
        let body = json!({ "language": language, "code": code });
        let done = self.call(Method::POST, &path, Some(body)).await?;
        ensure!(done["status"] == "completed", "{done}");
        Ok(done)
    }

    /// Sends a file of zeros, a piece at a time.
    pub(super) async fn upload(&self, session: &str, path: &str, size: u64) -> Result<()> {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let piece = Bytes::from(vec![0; PIECE]);
        let zeros = (0..size / PIECE as u64).map(move |_| piece.clone());
        let content = [Bytes::from(head)]
            .into_iter()
            .chain(zeros)
            .chain([Bytes::from(tail)])
            .map(Ok::<_, std::io::Error>);
        let sent = self
            .request(
                Method::POST,
                &format!("/sessions/{session}/files/upload?path={path}"),
            )
            .header(
                header::CONTENT_TYPE,
                format!("multipart/form-data; boundary={BOUNDARY}"),
            )
            .body(Body::wrap_stream(stream::iter(content)))
            .send()
            .await?;
        let status = sent.status();
        let said = sent.bytes().await?;
        let said = String::from_utf8_lossy(&said);
        ensure!(status.is_success(), "upload: {status} {said}");
        Ok(())
    }

    /// Takes a file, a piece at a time; its size.
    pub(super) async fn download(&self, session: &str, path: &str) -> Result<u64> {
        let path = format!("/sessions/{session}/files/{path}?download=true");
        let answer = self.request(Method::GET, &path).send().await?;
        let mut content = answer.error_for_status()?.bytes_stream();
        let mut size = 0;
        while let Some(piece) = content.try_next().await? {
            size += piece.len() as u64;
        }
        Ok(size)
    }
}
