//! The agents inside the pods, and the tasks that run through them.

mod key;
mod output;
mod report;
mod room;
mod run;
mod step;

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sandlot_api::agent::{
    ResetRequest, RunsRequest, SignalRequest, agent_service_client::AgentServiceClient,
};
use sandlot_decide::backoff::Backoff;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

pub(crate) use key::task_of;
pub(crate) use report::{Report, never_ran};
pub(crate) use run::{Job, Stop, run};

use sandlot_access::{PrivateKey, PublicKey};

use crate::{
    Settings, Settled,
    index::{PodEntry, Uid},
};

/// What an agent says may be no longer than this in one message.
const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;
/// Connections kept at hand. Whoever is using one that is dropped here keeps it to the end.
const CONNECTIONS: usize = 512;

/// One connection to each pod that somebody uses, made when first needed.
pub(crate) struct Agents {
    port: u16,
    /// What this operator proves itself with; without it, agents are called in the open.
    key: Option<PrivateKey>,
    call_timeout: Duration,
    /// What cannot be taken back waits until what it was decided upon is on disk.
    settled: Option<Settled>,
    channels: Mutex<HashMap<Uid, Used>>,
}

/// Waits between attempts to reach an agent.
const RECONNECT: Backoff = Backoff {
    first: Duration::from_millis(20),
    longest: Duration::from_secs(2),
};
/// How often a call that is not a step is tried.
const ATTEMPTS: u32 = 8;

/// A connection, and when somebody last asked for it.
struct Used {
    channel: Channel,
    last: Instant,
}

/// A pod whose agent is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) pod: Uid,
    pub(crate) ip: std::sync::Arc<str>,
    /// What the pod's agent proves itself with.
    pub(crate) key: Option<PublicKey>,
}

impl Door {
    /// The door of a pod, once it has an address.
    pub(crate) fn of(pod: &PodEntry) -> Option<Self> {
        Some(Self {
            pod: pod.uid.clone(),
            ip: pod.ip.clone()?,
            key: pod.agent_key,
        })
    }
}

impl Agents {
    pub(crate) fn new(settings: &Settings, key: Option<PrivateKey>) -> Self {
        Self {
            port: settings.agent.port,
            key,
            call_timeout: settings.call_timeout,
            settled: settings.ahead.as_ref().map(|ahead| ahead.settled.clone()),
            channels: Mutex::default(),
        }
    }

    /// Waits until what the operator has seen is on disk.
    pub(super) async fn stand_firm(&self) -> Result<(), String> {
        match &self.settled {
            Some(settled) if !settled().await => {
                Err("what this was decided upon could not be stored".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The agent of a pod; the connection is made by the first call.
    fn at(&self, door: &Door) -> Result<AgentServiceClient<Channel>, tonic::Status> {
        // The map is whole at every step, so a panic elsewhere does not spoil it.
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let last = Instant::now();
        let channel = match channels.get_mut(&door.pod) {
            Some(used) => {
                used.last = last;
                used.channel.clone()
            }
            None => {
                let channel = self.connect(door)?;
                make_room(&mut channels);
                let used = Used {
                    channel: channel.clone(),
                    last,
                };
                channels.insert(door.pod.clone(), used);
                channel
            }
        };
        Ok(AgentServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE))
    }

    fn connect(&self, door: &Door) -> Result<Channel, tonic::Status> {
        let ip: &str = &door.ip;
        let host = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.to_owned()
        };
        let endpoint =
            Endpoint::from_shared(format!("http://{host}:{}", self.port)).map_err(|error| {
                tonic::Status::invalid_argument(format!("pod address {ip:?}: {error}"))
            })?;
        let endpoint = endpoint
            .connect_timeout(self.call_timeout.min(Duration::from_secs(5)))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        match (&self.key, door.key) {
            (None, _) => Ok(endpoint.connect_lazy()),
            (Some(own), Some(agent)) => sandlot_access::dial(endpoint, own, agent)
                .map_err(|error| tonic::Status::internal(error.to_string())),
            (Some(_), None) => Err(tonic::Status::unauthenticated(
                "the pod does not say what its agent proves itself with: delete it, its pool makes another",
            )),
        }
    }

    /// A pod is gone: its connection goes too.
    pub(crate) fn forget(&self, pod: &Uid) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.remove(pod);
    }

    /// The keys of all that runs in a pod.
    pub(crate) async fn runs(&self, door: &Door) -> Result<Vec<String>, String> {
        let mut tries = Tries::new(self.call_timeout);
        loop {
            let call = async { self.at(door)?.runs(RunsRequest {}).await };
            if let ControlFlow::Break(answer) = tries.make(call).await {
                return answer.map(|answer| answer.into_inner().keys);
            }
        }
    }

    /// Ends what runs under a key, with all its children.
    pub(crate) async fn kill(&self, door: &Door, key: &str) -> Result<(), String> {
        self.stand_firm().await?;
        let mut tries = Tries::new(self.call_timeout);
        loop {
            let request = SignalRequest {
                key: key.to_owned(),
                stop: true,
                ..SignalRequest::default()
            };
            let call = async { self.at(door)?.signal_process(request).await };
            if let ControlFlow::Break(answer) = tries.make(call).await {
                return answer.map(drop);
            }
        }
    }

    /// Ends everything that runs in a pod and empties its workspace. Says what was found and that
    /// nothing is left.
    pub(crate) async fn reset(&self, door: &Door) -> Result<String, String> {
        self.stand_firm().await?;
        let mut agent = self
            .at(door)
            .map_err(|status| status.message().to_owned())?;
        let call = agent.reset(ResetRequest {
            preserve_files: false,
        });
        let answer = tokio::time::timeout(self.call_timeout, call)
            .await
            .map_err(|_| "the agent did not answer in time".to_owned())?
            .map_err(|status| status.message().to_owned())?
            .into_inner();
        if answer.success {
            Ok(answer.message)
        } else {
            Err(answer.message)
        }
    }
}

/// Calls again while an agent does not answer, a few times at most.
struct Tries {
    failures: u32,
    patience: Duration,
}

impl Tries {
    fn new(patience: Duration) -> Self {
        Self {
            failures: 0,
            patience,
        }
    }

    /// Makes one call. What breaks off is the answer, or why there will be none.
    async fn make<T>(
        &mut self,
        call: impl Future<Output = Result<T, tonic::Status>>,
    ) -> ControlFlow<Result<T, String>> {
        let why = match tokio::time::timeout(self.patience, call).await {
            Ok(Ok(answer)) => return ControlFlow::Break(Ok(answer)),
            Ok(Err(status)) if is_final(status.code()) => {
                return ControlFlow::Break(Err(status.message().to_owned()));
            }
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => "the agent did not answer in time".to_owned(),
        };
        self.failures += 1;
        if self.failures == ATTEMPTS {
            return ControlFlow::Break(Err(why));
        }
        tokio::time::sleep(RECONNECT.after(self.failures)).await;
        ControlFlow::Continue(())
    }
}

/// Lets go of the connection that has not been asked for longest, if there are many.
fn make_room(channels: &mut HashMap<Uid, Used>) {
    if channels.len() < CONNECTIONS {
        return;
    }
    let oldest = channels.iter().min_by_key(|(_, used)| used.last);
    if let Some(oldest) = oldest.map(|(pod, _)| pod.clone()) {
        channels.remove(&oldest);
    }
}

/// Whether asking again cannot help.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
    )
}
