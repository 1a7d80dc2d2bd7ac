//! The operator from its start to its end.

use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Settings, agents::Agents, dispatch::Dispatcher, events::Events, metrics::Metrics,
    world::World,
};

/// Runs the operator until it is cancelled. The custom resources must be installed.
pub async fn run(
    client: Client,
    settings: Settings,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let settings = Arc::new(settings);
    let metrics = Arc::new(Metrics::default());
    let agents = Arc::new(Agents::new(settings.agent.port, settings.call_timeout));
    // Events are told until the last write has been sent.
    let telling = CancellationToken::new();
    let (events, tell) = Events::start(
        client.clone(),
        settings.identity.name.clone(),
        telling.clone(),
    );
    let teller = tokio::spawn(tell);
    let world = World::new(settings, agents, events, metrics);
    let ready = || tracing::info!("the operator has read everything and works");
    Dispatcher::new(client, world).work(ready, cancel).await;
    telling.cancel();
    // A panic in there has been reported by the runtime; nothing depends on it.
    let _ = teller.await;
    Ok(())
}
