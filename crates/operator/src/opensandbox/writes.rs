//! What is written about pools and batches, and how each write is carried out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Error, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use sandlot_api::{
    PodTemplate,
    opensandbox::{BatchSandbox, Pool, SandboxSnapshot, names},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::restore;

use crate::{
    index::{Key, Uid},
    rounds::writes::{create_pod, delete, delete_pod, patch_by, post_by},
    saving::{Save, SaveError, SavedImage, Saver},
};

/// Something to write.
#[derive(Debug)]
pub(crate) enum Write {
    /// Make a pod, for a pool or for a batch's index.
    CreatePod {
        maker: Maker,
        name: Arc<str>,
        pod: Box<DynamicObject>,
    },
    /// Delete a pod. With a version, only while it is still as it was seen.
    DeletePod {
        pod: Key,
        uid: Uid,
        version: Option<String>,
    },
    /// Change a pod's labels, annotations or owners.
    ChangePod { pod: Key, patch: Value },
    /// Write a pool's status.
    PoolStatus { key: Key, patch: Value },
    /// Change a pool's finalizers.
    PoolMeta { key: Key, patch: Value },
    /// Write a batch's annotations and finalizers, then its status.
    Batch {
        key: Key,
        version: String,
        meta: Option<Value>,
        status: Option<Value>,
    },
    /// Write down the pool that was chosen for a batch.
    AssignPool { key: Key, patch: Value },
    /// Change a batch's spec, by a JSON patch.
    BatchSpec { key: Key, patch: Value },
    /// Make the shape of a batch's pod its template, and take it out of its pool.
    LeavePool {
        key: Key,
        version: String,
        pod: Option<Key>,
        /// Where the pod is gone.
        template: Option<PodTemplate>,
        patches: Option<Value>,
    },
    /// Have a batch saved.
    MakeSnapshot {
        batch: Key,
        snapshot: Box<SandboxSnapshot>,
    },
    /// Delete what a batch was saved as.
    DeleteSnapshot { batch: Key, snapshot: Key, uid: Uid },
    /// Write a snapshot's annotations and finalizers, then its status.
    Snapshot {
        key: Key,
        version: String,
        meta: Option<Value>,
        status: Option<Value>,
    },
    /// Save a pod.
    Save(Box<Saving>),
    /// Delete a batch whose time is over.
    DeleteBatch { key: Key, uid: Uid },
}

/// A pod on its way into images.
#[derive(Debug)]
pub(crate) struct Saving {
    /// The snapshot.
    pub(crate) key: Key,
    pub(crate) uid: Uid,
    pub(crate) saver: Arc<dyn Saver>,
    pub(crate) what: Save,
    pub(crate) cancel: CancellationToken,
}

/// Who a pod is made for.
#[derive(Clone, Debug)]
pub(crate) enum Maker {
    Pool(Key),
    Batch(Key, usize),
}

/// What came of a write.
pub(crate) enum Written {
    PodCreated {
        maker: Maker,
        name: Arc<str>,
        result: Result<(), Error>,
    },
    PodDeleted {
        pod: Key,
        uid: Uid,
        result: Result<(), Error>,
    },
    PodChanged {
        pod: Key,
        result: Result<Box<Pod>, Error>,
    },
    Pool {
        key: Key,
        result: Result<Box<Pool>, Error>,
    },
    /// What was written last, and what failed after it.
    Batch {
        key: Key,
        seen: Option<Box<BatchSandbox>>,
        failed: Option<Error>,
    },
    Snapshot {
        key: Key,
        seen: Option<Box<SandboxSnapshot>>,
        failed: Option<Error>,
    },
    /// A batch's snapshot was made.
    SnapshotMade {
        batch: Key,
        snapshot: Key,
        result: Result<Box<SandboxSnapshot>, Error>,
    },
    Saved {
        key: Key,
        uid: Uid,
        result: Result<Vec<SavedImage>, SaveError>,
    },
}

