//! A watcher on a bare TLS connection.
//!
//! Many of them share the processors with the machine that is measured; what a client library
//! does with each event would be counted as that machine's.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use kube::{Config, client::ConfigExt};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// One connection that watches one path, and does nothing else.
pub(super) struct Onlooker {
    lines: BufReader<TlsStream<TcpStream>>,
    line: Vec<u8>,
}

impl Onlooker {
    /// Connects, asks for the watch and reads the head of its answer.
    pub(super) async fn open(config: &Config, path: &str) -> Result<Onlooker> {
        let url = &config.cluster_url;
        let host = url.host().context("the kubeconfig names no host")?;
        let port = url.port_u16().context("the kubeconfig names no port")?;
        let stream = TcpStream::connect((host, port)).await?;
        let name = ServerName::try_from(host.to_owned())?;
        let connector = TlsConnector::from(Arc::new(config.rustls_client_config()?));
        let mut stream = connector.connect(name, stream).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut onlooker = Onlooker {
            lines: BufReader::new(stream),
            line: Vec::new(),
        };
        let status = onlooker.line().await?.to_owned();
        ensure!(
            status.starts_with("HTTP/1.1 200"),
            "{path} was answered with {}",
            status.trim()
        );
        while !onlooker.line().await?.trim().is_empty() {}
        Ok(onlooker)
    }

    /// The next line as it comes: of an event, or of the framing between events.
    pub(super) async fn line(&mut self) -> Result<&str> {
        self.line.clear();
        let read = self.lines.read_until(b'\n', &mut self.line).await?;
        ensure!(read > 0, "the watch ended");
        Ok(std::str::from_utf8(&self.line)?)
    }
}
