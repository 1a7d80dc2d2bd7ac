//! Asking a container: by a command in it, or over the network.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ExecAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Target;
use crate::kubelet::run_quietly;

/// An answer is read no further than this.
pub(super) const LONGEST_ANSWER: usize = 10 * 1024;

impl Target {
    pub(super) async fn ask(&self, probe: &Probe) -> Result<(), String> {
        if let Some(exec) = &probe.exec {
            return self.exec(exec).await;
        }
        if let Some(get) = &probe.http_get {
            return self.get(get).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            return self.dial(tcp.host.as_deref(), &tcp.port).await.map(|_| ());
        }
        if let Some(grpc) = &probe.grpc {
            let port = IntOrString::Int(grpc.port);
            let stream = self.dial(None, &port).await?;
            return super::grpc::check(stream, grpc.service.as_deref().unwrap_or_default()).await;
        }
        Ok(())
    }

    /// Runs a hook within its time.
    pub(crate) async fn run_hook(
        &self,
        hook: &LifecycleHandler,
        within: Duration,
    ) -> Result<(), String> {
        let run = async {
            if let Some(exec) = &hook.exec {
                return self.exec(exec).await;
            }
            if let Some(get) = &hook.http_get {
                return self.get(get).await;
            }
            if let Some(sleep) = &hook.sleep {
                tokio::time::sleep(Duration::from_secs(
                    u64::try_from(sleep.seconds).unwrap_or(0),
                ))
                .await;
            }
            Ok(())
        };
        tokio::time::timeout(within, run)
            .await
            .unwrap_or_else(|_| Err("timed out".to_owned()))
    }

    async fn exec(&self, action: &ExecAction) -> Result<(), String> {
        let command = action.command.clone().unwrap_or_default();
        let (code, output) =
            run_quietly(&self.sandbox, &self.view, command, LONGEST_ANSWER).await?;
        if code == 0 {
            Ok(())
        } else {
            Err(format!("command exited with {code}: {}", output.trim()))
        }
    }

    pub(super) fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let named = self
                    .container
                    .ports
                    .iter()
                    .flatten()
                    .find(|port| port.name.as_ref() == Some(name));
                named
                    .map(|port| port.container_port)
                    .or_else(|| name.parse().ok())
            }
        };
        number
            .and_then(|number| u16::try_from(number).ok())
            .ok_or_else(|| format!("there is no port {port:?}"))
    }

    /// Whom to ask: the pod, unless another host is named.
    pub(super) fn host<'a>(&'a self, named: Option<&'a str>) -> &'a str {
        let named = named.filter(|host| !host.is_empty());
        named.or(self.ip.as_deref()).unwrap_or("127.0.0.1")
    }

    async fn dial(
        &self,
        host: Option<&str>,
        port: &IntOrString,
    ) -> Result<tokio::net::TcpStream, String> {
        self.dial_port(self.host(host), self.port(port)?).await
    }

    /// Connects from this machine, which knows hosts by their names.
    pub(super) async fn dial_port(
        &self,
        host: &str,
        port: u16,
    ) -> Result<tokio::net::TcpStream, String> {
        let failed = |error: std::io::Error| format!("dial tcp {host}:{port}: {error}");
        let ip = match host.parse() {
            Ok(ip) => ip,
            Err(_) => named(host).await.map_err(failed)?,
        };
        let dialled = self.shared.network.dial(ip, port).await;
        dialled.map_err(failed)
    }
}

/// The address of a host that this machine knows by name.
async fn named(host: &str) -> std::io::Result<Ipv4Addr> {
    let found = tokio::net::lookup_host((host, 0)).await?;
    let mut addresses = found.filter_map(|found| match found.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    });
    let none = || std::io::Error::other("it has no address of the fourth version");
    addresses.next().ok_or_else(none)
}
