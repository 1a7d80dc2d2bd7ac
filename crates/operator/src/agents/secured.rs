//! Connections on which both ends prove who they are.

use hyper_util::rt::TokioIo;
use sandlot_access::{PrivateKey, PublicKey};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};

/// A channel to the one agent that has this key, made when first used.
pub(super) fn connect(
    endpoint: Endpoint,
    own: &PrivateKey,
    agent: PublicKey,
) -> Result<Channel, Status> {
    let config = sandlot_access::client(own, agent);
    let tls = TlsConnector::from(config.map_err(|error| Status::internal(error.to_string()))?);
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
