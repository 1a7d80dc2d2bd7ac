//! The agents in the sessions' pods, called directly: nothing of the Kubernetes API stands on
//! the way of an execution.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use sandlot_access::{PrivateKey, PublicKey};
use sandlot_api::executor::{
    FilePart, PrepareRequest, ReadRequest, StopRequest, executor_client::ExecutorClient,
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{
    claims::{ClaimError, Claims},
    workspaces::Content,
};

/// What an agent says may be no longer than this in one message.
const LARGEST_MESSAGE: usize = 16 << 20;
/// How long a connection may take, and a call that is not an execution.
const CALL: Duration = Duration::from_secs(10);

/// A key that no execution has.
const GREETING: &str = "greeting";

/// A session's agent.
#[derive(Clone)]
pub(crate) struct Executor {
    /// The pod it is in.
    pub(crate) pod: String,
    pub(crate) node: String,
    channel: Channel,
}

/// Why an agent cannot be called.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReachError {
    /// There is no pod.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The pod's address, or its key, is of no use.
    #[error("pod {0} cannot be called: {1}")]
    Pod(String, String),
}

/// The connections, one for each session in use.
pub(crate) struct Executors {
    key: Option<PrivateKey>,
    port: u16,
    known: Mutex<HashMap<String, Executor>>,
}

impl Executors {
    pub(crate) fn new(key: Option<PrivateKey>, port: u16) -> Self {
        Self {
            key,
            port,
            known: Mutex::default(),
        }
    }

    /// The agent of a claim's pod, waited for if need be.
    pub(crate) async fn of(
        &self,
        claims: &Claims,
        claim: &str,
        patience: Duration,
    ) -> Result<Executor, ReachError> {
        let (pod, ip) = claims.ready(claim, patience).await?;
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(claim).cloned()
        };
        if let Some(known) = known.filter(|known| known.pod == pod) {
            return Ok(known);
        }
        let found = claims.pods.find(&pod).await.map_err(ClaimError::from)?;
        let channel = self
            .dial(&ip, found.key.as_deref())
            .map_err(|why| ReachError::Pod(pod.clone(), why))?;
        let executor = Executor {
            pod,
            node: found.node,
            channel,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Sessions that another gateway ended leave theirs behind.
        known.retain(|claim, _| claims.is_ready(claim));
        known.insert(claim.to_owned(), executor.clone());
        Ok(executor)
    }

    fn dial(&self, ip: &str, agent: Option<&str>) -> Result<Channel, String> {
        let host = match ip.contains(':') {
            true => format!("[{ip}]"),
            false => ip.to_owned(),
        };
        let endpoint = Endpoint::from_shared(format!("http://{host}:{}", self.port))
            .map_err(|error| error.to_string())?
            .connect_timeout(CALL)
            .tcp_nodelay(true)
            .initial_stream_window_size(1 << 20)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true);
        let Some(own) = &self.key else {
            return Ok(endpoint.connect_lazy());
        };
        let agent = agent.ok_or("it does not say what its agent proves itself with")?;
        let agent: PublicKey = agent.parse().map_err(|error| format!("{error}"))?;
        sandlot_access::dial(endpoint, own, agent).map_err(|error| error.to_string())
    }

    /// A session is over: its connection goes too.
    pub(crate) fn forget(&self, claim: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(claim);
    }
}

/// A short call's answer, or that it did not come in time.
async fn in_time<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(
            "the agent did not answer in time",
        )),
    }
}

impl Executor {
    /// Its door for executions.
    pub(crate) fn client(&self) -> ExecutorClient<Channel> {
        ExecutorClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }

    /// Ends what runs under a key, with everything it started.
    pub(crate) async fn stop(&self, key: &str) -> Result<(), Status> {
        let key = key.to_owned();
        in_time(self.client().stop(StopRequest { key })).await?;
        Ok(())
    }

    /// Connects, by a call that does nothing, so that the first execution need not wait for it.
    pub(crate) async fn greet(&self) {
        // No execution has this key, and an agent that cannot be reached shows soon enough.
        let _ = self.stop(GREETING).await;
    }

    /// Has an interpreter started for Python code that is still to come. It waits as long as it
    /// takes, or briefly.
    pub(crate) async fn prepare(
        &self,
        env: BTreeMap<String, String>,
        briefly: bool,
    ) -> Result<(), Status> {
        let env = env.into_iter().collect();
        let request = PrepareRequest { env, briefly };
        in_time(self.client().prepare(request)).await?;
        Ok(())
    }

    /// Streams a file out of the workspace.
    pub(crate) async fn read(&self, path: &str) -> Result<Content, Status> {
        let request = ReadRequest {
            path: path.to_owned(),
        };
        let chunks = self.client().read(request).await?.into_inner();
        let content = chunks.map_ok(|chunk| chunk.data);
        Ok(content.map_err(std::io::Error::other).boxed())
    }

    /// Streams a file into the workspace. It is not written when the content breaks off.
    pub(crate) async fn write(&self, path: &str, content: Content) -> Result<u64, Status> {
        let first = FilePart {
            path: path.to_owned(),
            ..FilePart::default()
        };
        let rest = stream::unfold(Some(content), |content| async {
            let mut content = content?;
            let (data, last) = match content.next().await {
                Some(Ok(data)) => (data, false),
                Some(Err(_)) => return None,
                None => (Bytes::new(), true),
            };
            let part = FilePart {
                data,
                last,
                ..FilePart::default()
            };
            Some((part, (!last).then_some(content)))
        });
        // Boxed: the compiler cannot see for itself that so long a type may move between threads.
        let parts = stream::iter([first]).chain(rest).boxed();
        let mut client = self.client();
        let answer = client.write(parts).boxed().await?;
        Ok(answer.into_inner().size)
    }
}
