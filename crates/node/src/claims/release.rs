//! Letting claims go that were deleted, once no pod uses them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Event as Watched};
use serde_json::json;

use super::{Claims, PROTECTION, PROVISIONER, choose};
use crate::node::Shared;
use crate::removal;

/// How often a deleted claim that is still used is looked at again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Runs until the node stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let stop = shared.stopped().clone();
    stop.run_until_cancelled(follow(&shared)).await;
}

async fn follow(shared: &Shared) {
    let api: Api<PersistentVolumeClaim> = Api::all(shared.client.clone());
    let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    // Claims are few; those that were deleted and are still used are fewer.
    let mut doomed: BTreeMap<String, PersistentVolumeClaim> = BTreeMap::new();
    loop {
        let seen = match doomed.is_empty() {
            true => Some(stream.next().await),
            false => tokio::time::timeout(TRY_AGAIN, stream.next()).await.ok(),
        };
        match seen {
            Some(None) => return,
            Some(Some(Ok(Watched::Apply(claim) | Watched::InitApply(claim))))
                if is_doomed(&claim) =>
            {
                let uid = claim.metadata.uid.clone().unwrap_or_default();
                doomed.insert(uid, claim);
            }
            Some(Some(Ok(_))) => {}
            Some(Some(Err(error))) => {
                tracing::warn!(%error, "the watch on claims broke; it is taken up again");
                tokio::time::sleep(TRY_AGAIN).await;
            }
            None => {}
        }
        let mut left = BTreeMap::new();
        for (uid, claim) in std::mem::take(&mut doomed) {
            let free = !is_used(shared, &claim);
            if !free || shared.claims.release(&claim).await.is_err() {
                left.insert(uid, claim);
            }
        }
        doomed = left;
    }
}

/// It was deleted, and we keep it from going.
fn is_doomed(claim: &PersistentVolumeClaim) -> bool {
    let kept = claim
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|one| one == PROTECTION);
    kept && claim.metadata.deletion_timestamp.is_some()
}

fn is_used(shared: &Shared, claim: &PersistentVolumeClaim) -> bool {
    let meta = &claim.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let mut views = shared.views().into_iter();
    views.any(|view| {
        let same = Some(&view.namespace) == meta.namespace.as_ref();
        same && !view.at_rest && view.claims.contains(name)
    })
}

impl Claims {
    /// The volume goes, or is left to its owner, and then the claim may go.
    async fn release(&self, claim: &PersistentVolumeClaim) -> kube::Result<()> {
        let name = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.clone());
        if let Some(name) = name {
            self.release_volume(&name).await?;
        }
        let meta = &claim.metadata;
        let others = meta
            .finalizers
            .iter()
            .flatten()
            .filter(|one| *one != PROTECTION);
        let patch =
            json!({"metadata": {"uid": meta.uid, "finalizers": others.collect::<Vec<_>>()}});
        let namespace = meta.namespace.as_deref().unwrap_or("default");
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let name = meta.name.as_deref().unwrap_or_default();
        let patched = api
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        gone_is_good(patched.map(|_| ()))
    }

    async fn release_volume(&self, name: &str) -> kube::Result<()> {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let Some(volume) = api.get_opt(name).await? else {
            return Ok(());
        };
        let annotations = volume.metadata.annotations.as_ref();
        let maker = annotations.and_then(|all| all.get("pv.kubernetes.io/provisioned-by"));
        let policy = volume
            .spec
            .as_ref()
            .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        if maker.is_none_or(|maker| maker != PROVISIONER) || policy == Some("Retain") {
            let released = json!({"status": {"phase": "Released"}});
            let params = PatchParams::default();
            let patched = api
                .patch_status(name, &params, &Patch::Merge(released))
                .await;
            return gone_is_good(patched.map(|_| ()));
        }
        // Only what lies where we make folders is ours to remove, whatever the object says.
        let folder = choose::folder_of(&volume).ok();
        if let Some(folder) = folder.filter(|folder| self.made(folder)) {
            let removed = tokio::task::spawn_blocking(move || removal::remove_all(&folder)).await;
            if let Ok(Err(error)) = removed {
                tracing::warn!(volume = name, %error, "cannot remove a volume's folder");
            }
        }
        let deleted = api.delete(name, &DeleteParams::default()).await;
        gone_is_good(deleted.map(|_| ()))
    }
}

fn gone_is_good(result: kube::Result<()>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(error)) if error.code == 404 || error.code == 409 => Ok(()),
        other => other,
    }
}
