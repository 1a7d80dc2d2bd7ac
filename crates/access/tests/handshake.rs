//! Who gets in and who does not, over real handshakes.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use sandlot_access::{PrivateKey, client, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn key() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

/// What the caller hears from the agent, if they agree to talk.
async fn greet(caller: Arc<ClientConfig>, agent: Arc<ServerConfig>) -> std::io::Result<String> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let serving = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(agent).accept(far).await?;
        stream.write_all(b"welcome").await?;
        stream.shutdown().await
    });
    let mut stream = TlsConnector::from(caller)
        .connect(ServerName::try_from("agent").unwrap(), near)
        .await?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await?;
    serving.await.unwrap()?;
    Ok(heard)
}

#[tokio::test]
async fn the_operator_reaches_its_agent() {
    let (operator, agent, old) = (key(), key(), key());
    let callers = [old.public().unwrap(), operator.public().unwrap()];
    let heard = greet(
        client(&operator, agent.public().unwrap()).unwrap(),
        server(&agent, &callers).unwrap(),
    )
    .await;
    assert_eq!(heard.unwrap(), "welcome");
}

#[tokio::test]
async fn a_stranger_is_not_let_in_not_even_with_the_agents_own_key() {
    let (operator, agent) = (key(), key());
    let door = server(&agent, &[operator.public().unwrap()]).unwrap();
    for stranger in [key(), agent.clone()] {
        let heard = greet(
            client(&stranger, agent.public().unwrap()).unwrap(),
            door.clone(),
        )
        .await;
        assert!(heard.is_err(), "{heard:?}");
    }
}

#[tokio::test]
async fn another_pods_agent_is_not_talked_to() {
    let (operator, agent, other) = (key(), key(), key());
    let door = server(&other, &[operator.public().unwrap()]).unwrap();
    assert!(
        greet(client(&operator, agent.public().unwrap()).unwrap(), door)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn who_has_no_key_or_speaks_no_tls_is_not_let_in() {
    let (operator, agent) = (key(), key());
    let door = server(&agent, &[operator.public().unwrap()]).unwrap();
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let serving = tokio::spawn(TlsAcceptor::from(door).accept(far));
    near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    assert!(serving.await.unwrap().is_err());
}
