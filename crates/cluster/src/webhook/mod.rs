//! Servers elsewhere that are asked over HTTPS: to judge a write, to convert an object.

mod call;
mod place;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;
use tokio::time::timeout;

use place::Place;
pub use place::{Endpoints, Services};

/// One such server.
pub(crate) struct Server {
    place: Place,
    tls: Result<Arc<rustls::ClientConfig>, String>,
    patience: Duration,
}

impl Server {
    /// The server that a configuration names, and how long it may take to answer.
    pub(crate) fn new(config: &WebhookClientConfig, patience: Duration) -> Server {
        let bundle = config.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice());
        Server {
            place: Place::new(config),
            tls: call::trust(bundle),
            patience,
        }
    }

    /// What it answers, or why it does not.
    pub(crate) async fn ask(
        &self,
        services: &dyn Services,
        question: String,
    ) -> Result<Bytes, String> {
        let exchange = async {
            let found = self.place.find(services).await?;
            let post = call::post(self.tls.clone()?, &found, question);
            let answer = post.await;
            answer.map_err(|why| format!("Post \"{}\": {why}", self.place))
        };
        let late = || {
            Err(format!(
                "{} did not answer within {:?}",
                self.place, self.patience
            ))
        };
        let answer = timeout(self.patience, exchange).await;
        answer.unwrap_or_else(|_| late())
    }
}
