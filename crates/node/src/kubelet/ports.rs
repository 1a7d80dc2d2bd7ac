//! Connecting to a port inside a pod.

use sandlot_cluster::kubelet::{KubeletError, Reader, Writer};

use crate::node::Shared;
use crate::worker::view::View;

/// Connects by the pod's address, over which servers in it are usually reached.
pub(super) async fn connect(
    shared: &Shared,
    view: &View,
    port: u16,
) -> Result<(Reader, Writer), KubeletError> {
    let ip = view.ip.as_deref().unwrap_or("127.0.0.1");
    let address = ip
        .parse()
        .map_err(|_| KubeletError::Internal(format!("{ip:?} is not an address")))?;
    match shared.network.dial(address, port).await {
        Ok(stream) => {
            let _ = stream.set_nodelay(true);
            let (read, write) = stream.into_split();
            Ok((Box::new(read), Box::new(write)))
        }
        Err(error) => Err(KubeletError::Internal(format!(
            "cannot connect to port {port} of pod {}: {error}",
            view.name
        ))),
    }
}