/// Carries out a write.
pub(crate) async fn carry_out(client: Client, write: Write) -> Written {
    match write {
        Write::CreatePod { maker, name, pod } => {
            let result = create_pod(client, names::FIELD_MANAGER, &pod).await;
            Written::PodCreated {
                maker,
                name,
                result,
            }
        }
        Write::DeletePod { pod, uid, version } => {
            let result = delete_pod(client, &pod, &uid, version).await;
            Written::PodDeleted { pod, uid, result }
        }
        Write::ChangePod { pod, patch } => {
            let api: Api<Pod> = Api::namespaced(client, &pod.namespace);
            let result = api
                .patch(&pod.name, &manager(), &Patch::Merge(patch))
                .await
                .map(Box::new);
            Written::PodChanged { pod, result }
        }
        Write::PoolStatus { key, patch } => {
            let api: Api<Pool> = Api::namespaced(client, &key.namespace);
            let result = api
                .patch_status(&key.name, &manager(), &Patch::Merge(patch))
                .await
                .map(Box::new);
            Written::Pool { key, result }
        }
        Write::PoolMeta { key, patch } => {
            let api: Api<Pool> = Api::namespaced(client, &key.namespace);
            let result = api
                .patch(&key.name, &manager(), &Patch::Merge(patch))
                .await
                .map(Box::new);
            Written::Pool { key, result }
        }
        Write::Batch {
            key,
            version,
            meta,
            status,
        } => {
            let api: Api<BatchSandbox> = Api::namespaced(client, &key.namespace);
            let (seen, failed) = tell(api, &key, version, meta, status).await;
            Written::Batch { key, seen, failed }
        }
        Write::AssignPool { key, patch } => {
            let api: Api<BatchSandbox> = Api::namespaced(client, &key.namespace);
            let written = api.patch(&key.name, &manager(), &Patch::Merge(patch)).await;
            batch_written(key, written)
        }
        Write::BatchSpec { key, patch } => {
            let written = change_spec(client, &key, patch).await;
            batch_written(key, written)
        }
        Write::LeavePool {
            key,
            version,
            pod,
            template,
            patches,
        } => {
            let written = leave_pool(client, &key, &version, pod, template, patches).await;
            batch_written(key, written)
        }
        Write::MakeSnapshot { batch, snapshot } => {
            let api: Api<SandboxSnapshot> = Api::namespaced(client, &batch.namespace);
            let params = post_by(names::FIELD_MANAGER);
            let key = batch.beside(&snapshot.name_any());
            let result = api.create(&params, &snapshot).await.map(Box::new);
            Written::SnapshotMade {
                batch,
                snapshot: key,
                result,
            }
        }
        Write::DeleteSnapshot {
            batch,
            snapshot,
            uid,
        } => {
            let failed = delete::<SandboxSnapshot>(client, &snapshot, &uid)
                .await
                .err();
            Written::Batch {
                key: batch,
                seen: None,
                failed,
            }
        }
        Write::Snapshot {
            key,
            version,
            meta,
            status,
        } => {
            let api: Api<SandboxSnapshot> = Api::namespaced(client, &key.namespace);
            let (seen, failed) = tell(api, &key, version, meta, status).await;
            Written::Snapshot { key, seen, failed }
        }
        Write::Save(saving) => save(*saving).await,
        Write::DeleteBatch { key, uid } => {
            let failed = delete::<BatchSandbox>(client, &key, &uid).await.err();
            Written::Batch {
                key,
                seen: None,
                failed,
            }
        }
    }
}

fn batch_written(key: Key, written: Result<BatchSandbox, Error>) -> Written {
    let (seen, failed) = match written {
        Ok(batch) => (Some(Box::new(batch)), None),
        Err(error) => (None, Some(error)),
    };
    Written::Batch { key, seen, failed }
}

/// Annotations and finalizers first, then the status: who waits for the phase finds the addresses.
async fn tell<K>(
    api: Api<K>,
    key: &Key,
    mut version: String,
    meta: Option<Value>,
    status: Option<Value>,
) -> (Option<Box<K>>, Option<Error>)
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    let mut seen = None;
    if let Some(mut patch) = meta {
        patch["resourceVersion"] = json!(version);
        let patch = json!({ "metadata": patch });
        match api.patch(&key.name, &manager(), &Patch::Merge(patch)).await {
            Ok(object) => {
                version = object.meta().resource_version.clone().unwrap_or_default();
                seen = Some(Box::new(object));
            }
            Err(error) => return (seen, Some(error)),
        }
    }
    let mut failed = None;
    if let Some(status) = status {
        let patch = json!({ "metadata": { "resourceVersion": version }, "status": status });
        match api
            .patch_status(&key.name, &manager(), &Patch::Merge(patch))
            .await
        {
            Ok(object) => seen = Some(Box::new(object)),
            Err(error) => failed = Some(error),
        }
    }
    (seen, failed)
}

async fn change_spec(client: Client, key: &Key, patch: Value) -> Result<BatchSandbox, Error> {
    let api: Api<BatchSandbox> = Api::namespaced(client, &key.namespace);
    let patch = serde_json::from_value(patch).map_err(Error::SerdeError)?;
    let patch: Patch<()> = Patch::Json(patch);
    api.patch(&key.name, &manager(), &patch).await
}

async fn leave_pool(
    client: Client,
    key: &Key,
    version: &str,
    pod: Option<Key>,
    template: Option<PodTemplate>,
    patches: Option<Value>,
) -> Result<BatchSandbox, Error> {
    let kind = ApiResource::erase::<Pod>(&());
    let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), &key.namespace, &kind);
    let found = match pod {
        Some(pod) => pods.get_opt(&pod.name).await?,
        None => None,
    };
    let template = match found {
        Some(pod) => restore::template_of(&pod),
        None => json!(template),
    };
    let patch = restore::out_of_pool(version, &template, patches);
    change_spec(client, key, patch).await
}

async fn save(saving: Saving) -> Written {
    let Saving {
        key,
        uid,
        saver,
        what,
        cancel,
    } = saving;
    let longest = saver.longest();
    let working = tokio::time::timeout(longest, saver.save(what));
    let result = tokio::select! {
        result = working => result.unwrap_or_else(|_| {
            let seconds = longest.as_secs();
            Err(SaveError::Commit(format!("it was not saved within {seconds} s")))
        }),
        () = cancel.cancelled() => Err(SaveError::Commit("it is not wanted any more".to_owned())),
    };
    Written::Saved { key, uid, result }
}

fn manager() -> PatchParams {
    patch_by(names::FIELD_MANAGER)
}
