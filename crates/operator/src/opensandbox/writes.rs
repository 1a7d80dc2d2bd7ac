//! What is written about pools and batches, and how each write is carried out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Error,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use sandlot_api::opensandbox::{BatchSandbox, Pool, names};
use serde_json::{Value, json};

use crate::{
    dispatch::writes::{delete, delete_unchanged},
    index::{Key, Uid},
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
    /// Delete a batch whose time is over.
    DeleteBatch { key: Key, uid: Uid },
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
}

/// Carries out a write.
pub(crate) async fn carry_out(client: Client, write: Write) -> Written {
    match write {
        Write::CreatePod { maker, name, pod } => {
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            let kind = ApiResource::erase::<Pod>(&());
            let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &kind);
            let params = PostParams {
                field_manager: Some(names::FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            let result = api.create(&params, &pod).await.map(drop);
            Written::PodCreated {
                maker,
                name,
                result,
            }
        }
        Write::DeletePod { pod, uid, version } => {
            let api: Api<Pod> = Api::namespaced(client, &pod.namespace);
            let result = match version {
                Some(version) => delete_unchanged(&api, &pod, &uid, version).await,
                None => delete(&api, &pod, &uid, Some(1)).await,
            };
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
        } => tell_batch(client, key, version, meta, status).await,
        Write::AssignPool { key, patch } => {
            let api: Api<BatchSandbox> = Api::namespaced(client, &key.namespace);
            let written = api.patch(&key.name, &manager(), &Patch::Merge(patch)).await;
            let (seen, failed) = match written {
                Ok(batch) => (Some(Box::new(batch)), None),
                Err(error) => (None, Some(error)),
            };
            Written::Batch { key, seen, failed }
        }
        Write::DeleteBatch { key, uid } => {
            let api: Api<BatchSandbox> = Api::namespaced(client, &key.namespace);
            let failed = delete(&api, &key, &uid, None).await.err();
            Written::Batch {
                key,
                seen: None,
                failed,
            }
        }
    }
}

/// Annotations and finalizers first, then the status: who waits for the phase finds the addresses.
async fn tell_batch(
    client: Client,
    key: Key,
    mut version: String,
    meta: Option<Value>,
    status: Option<Value>,
) -> Written {
    let api: Api<BatchSandbox> = Api::namespaced(client, &key.namespace);
    let mut seen = None;
    if let Some(mut patch) = meta {
        patch["resourceVersion"] = json!(version);
        let patch = json!({ "metadata": patch });
        match api.patch(&key.name, &manager(), &Patch::Merge(patch)).await {
            Ok(batch) => {
                version = batch.metadata.resource_version.clone().unwrap_or_default();
                seen = Some(Box::new(batch));
            }
            Err(error) => {
                return Written::Batch {
                    key,
                    seen,
                    failed: Some(error),
                };
            }
        }
    }
    let mut failed = None;
    if let Some(status) = status {
        let patch = json!({ "metadata": { "resourceVersion": version }, "status": status });
        match api
            .patch_status(&key.name, &manager(), &Patch::Merge(patch))
            .await
        {
            Ok(batch) => seen = Some(Box::new(batch)),
            Err(error) => failed = Some(error),
        }
    }
    Written::Batch { key, seen, failed }
}

fn manager() -> PatchParams {
    PatchParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}
