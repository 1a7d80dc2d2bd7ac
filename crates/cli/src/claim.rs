//! Claiming a sandbox and giving it back.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures::TryStreamExt;
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use sandlot_api::arl::{Sandbox, SandboxPhase, SandboxSpec, WarmPool};

use crate::{interrupts::Interrupts, progress::Progress};

/// How long a claim may wait for a warm pod before it is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long giving a pod back may take: whoever typed Ctrl-C waits for it.
const FAREWELL: Duration = Duration::from_secs(15);

/// A sandbox that is ours.
pub(crate) struct Claim {
    api: Api<Sandbox>,
    /// The Sandbox's name.
    pub(crate) name: String,
    /// Its pod.
    pub(crate) pod: String,
}

impl Claim {
    /// Takes a pod from a pool; returns when it is ready for commands, or leaves nothing behind.
    pub(crate) async fn make(
        client: &Client,
        namespace: &str,
        pool: &str,
        interrupts: &mut Interrupts,
    ) -> Result<Claim> {
        let pools: Api<WarmPool> = Api::namespaced(client.clone(), namespace);
        if pools.get_opt(pool).await?.is_none() {
            bail!(
                "there is no pool {pool} in namespace {namespace}; `sandlot pool list` lists them"
            );
        }
        let api: Api<Sandbox> = Api::namespaced(client.clone(), namespace);
        let sandbox = Sandbox {
            metadata: ObjectMeta {
                generate_name: Some("run-".to_owned()),
                ..ObjectMeta::default()
            },
            spec: SandboxSpec {
                pool_ref: pool.to_owned(),
                keep_alive: Some(true),
                ..SandboxSpec::default()
            },
            status: None,
        };
        let made = api
            .create(&PostParams::default(), &sandbox)
            .await
            .context("cannot create a sandbox")?;
        let name = made
            .metadata
            .name
            .context("the API gave the sandbox no name")?;
        let waited = tokio::select! {
            waited = tokio::time::timeout(PATIENCE, ready(&api, &name)) => waited,
            stopped = interrupts.first() => Ok(Err(stopped.into())),
        };
        match waited {
            Ok(Ok(pod)) => Ok(Claim { api, name, pod }),
            Ok(Err(error)) => {
                give_back(&api, &name).await;
                Err(error)
            }
            Err(_) => {
                let why = api
                    .get(&name)
                    .await
                    .ok()
                    .and_then(|s| why(&s))
                    .unwrap_or_default();
                give_back(&api, &name).await;
                bail!(
                    "pool {pool} had no warm pod for {} s: {why}",
                    PATIENCE.as_secs()
                )
            }
        }
    }

    /// Gives the pod back.
    pub(crate) async fn release(self) {
        give_back(&self.api, &self.name).await;
    }
}

/// The pod of a sandbox that is there already.
pub(crate) async fn pod_of(client: &Client, namespace: &str, sandbox: &str) -> Result<String> {
    let api: Api<Sandbox> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(sandbox).await?.ok_or_else(|| {
        anyhow!("there is no sandbox {sandbox} in namespace {namespace}; `sandlot ps` lists them")
    })?;
    let why = why(&found).unwrap_or_default();
    let status = found.status.unwrap_or_default();
    match (status.phase, status.pod_name) {
        (Some(SandboxPhase::Ready | SandboxPhase::Bound), Some(pod)) => Ok(pod),
        (phase, _) => bail!(
            "sandbox {sandbox} is {}, not Ready: {why}",
            phase.map_or("new".into(), |p| format!("{p:?}"))
        ),
    }
}

async fn ready(api: &Api<Sandbox>, name: &str) -> Result<String> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut states = std::pin::pin!(watcher(api.clone(), config).applied_objects());
    let mut progress = Progress::new();
    while let Some(sandbox) = states.try_next().await? {
        let why = why(&sandbox).unwrap_or_default();
        progress.say(&why);
        let status = sandbox.status.unwrap_or_default();
        match (status.phase, status.pod_name) {
            (Some(SandboxPhase::Ready | SandboxPhase::Bound), Some(pod)) => return Ok(pod),
            (Some(SandboxPhase::Failed | SandboxPhase::Released), _) => {
                bail!("sandbox {name} failed: {why}")
            }
            _ => {}
        }
    }
    bail!("the watch on sandbox {name} ended")
}

async fn give_back(api: &Api<Sandbox>, name: &str) {
    let parameters = DeleteParams::default();
    let deleted = tokio::time::timeout(FAREWELL, api.delete(name, &parameters)).await;
    let why = match deleted {
        // Whoever took it away first saved us the trouble.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => return,
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the API has not answered within {} s", FAREWELL.as_secs()),
    };
    tracing::warn!(
        why,
        sandbox = name,
        "could not give the sandbox back; delete it by hand"
    );
}

/// What the conditions say, newest word last.
fn why(sandbox: &Sandbox) -> Option<String> {
    let conditions = sandbox.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .map(|c| c.message.clone())
        .rfind(|message| !message.is_empty())
}
