//! The rules as a webhook, for clusters whose API server cannot call them in process.
//!
//! Its certificates are made here, kept in a Secret so that several operators share them, renewed
//! long before they end, and told to the API server together with what the webhook is asked for.

mod certificates;
mod registration;
mod server;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::Error;
use certificates::Served;

/// How often certificates are looked at.
const LOOK: Duration = Duration::from_secs(12 * 3600);
/// How soon again after something went wrong.
const AGAIN: Duration = Duration::from_secs(30);

/// Where the webhook is served, and how the API server reaches it.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where to listen.
    pub address: SocketAddr,
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The Service's port.
    pub port: u16,
}

/// Serves the webhook until cancelled.
pub(crate) async fn serve(
    client: Client,
    webhook: Webhook,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let served = Arc::new(Served::default());
    let server = server::serve(webhook.address, served.clone(), cancel.clone());
    let keeping = async {
        loop {
            let pause = match keep(&client, &webhook, &served).await {
                Ok(()) => LOOK,
                Err(error) => {
                    tracing::warn!(%error, "the webhook's certificates could not be kept; trying again");
                    AGAIN
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => return,
            }
        }
    };
    let (result, ()) = tokio::join!(server, keeping);
    result
}

/// Sees to it that good certificates are served and the API server trusts them.
async fn keep(
    client: &Client,
    webhook: &Webhook,
    served: &Served,
) -> Result<(), certificates::KeepError> {
    let papers = certificates::obtain(client, webhook, Timestamp::now()).await?;
    served.use_these(&papers)?;
    registration::register(client, webhook, &papers.authority).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
