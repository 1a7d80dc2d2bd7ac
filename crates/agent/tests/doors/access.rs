//! Who is let in, and what user code can find out.

use std::{sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use sandlot_access::{AGENT_KEY, OPERATOR_KEYS, PrivateKey, PublicKey};
use sandlot_api::agent::agent_service_client::AgentServiceClient;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{Agent, LONG, sh, to_the_end};

/// An agent that lets in the holder of the returned key.
fn closed_agent() -> (Agent, PrivateKey, PublicKey) {
    let (operator, own) = (
        PrivateKey::generate().unwrap(),
        PrivateKey::generate().unwrap(),
    );
    let callers = operator.public().unwrap().to_string();
    let variables = [
        (OPERATOR_KEYS, callers.as_str()),
        (AGENT_KEY, &own.reveal()),
    ];
    let agent = Agent::start(&["--http-port", "0"], &variables);
    (agent, operator, own.public().unwrap())
}

async fn connect(
    agent: &Agent,
    caller: &PrivateKey,
    key: PublicKey,
) -> Result<Channel, tonic::transport::Error> {
    let tls = TlsConnector::from(sandlot_access::client(caller, key).unwrap());
    let port = agent.port;
    let connector = tower::service_fn(move |_: Uri| {
        let tls = tls.clone();
        async move {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            let name = ServerName::try_from("agent").map_err(std::io::Error::other)?;
            tls.connect(name, stream).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://agent")
        .connect_with_connector(connector)
        .await
}

/// Waits until somebody listens there.
async fn listening(agent: &Agent) {
    let waiting = async {
        while TcpStream::connect(("127.0.0.1", agent.port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap();
}

#[tokio::test]
async fn only_the_operator_gets_anything_done() {
    let (agent, operator, key) = closed_agent();
    listening(&agent).await;
    let channel = connect(&agent, &operator, key).await.unwrap();
    let stream = AgentServiceClient::new(channel)
        .execute(sh("echo hello"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(to_the_end(stream).await.text(), "hello\n");

    // TLS 1.3 callers learn that they were refused only when they go on.
    let stranger = PrivateKey::generate().unwrap();
    if let Ok(channel) = connect(&agent, &stranger, key).await {
        assert!(
            AgentServiceClient::new(channel)
                .execute(sh("echo hello"))
                .await
                .is_err()
        );
    }
    let plain = Endpoint::from_shared(format!("http://127.0.0.1:{}", agent.port))
        .unwrap()
        .connect_lazy();
    assert!(
        AgentServiceClient::new(plain)
            .execute(sh("echo hello"))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn callers_who_never_say_a_word_keep_nobody_out() {
    let (agent, operator, key) = closed_agent();
    listening(&agent).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(("127.0.0.1", agent.port)).await.unwrap());
    }
    let connecting = connect(&agent, &operator, key);
    assert!(
        tokio::time::timeout(LONG, connecting)
            .await
            .unwrap()
            .is_ok()
    );
}

#[tokio::test]
async fn a_command_cannot_find_the_agents_key() {
    let (agent, operator, key) = closed_agent();
    listening(&agent).await;
    let channel = Arc::new(connect(&agent, &operator, key).await.unwrap());
    let pid = agent.process.id();
    // Without the capabilities that a test run by root has and a container has not.
    let look = format!(
        "env; for file in environ mem; do setpriv --bounding-set=-all --inh-caps=-all cat /proc/{pid}/$file 2>&1; done; true"
    );
    let stream = AgentServiceClient::new(channel.as_ref().clone())
        .execute(sh(&look))
        .await
        .unwrap()
        .into_inner();
    let told = to_the_end(stream).await;
    assert!(!told.text().contains(AGENT_KEY), "{}", told.text());
    assert_eq!(told.text().matches("denied").count(), 2, "{}", told.text());
}
