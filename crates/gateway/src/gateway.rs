//! The gateway itself: what its routes work with.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kube::Client;
use sandlot_access::PrivateKey;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    callbacks::Callbacks,
    claims::Claims,
    error::GatewayError,
    executors::Executors,
    ledger::{Ledger, LedgerError, Template, TemplateFacts, hidden},
    metrics::Metrics,
    pace::{Calls, Pace},
    pools::Pools,
    pulse::Pulse,
    runs::Runs,
    settings::Settings,
    workspaces::Workspaces,
};

/// So many templates' pods are made ready at the start.
const TEMPLATES: i64 = 200;

/// Waits between attempts to open a database that is not there yet.
const AGAIN: Duration = Duration::from_secs(1);

/// Everything the routes work with.
pub(crate) struct Gateway {
    pub(crate) settings: Settings,
    pub(crate) ledger: Ledger,
    pub(crate) files: Workspaces,
    pub(crate) pools: Pools,
    pub(crate) claims: Claims,
    pub(crate) executors: Executors,
    pub(crate) runs: Runs,
    /// How often everybody has called, where that is bounded.
    pub(crate) calls: Option<Calls>,
    /// How the parts it works with were when they were asked last.
    pub(crate) pulse: Pulse,
    pub(crate) callbacks: Callbacks,
    pub(crate) metrics: Metrics,
    /// What goes on beside requests; waited for at the end.
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
    /// The name of this gateway among several.
    pub(crate) me: String,
    pub(crate) started: Instant,
}

/// Gateways that share agents share what executors' tokens are made with.
fn callbacks(settings: &Settings) -> Callbacks {
    let key = settings.key.as_ref().map(PrivateKey::reveal);
    Callbacks::new(settings.callback_secret.as_deref().or(key.as_deref()))
}

impl Gateway {
    /// Opens the database and the store, and notes the first templates if they are new.
    pub(crate) async fn open(
        client: Client,
        settings: Settings,
        cancel: CancellationToken,
    ) -> Result<Arc<Self>, GatewayError> {
        let ledger = open_ledger(&settings).await?;
        let files = Workspaces::open(&settings.files)?;
        let namespace = settings.namespace.clone();
        let gateway = Self {
            pools: Pools::new(
                client.clone(),
                namespace.clone(),
                settings.warm,
                settings.pulls.clone(),
            ),
            claims: Claims::new(client, namespace),
            executors: Executors::new(settings.key.clone(), settings.agent_port),
            runs: Runs::default(),
            calls: settings
                .calls_per_minute
                .map(|calls| Calls::new(Pace::per_minute(calls))),
            pulse: Pulse::default(),
            callbacks: callbacks(&settings),
            metrics: Metrics::default(),
            tasks: TaskTracker::new(),
            me: format!("gateway-{}", uuid::Uuid::new_v4().simple()),
            started: Instant::now(),
            ledger,
            files,
            settings,
            cancel,
        };
        gateway.pools.make_namespace().await?;
        gateway.seed().await?;
        if gateway.settings.warm_at_start {
            gateway.warm().await?;
        }
        Ok(Arc::new(gateway))
    }

    /// Makes every template's pods ready. What fails here is tried again by who wants one.
    async fn warm(&self) -> Result<(), LedgerError> {
        for template in self.ledger.templates(TEMPLATES, 0).await? {
            if !template.facts.is_active {
                continue;
            }
            if let Err(error) = self.pools.keep(&template).await {
                tracing::warn!(%error, template = template.id, "its pods could not be made ready");
            }
        }
        Ok(())
    }

    /// The templates that clients take for granted, made at the first start.
    async fn seed(&self) -> Result<(), LedgerError> {
        let settings = &self.settings;
        let shape = settings.default_shape;
        let seeds = [
            (
                &settings.default_template,
                "Python Basic",
                &settings.default_image,
            ),
            (
                &"multi-language".to_owned(),
                "Multi-Language",
                &settings.languages_image,
            ),
        ];
        for (id, name, image) in seeds {
            if self.ledger.template(id).await?.is_some() {
                continue;
            }
            let facts = TemplateFacts {
                image: image.clone(),
                cpu_cores: shape.cpu_millis as f64 / 1000.0,
                memory_mb: i64::try_from(shape.memory_mib).unwrap_or(i64::MAX),
                disk_mb: i64::try_from(shape.disk_mib).unwrap_or(i64::MAX),
                timeout: settings.timeouts.0,
                ..TemplateFacts::default()
            };
            let template = Template::new(id.clone(), name.to_owned(), facts);
            match self.ledger.add_template(&template).await {
                // Another gateway was faster, or somebody named a template so.
                Ok(()) | Err(LedgerError::Taken) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The database, once it is there: it may be starting beside us, or be away for a while.
async fn open_ledger(settings: &Settings) -> Result<Ledger, LedgerError> {
    loop {
        match Ledger::open(&settings.database_url, settings.database_connections).await {
            Err(error) if error.is_away() => {
                let address = hidden(&settings.database_url);
                tracing::warn!(%error, address, "waiting for the database");
                tokio::time::sleep(AGAIN).await;
            }
            opened => return opened,
        }
    }
}
