//! Calls to a pod's task executor: plain HTTP, or HTTP on a connection on which both ends prove
//! who they are.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use sandlot_access::{PrivateKey, PublicKey};
use sandlot_api::opensandbox::{ExecutorTask, names};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tokio_util::bytes::Bytes;

/// How long one call may take, connecting included.
const CALL: Duration = Duration::from_secs(3);
/// The longest answer that is read.
const LONGEST_ANSWER: usize = 4 << 20;

/// A pod's executor.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) ip: Arc<str>,
    /// What it proves itself with; without it, it is called in the open.
    pub(crate) key: Option<PublicKey>,
}

/// What to ask of an executor.
pub(super) enum Question<'a> {
    /// Make these the tasks.
    Set(&'a [ExecutorTask]),
    /// Which tasks are there?
    Get,
}

/// Asks, and reads the tasks that are there.
pub(super) async fn ask(
    door: &Door,
    own: Option<&PrivateKey>,
    question: Question<'_>,
) -> Result<Vec<ExecutorTask>, String> {
    match tokio::time::timeout(CALL, call(door, own, question)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", CALL.as_secs())),
    }
}

async fn call(
    door: &Door,
    own: Option<&PrivateKey>,
    question: Question<'_>,
) -> Result<Vec<ExecutorTask>, String> {
    let host = match door.ip.contains(':') {
        true => format!("[{}]:{}", door.ip, names::EXECUTOR_PORT),
        false => format!("{}:{}", door.ip, names::EXECUTOR_PORT),
    };
    let words = |error: &dyn std::fmt::Display| format!("{host}: {error}");
    let request = match question {
        Question::Get => Request::get("/getTasks").body(Full::default()),
        Question::Set(tasks) => {
            let body = serde_json::to_vec(tasks).map_err(|error| words(&error))?;
            Request::post("/setTasks")
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(body)))
        }
    };
    let mut request = request.map_err(|error| words(&error))?;
    let value = header::HeaderValue::from_str(&host).map_err(|error| words(&error))?;
    request.headers_mut().insert(header::HOST, value);
    let stream = TcpStream::connect(&host)
        .await
        .map_err(|error| words(&error))?;
    stream.set_nodelay(true).map_err(|error| words(&error))?;
    let answer = match (own, door.key) {
        (Some(own), Some(key)) => {
            let config = sandlot_access::client(own, key).map_err(|error| words(&error))?;
            // The key is what counts; a name is only what the protocol wants to be given.
            let name = ServerName::try_from("agent").map_err(|error| words(&error))?;
            let secured = TlsConnector::from(config).connect(name, stream).await;
            exchange(secured.map_err(|error| words(&error))?, request).await
        }
        _ => exchange(stream, request).await,
    };
    answer.map_err(|error| words(&error))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Vec<ExecutorTask>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let asking = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER)
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        if !status.is_success() {
            let said = String::from_utf8_lossy(&body);
            let said: String = said.chars().take(300).collect();
            return Err(format!("{status}: {said}"));
        }
        let tasks: Option<Vec<ExecutorTask>> =
            serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        Ok(tasks.unwrap_or_default())
    };
    // The connection lives as long as the question.
    tokio::select! {
        answer = asking => answer,
        ended = connection => match ended {
            Ok(()) => Err("the executor closed the connection".to_owned()),
            Err(error) => Err(error.to_string()),
        },
    }
}
