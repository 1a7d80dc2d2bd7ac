//! Which API the client commands talk to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{args::Target, folders};

/// A client of the API that is meant, and the namespace in it.
pub(crate) async fn connect(target: &Target) -> Result<(Client, String)> {
    let config = match find(target)? {
        Some(file) => of_file(&file).await?,
        None => Config::incluster()
            .context("there is no API to talk to: start `sandlot up`, or set KUBECONFIG")?,
    };
    let namespace = target
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    Ok((Client::try_from(config)?, namespace))
}

/// The kubeconfig to use; `None` inside a pod.
fn find(target: &Target) -> Result<Option<PathBuf>> {
    if let Some(named) = &target.kubeconfig {
        if !named.exists() {
            bail!("there is no kubeconfig at {}", named.display());
        }
        return Ok(Some(named.clone()));
    }
    let from_env =
        std::env::var_os("KUBECONFIG").and_then(|paths| std::env::split_paths(&paths).next());
    let ours = folders::data().ok().map(|data| data.join("kubeconfig"));
    let usual = std::env::home_dir().map(|home| home.join(".kube/config"));
    Ok([from_env, ours, usual]
        .into_iter()
        .flatten()
        .find(|file| file.exists()))
}

async fn of_file(file: &Path) -> Result<Config> {
    let read =
        Kubeconfig::read_from(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?)
}
