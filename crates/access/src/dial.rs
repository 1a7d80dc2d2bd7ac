//! Calling an agent: a channel on which both ends prove who they are.

use std::{io, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{AccessError, PrivateKey, PublicKey};

/// A piece of output travels in one frame instead of many small ones.
const FRAME: u32 = 256 << 10;
/// A pod runs a moment before its agent listens: so long is a refused connection tried again.
const UNTIL_IT_LISTENS: Duration = Duration::from_secs(2);
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// A channel to the one agent that has this key, made when first used.
pub fn dial(
    endpoint: Endpoint,
    own: &PrivateKey,
    agent: PublicKey,
) -> Result<Channel, AccessError> {
    let tls = TlsConnector::from(crate::client(own, agent)?);
    let endpoint = endpoint.max_frame_size(FRAME);
    let connector = tower::service_fn(move |address: Uri| {
        let tls = tls.clone();
        async move {
            let wrong = || io::Error::other(format!("{address} is no address of a pod"));
            let host = address
                .host()
                .ok_or_else(wrong)?
                .trim_matches(['[', ']'])
                .to_owned();
            let stream = reach(&host, address.port_u16().ok_or_else(wrong)?).await?;
            stream.set_nodelay(true)?;
            // The key is what counts; a name is only what the protocol wants to be given.
            let name = ServerName::try_from("agent").map_err(io::Error::other)?;
            tls.connect(name, stream).await.map(TokioIo::new)
        }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// Connects to an agent that may just be starting.
async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    let until = Instant::now() + UNTIL_IT_LISTENS;
    loop {
        match TcpStream::connect((host, port)).await {
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < until =>
            {
                sleep(BETWEEN_TRIES).await;
            }
            tried => return tried,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpSocket;

    /// Nothing listens at its address yet.
    fn silent() -> (TcpSocket, u16) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        (socket, port)
    }

    #[tokio::test]
    async fn an_agent_that_does_not_listen_yet_is_reached_when_it_does() {
        let (socket, port) = silent();
        // The first try comes first, and is refused.
        let (reached, listener) =
            tokio::join!(reach("127.0.0.1", port), async { socket.listen(1) });
        let reached = reached.unwrap();
        let (_, caller) = listener.unwrap().accept().await.unwrap();
        assert_eq!(reached.local_addr().unwrap(), caller);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_never_listens_is_given_up() {
        let (_socket, port) = silent();
        let refused = reach("127.0.0.1", port).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
