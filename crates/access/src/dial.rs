//! Calling an agent: a channel on which both ends prove who they are.

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{AccessError, PrivateKey, PublicKey};

/// A piece of output travels in one frame instead of many small ones.
const FRAME: u32 = 256 << 10;

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
            let wrong = || std::io::Error::other(format!("{address} is no address of a pod"));
            let host = address
                .host()
                .ok_or_else(wrong)?
                .trim_matches(['[', ']'])
                .to_owned();
            let stream = TcpStream::connect((host, address.port_u16().ok_or_else(wrong)?)).await?;
            stream.set_nodelay(true)?;
            // The key is what counts; a name is only what the protocol wants to be given.
            let name = ServerName::try_from("agent").map_err(std::io::Error::other)?;
            tls.connect(name, stream).await.map(TokioIo::new)
        }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}
