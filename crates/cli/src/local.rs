//! All of Sandlot in one process on this machine, started and stopped in order.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use kube::Client;
use sandlot_cluster::{
    Cluster, Config,
    server::{Limits, Listen, Listening},
};

/// What is started, and where.
#[derive(Debug)]
pub(crate) struct Options {
    /// Where everything is kept.
    pub(crate) folder: PathBuf,
    /// Keep objects in memory only.
    pub(crate) in_memory: bool,
    /// Where the API listens.
    pub(crate) listen: SocketAddr,
    /// Where the kubeconfig is written.
    pub(crate) kubeconfig: PathBuf,
}

/// The running whole.
pub(crate) struct Local {
    cluster: Cluster,
    listening: Listening,
}

impl Local {
    /// Starts the API, then who works on it, then lets clients in.
    pub(crate) async fn start(options: &Options) -> Result<Local> {
        make_private(&options.folder)?;
        let keys = options.folder.join("keys");
        let config = Config {
            database: (!options.in_memory).then(|| options.folder.join("cluster.db")),
            keys: Some(keys.clone()),
            ..Config::default()
        };
        let cluster = Cluster::start(config).await?;
        let listen = Listen {
            address: options.listen,
            keys,
            kubeconfig: Some(options.kubeconfig.clone()),
            name: "sandlot".to_owned(),
            limits: Limits::default(),
        };
        let listening = cluster.listen(listen).await?;
        Ok(Local { cluster, listening })
    }

    /// Where the API listens, with the port that was picked.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listening.address
    }

    /// A client in process that may do anything.
    pub(crate) fn client(&self) -> Client {
        self.cluster.client()
    }

    /// Lets nobody in any more and stops everything, the API last.
    pub(crate) async fn stop(self) {
        self.listening.stop().await;
        self.cluster.stop().await;
    }
}

/// A folder that only its owner may look into.
fn make_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the data folder {}", folder.display()))
}
