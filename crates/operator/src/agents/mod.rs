//! The agents inside the pods, and the tasks that run through them.

mod output;
mod report;
mod run;
mod secured;
mod step;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sandlot_api::agent::{ResetRequest, agent_service_client::AgentServiceClient};
use tonic::transport::{Channel, Endpoint};

pub(crate) use report::{Report, never_ran};
pub(crate) use run::{Job, Stop, run};

use sandlot_access::{PrivateKey, PublicKey};

use crate::{index::Uid, settings};

/// What an agent says may be no longer than this in one message.
const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;

/// One connection to each pod that somebody uses, made when first needed.
pub(crate) struct Agents {
    port: u16,
    /// What this operator proves itself with; without it, agents are called in the open.
    key: Option<PrivateKey>,
    call_timeout: Duration,
    channels: Mutex<HashMap<Uid, Channel>>,
}

/// A pod whose agent is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) pod: Uid,
    pub(crate) ip: std::sync::Arc<str>,
    /// What the pod's agent proves itself with.
    pub(crate) key: Option<PublicKey>,
}

impl Agents {
    pub(crate) fn new(agent: &settings::Agent, call_timeout: Duration) -> Self {
        Self {
            port: agent.port,
            key: agent.key.clone(),
            call_timeout,
            channels: Mutex::default(),
        }
    }

    /// How long a call that is not a step may take.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// The agent of a pod; the connection is made by the first call.
    fn at(&self, door: &Door) -> Result<AgentServiceClient<Channel>, tonic::Status> {
        // The map is whole at every step, so a panic elsewhere does not spoil it.
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(&door.pod) {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.connect(door)?;
                channels.insert(door.pod.clone(), channel.clone());
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
            (Some(own), Some(agent)) => secured::connect(endpoint, own, agent),
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

    /// Ends everything that runs in a pod and empties its workspace.
    pub(crate) async fn reset(&self, door: &Door) -> Result<(), String> {
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
            Ok(())
        } else {
            Err(answer.message)
        }
    }
}
