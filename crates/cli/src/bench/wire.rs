//! A bare TLS connection to the API.
//!
//! Who measures shares the processors with the machine that is measured; what a client library
//! does with each request and each event would be counted as that machine's.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use kube::{Config, client::ConfigExt};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// One connection, for one request after the other.
pub(super) struct Wire {
    stream: BufReader<TlsStream<TcpStream>>,
    host: String,
    line: Vec<u8>,
}

impl Wire {
    /// Connects.
    pub(super) async fn open(config: &Config) -> Result<Wire> {
        let url = &config.cluster_url;
        let host = url.host().context("the kubeconfig names no host")?;
        let port = url.port_u16().context("the kubeconfig names no port")?;
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned())?;
        let connector = TlsConnector::from(Arc::new(config.rustls_client_config()?));
        Ok(Wire {
            stream: BufReader::new(connector.connect(name, stream).await?),
            host: format!("{host}:{port}"),
            line: Vec::new(),
        })
    }

    /// Asks for a watch and reads the head of its answer; its lines follow.
    pub(super) async fn watch(mut self, path: &str) -> Result<Wire> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        self.stream.write_all(request.as_bytes()).await?;
        self.head(path, "200").await?;
        Ok(self)
    }

    /// Creates an object, and returns when the answer is whole.
    pub(super) async fn create(&mut self, path: &str, object: &[u8]) -> Result<()> {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            self.host,
            object.len()
        )
        .into_bytes();
        request.extend_from_slice(object);
        self.stream.write_all(&request).await?;
        let length = self.head(path, "201").await?;
        self.line
            .resize(length.context("an answer without a length")?, 0);
        self.stream.read_exact(&mut self.line).await?;
        Ok(())
    }

    /// Reads the head of an answer with this status, and says how long its body is.
    async fn head(&mut self, path: &str, wanted: &str) -> Result<Option<usize>> {
        let status = self.line().await?.trim().to_owned();
        ensure!(
            status.split(' ').nth(1) == Some(wanted),
            "{path} was answered with {status}"
        );
        let mut length = None;
        loop {
            let line = self.line().await?.trim();
            if line.is_empty() {
                return Ok(length);
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse()?);
            }
        }
    }

    /// The next line as it comes: of an event, or of the framing between events.
    pub(super) async fn line(&mut self) -> Result<&str> {
        self.line.clear();
        let read = self.stream.read_until(b'\n', &mut self.line).await?;
        ensure!(read > 0, "the connection ended");
        Ok(std::str::from_utf8(&self.line)?)
    }
}
