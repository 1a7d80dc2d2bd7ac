//! Probes and hooks: asking a container how it is, and telling it what happens to it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::kubelet::run_quietly;
use crate::node::Shared;
use crate::sandbox::Sandbox;
use crate::worker::Event;
use crate::worker::view::ContainerView;

/// An answer is read no further than this.
const LONGEST_ANSWER: usize = 10 * 1024;

/// Between the first questions to a container that has never been ready.
const YOUNG_PAUSE: Duration = Duration::from_millis(250);

/// What a probe has found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The startup probe has succeeded.
    Started,
    Ready,
    Unready(String),
    /// It is to be ended, with this grace when the probe names one.
    Dead {
        grace: Option<i64>,
        message: String,
    },
}

/// The container that is asked.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) container: Container,
    pub(crate) view: ContainerView,
    pub(crate) ip: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Startup,
    Readiness,
    Liveness,
}

/// Starts the container's probes; false when it has none.
pub(crate) fn start(
    target: Target,
    attempt: u32,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) -> bool {
    let container = &target.container;
    let has_any = container.startup_probe.is_some()
        || container.readiness_probe.is_some()
        || container.liveness_probe.is_some();
    if has_any {
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let container = target.container.clone();
            if let Some(probe) = container.startup_probe
                && !watch(&target, Kind::Startup, &probe, attempt, &events).await
            {
                return;
            }
            let readiness = async {
                if let Some(probe) = &container.readiness_probe {
                    watch(&target, Kind::Readiness, probe, attempt, &events).await;
                }
            };
            let liveness = async {
                if let Some(probe) = &container.liveness_probe {
                    watch(&target, Kind::Liveness, probe, attempt, &events).await;
                }
            };
            tokio::join!(readiness, liveness);
        }));
    }
    has_any
}

fn seconds(value: Option<i32>, usual: u64) -> u64 {
    value
        .and_then(|value| u64::try_from(value).ok())
        .filter(|value| *value > 0)
        .unwrap_or(usual)
}

/// Asks again and again; true when a startup probe has succeeded.
async fn watch(
    target: &Target,
    kind: Kind,
    probe: &Probe,
    attempt: u32,
    events: &mpsc::Sender<Event>,
) -> bool {
    let (period, limit) = (
        seconds(probe.period_seconds, 10),
        seconds(probe.timeout_seconds, 1),
    );
    let (needed, allowed) = (
        seconds(probe.success_threshold, 1),
        seconds(probe.failure_threshold, 3),
    );
    tokio::time::sleep(Duration::from_secs(seconds(probe.initial_delay_seconds, 0))).await;
    let (mut good, mut bad, mut told) = (0u64, 0u64, None);
    loop {
        // A young container is asked often, so that it is ready the moment it is.
        let young = kind == Kind::Readiness && told.is_none();
        let (pause, allowed) = if young {
            (
                YOUNG_PAUSE,
                allowed * period * 1000 / YOUNG_PAUSE.as_millis() as u64,
            )
        } else {
            (Duration::from_secs(period), allowed)
        };
        let asked = tokio::time::timeout(Duration::from_secs(limit), target.ask(probe)).await;
        let answer = asked.unwrap_or_else(|_| Err(format!("timed out after {limit} s")));
        (good, bad) = if answer.is_ok() {
            (good + 1, 0)
        } else {
            (0, bad + 1)
        };
        let verdict = match (kind, answer) {
            (Kind::Startup, Ok(())) if good >= needed => Some(Verdict::Started),
            (Kind::Readiness, Ok(())) if good >= needed && told != Some(true) => {
                Some(Verdict::Ready)
            }
            (Kind::Readiness, Err(why)) if bad >= allowed && told != Some(false) => {
                Some(Verdict::Unready(format!("Readiness probe failed: {why}")))
            }
            (Kind::Startup, Err(why)) if bad >= allowed => {
                Some(dead(probe, &format!("Startup probe failed: {why}")))
            }
            (Kind::Liveness, Err(why)) if bad >= allowed => {
                Some(dead(probe, &format!("Liveness probe failed: {why}")))
            }
            _ => None,
        };
        if let Some(result) = verdict {
            told = Some(result == Verdict::Ready);
            let last = !matches!(result, Verdict::Ready | Verdict::Unready(_));
            let started = result == Verdict::Started;
            let container = target.container.name.clone();
            if events
                .send(Event::Probed {
                    container,
                    attempt,
                    result,
                })
                .await
                .is_err()
                || last
            {
                return started;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

fn dead(probe: &Probe, message: &str) -> Verdict {
    Verdict::Dead {
        grace: probe.termination_grace_period_seconds,
        message: message.to_owned(),
    }
}

impl Target {
    async fn ask(&self, probe: &Probe) -> Result<(), String> {
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
            return crate::grpc::check(stream, grpc.service.as_deref().unwrap_or_default()).await;
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

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
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

    async fn dial(
        &self,
        host: Option<&str>,
        port: &IntOrString,
    ) -> Result<tokio::net::TcpStream, String> {
        let port = self.port(port)?;
        let host = host.or(self.ip.as_deref()).unwrap_or("127.0.0.1");
        let ip = host
            .parse()
            .map_err(|_| format!("{host:?} is not an address"))?;
        let dialled = self.shared.network.dial(ip, port).await;
        dialled.map_err(|error| format!("dial tcp {host}:{port}: {error}"))
    }

    async fn get(&self, action: &HTTPGetAction) -> Result<(), String> {
        if action.scheme.as_deref() == Some("HTTPS") {
            // As with the kubelet no certificate is checked: that something listens is all that is asked.
            return self
                .dial(action.host.as_deref(), &action.port)
                .await
                .map(|_| ());
        }
        let mut stream = self.dial(action.host.as_deref(), &action.port).await?;
        let path = action.path.as_deref().unwrap_or("/");
        let host = action
            .host
            .as_deref()
            .or(self.ip.as_deref())
            .unwrap_or("127.0.0.1");
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kube-probe/1.33\r\nAccept: */*\r\nConnection: close\r\n"
        );
        for header in action.http_headers.iter().flatten() {
            request.push_str(&format!("{}: {}\r\n", header.name, header.value));
        }
        request.push_str("\r\n");
        let answer = async {
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream
                .take(LONGEST_ANSWER as u64)
                .read_to_end(&mut answer)
                .await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = answer
            .await
            .map_err(|error| format!("Get \"http://{host}{path}\": {error}"))?;
        let first = answer
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        let first = String::from_utf8_lossy(first);
        let status: u16 = first
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        if (200..400).contains(&status) {
            Ok(())
        } else {
            Err(format!("HTTP probe failed with statuscode: {status}"))
        }
    }
}
