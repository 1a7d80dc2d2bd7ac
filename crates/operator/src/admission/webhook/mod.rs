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
use certificates::{Papers, Served};

/// How long certificates are good for, where nobody says otherwise.
pub(crate) const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Shorter ones would be over before everybody has heard of their successors.
pub(crate) const SHORTEST_LIFETIME: Duration = Duration::from_secs(10);
/// How often certificates are looked at, at least.
const LOOK: Duration = Duration::from_secs(12 * 3600);
/// An API server learns whom to trust this long after it was written down, at most.
const SPREAD: Duration = Duration::from_secs(2);
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
    /// How long its certificates are good for.
    pub lifetime: Duration,
}

impl Webhook {
    /// New certificates are made when the old ones have no more than this left.
    fn spare(&self) -> Duration {
        self.lifetime / 4
    }

    /// How often they are looked at: many times while there is something left.
    fn look(&self) -> Duration {
        (self.spare() / 10).min(LOOK)
    }
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
        let mut shown = None;
        loop {
            let pause = match keep(&client, &webhook, &served, &mut shown).await {
                Ok(()) => webhook.look(),
                Err(error) => {
                    tracing::warn!(%error, "the webhook's certificates could not be kept; trying again");
                    AGAIN.min(webhook.look())
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

/// Sees to it that good certificates are served and the API server trusts them. It is told of a new
/// authority before anything is shown that only that one vouches for.
async fn keep(
    client: &Client,
    webhook: &Webhook,
    served: &Served,
    shown: &mut Option<Papers>,
) -> Result<(), certificates::KeepError> {
    if shown.is_none()
        && let Some(stored) = certificates::stored(client, webhook).await?
    {
        served.use_these(&stored)?;
        *shown = Some(stored);
    }
    let papers = certificates::obtain(client, webhook, Timestamp::now()).await?;
    if shown.is_none() {
        served.use_these(&papers)?;
    }
    registration::register(client, webhook, &papers.authority).await?;
    if let Some(before) = shown
        && *before != papers
    {
        tokio::time::sleep(SPREAD).await;
        served.use_these(&papers)?;
        tracing::info!("the webhook shows new certificates");
    }
    *shown = Some(papers);
    Ok(())
}

#[cfg(test)]
mod tests;
