//! Probes and hooks: asking a container how it is, and telling it what happens to it.

mod ask;
mod grpc;
mod http;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::node::Shared;
use crate::sandbox::Sandbox;
use crate::worker::Event;
use crate::worker::view::ContainerView;

/// Between the first questions to a container that has never been ready.
const YOUNG_PAUSE: Duration = Duration::from_millis(250);

/// What a probe has found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The startup probe has succeeded.
    Started,
    Ready,
    Unready,
    /// It failed, perhaps not for the first time; what follows is told by the others.
    Failing(String),
    /// It is to be ended, with this grace when the probe names one.
    Dead {
        probe: &'static str,
        grace: Option<i64>,
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

impl Kind {
    /// As events begin with it.
    fn title(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Readiness => "Readiness",
            Kind::Liveness => "Liveness",
        }
    }
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
    // Young containers are asked more often than they were meant to be.
    let hurried = (period * 1000 / YOUNG_PAUSE.as_millis() as u64).max(1);
    loop {
        // A young container is asked often, so that it is ready the moment it is.
        let young = kind == Kind::Readiness && told.is_none();
        let (pause, tries) = if young {
            (YOUNG_PAUSE, hurried)
        } else {
            (Duration::from_secs(period), 1)
        };
        let asked = tokio::time::timeout(Duration::from_secs(limit), target.ask(probe)).await;
        let answer = asked.unwrap_or_else(|_| Err(format!("timed out after {limit} s")));
        (good, bad) = if answer.is_ok() {
            (good + 1, 0)
        } else {
            (0, bad + 1)
        };
        let mut verdicts = Vec::new();
        if let Err(why) = &answer
            && bad % tries == 1 % tries
        {
            let message = format!("{} probe failed: {why}", kind.title());
            verdicts.push(Verdict::Failing(message));
        }
        let failed = answer.is_err() && bad >= allowed * tries;
        verdicts.extend(match kind {
            Kind::Startup if good >= needed => Some(Verdict::Started),
            Kind::Readiness if good >= needed && told != Some(true) => Some(Verdict::Ready),
            Kind::Readiness if failed && told != Some(false) => Some(Verdict::Unready),
            Kind::Startup if failed => Some(dead("startup", probe)),
            Kind::Liveness if failed => Some(dead("liveness", probe)),
            _ => None,
        });
        for result in verdicts {
            match &result {
                Verdict::Ready => told = Some(true),
                Verdict::Unready => told = Some(false),
                _ => {}
            }
            let over = matches!(result, Verdict::Started | Verdict::Dead { .. });
            let started = result == Verdict::Started;
            let container = target.container.name.clone();
            let event = Event::Probed {
                container,
                attempt,
                result,
            };
            if events.send(event).await.is_err() || over {
                return started;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

fn dead(which: &'static str, probe: &Probe) -> Verdict {
    Verdict::Dead {
        probe: which,
        grace: probe.termination_grace_period_seconds,
    }
}
