//! Sandboxes made before anybody needs them: a network namespace sometimes takes the
//! kernel milliseconds, and a pod that is being created should not wait for that.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::record::{Record, born};
use super::{Sandbox, Zygote, apart};
use crate::keeper::message::{Birth, IdRange};
use crate::network::Network;
use crate::removal;

/// Users given to each pod.
const IDS_PER_POD: u32 = 1 << 16;
/// The first user given to a pod; ordinary users and services are far below.
const FIRST_ID: u32 = 1 << 28;

/// What a pod needs its sandbox to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) host_network: bool,
    /// Users of its own, as every pod has that does not ask for the machine's.
    pub(crate) own_users: bool,
}

impl Kind {
    /// What nearly every pod needs; only these are made ahead.
    pub(crate) const USUAL: Kind = Kind {
        host_network: false,
        own_users: true,
    };
}

/// Makes sandboxes and keeps some ready.
pub(crate) struct Pool {
    folder: PathBuf,
    zygote: Arc<Zygote>,
    network: Arc<Network>,
    keep_ready: usize,
    is_root: bool,
    shared: Mutex<Shared>,
    taken: Notify,
}

#[derive(Default)]
struct Shared {
    ready: VecDeque<Sandbox>,
    slots: BTreeSet<u16>,
}

impl Pool {
    /// An empty pool; it keeps nothing ready until [`Pool::keep_ready`].
    pub(crate) fn open(
        folder: &Path,
        zygote: Arc<Zygote>,
        network: Arc<Network>,
        keep_ready: usize,
    ) -> io::Result<Arc<Pool>> {
        std::fs::create_dir_all(folder)?;
        if let Err(error) = apart::lay_apart(folder) {
            tracing::debug!(%error, "the file system chooses where pods' files lie");
        }
        Ok(Arc::new(Pool {
            folder: folder.to_owned(),
            zygote,
            network,
            keep_ready,
            is_root: nix::unistd::geteuid().is_root(),
            shared: Mutex::default(),
            taken: Notify::new(),
        }))
    }

    /// Fills the pool until `stop`; only once what was there before is known.
    pub(crate) async fn keep_ready(self: Arc<Pool>, stop: CancellationToken) {
        // Never in the middle of making one, which would be left behind.
        while !stop.is_cancelled() {
            self.fill(&stop).await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.taken.notified() => {}
            }
        }
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fill(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() && self.shared().ready.len() < self.keep_ready {
            match self.make(Kind::USUAL).await {
                Ok(sandbox) => self.shared().ready.push_back(sandbox),
                Err(error) => {
                    tracing::warn!(%error, "cannot make a sandbox ahead");
                    let rest = tokio::time::sleep(std::time::Duration::from_secs(1));
                    stop.run_until_cancelled(rest).await;
                }
            }
        }
    }

    /// A sandbox of this kind: one that is ready, or a new one.
    pub(crate) async fn take(self: &Arc<Pool>, kind: Kind) -> io::Result<Sandbox> {
        if kind == Kind::USUAL {
            let ready = self.shared().ready.pop_front();
            self.taken.notify_one();
            match ready {
                Some(sandbox) if sandbox.record.keeper_lives() => return Ok(sandbox),
                Some(dead) => self.discard(&dead).await,
                None => {}
            }
        }
        // Never in the middle of making one, which would be left behind.
        let (pool, (give, taken)) = (self.clone(), tokio::sync::oneshot::channel());
        tokio::spawn(async move {
            if let Err(Ok(unwanted)) = give.send(pool.make(kind).await) {
                pool.discard(&unwanted).await;
            }
        });
        taken.await.map_err(io::Error::other)?
    }

    async fn discard(&self, sandbox: &Sandbox) {
        if let Err(error) = self.destroy(sandbox).await {
            tracing::warn!(sandbox = sandbox.id(), %error, "cannot remove a sandbox");
        }
    }

    /// Marks what a sandbox from before uses as used.
    pub(crate) fn adopt(&self, record: &Record) {
        self.shared().slots.insert(record.slot);
    }

    /// Ends a sandbox and removes everything it left.
    pub(crate) async fn destroy(&self, sandbox: &Sandbox) -> io::Result<()> {
        sandbox.leave().await;
        self.clear(&sandbox.dir, sandbox.record.slot).await
    }

    /// Removes what a dead keeper left.
    pub(crate) async fn clear(&self, dir: &Path, slot: u16) -> io::Result<()> {
        self.network.disconnect(slot).await;
        let doomed = dir.to_owned();
        // Deleting is slow work for another thread.
        let removed = tokio::task::spawn_blocking(move || removal::remove_all(&doomed)).await;
        self.shared().slots.remove(&slot);
        removed.map_err(io::Error::other)?
    }

    /// Ends the sandboxes that nobody took.
    pub(crate) async fn drain(&self) {
        let ready = std::mem::take(&mut self.shared().ready);
        for sandbox in ready {
            self.discard(&sandbox).await;
        }
    }

    fn claim_slot(&self) -> io::Result<u16> {
        let mut shared = self.shared();
        let free = (1..crate::network::MOST_SLOTS).find(|slot| !shared.slots.contains(slot));
        let slot = free.ok_or_else(|| io::Error::other("every pod address is in use"))?;
        shared.slots.insert(slot);
        Ok(slot)
    }

    async fn make(&self, kind: Kind) -> io::Result<Sandbox> {
        let slot = self.claim_slot()?;
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let dir = self.folder.join(&id);
        let made = self.build(kind, slot, id, &dir).await;
        if made.is_err() {
            let _ = self.clear(&dir, slot).await;
        }
        made
    }

    async fn build(&self, kind: Kind, slot: u16, id: String, dir: &Path) -> io::Result<Sandbox> {
        for folder in ["build", "volumes", "etc"] {
            std::fs::create_dir_all(dir.join(folder))?;
        }
        let users = kind.own_users.then(|| self.users(slot));
        let birth = Birth {
            dir: dir.to_owned(),
            users,
            host_network: kind.host_network,
        };
        let keeper = self.zygote.keep(birth).await?;
        let record = Record {
            id,
            slot,
            keeper,
            keeper_born: born(keeper)
                .ok_or_else(|| io::Error::other("the keeper ended at once"))?,
            host_network: kind.host_network,
            own_users: kind.own_users,
            runtime: None,
            owner: None,
        };
        let sandbox = Sandbox {
            dir: dir.to_owned(),
            record,
        };
        let connected = async {
            sandbox.record.write(dir)?;
            if !kind.host_network {
                self.network.connect(slot, keeper).await?;
            }
            Ok(())
        };
        if let Err(error) = connected.await {
            sandbox.leave().await;
            return Err(error);
        }
        Ok(sandbox)
    }

    /// Without root there is one user to give, our own.
    fn users(&self, slot: u16) -> IdRange {
        if self.is_root {
            IdRange {
                first: FIRST_ID + u32::from(slot) * IDS_PER_POD,
                count: IDS_PER_POD,
            }
        } else {
            IdRange { first: 0, count: 1 }
        }
    }
}
