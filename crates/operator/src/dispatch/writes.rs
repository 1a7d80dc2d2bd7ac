//! What the operator writes, and how each write is carried out.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Error,
    api::{
        ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
    },
};
use sandlot_api::arl::{Sandbox, Task, WarmPool, names};
use serde_json::{Value, json};

use crate::index::{Key, Uid};

/// Something to write.
#[derive(Debug)]
pub(crate) enum Write {
    /// Make a pod for a pool.
    CreatePod {
        pool: Key,
        name: Arc<str>,
        pod: Box<DynamicObject>,
    },
    /// Delete a pod. With a version, only while it is still as it was seen: a pod that an operator
    /// before us has just claimed stays.
    DeletePod {
        pod: Key,
        uid: Uid,
        version: Option<String>,
    },
    /// Hand a wiped pod back to its pool.
    ReturnPod { pod: Key, patch: Value },
    /// Give a pod to a sandbox, then say so in the sandbox's status.
    Claim(Box<Claim>),
    /// Write a sandbox's status.
    Sandbox { key: Key, patch: Value },
    /// Write a sandbox's last status, then delete it.
    EndSandbox { key: Key, uid: Uid, patch: Value },
    /// Let a sandbox go that an older operator holds back.
    FreeSandbox { key: Key, patch: Value },
    /// Write a pool's status.
    Pool { key: Key, patch: Value },
    /// Write a task's status.
    Task { key: Key, patch: Value },
    /// Delete a task.
    DeleteTask { key: Key, uid: Uid },
}

/// A pod on its way to a sandbox.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) pod: Key,
    /// The revision of the pod that the claim was decided on.
    pub(crate) pod_revision: u64,
    pub(crate) pod_patch: Value,
    pub(crate) sandbox: Key,
    pub(crate) sandbox_uid: Uid,
    pub(crate) status_patch: Value,
}

/// What came of a write.
pub(crate) enum Written {
    PodCreated {
        pool: Key,
        name: Arc<str>,
        result: Result<(), Error>,
    },
    PodDeleted {
        pod: Key,
        result: Result<(), Error>,
    },
    PodReturned {
        pod: Key,
        result: Result<Box<Pod>, Error>,
    },
    Claimed(Box<Claimed>),
    Sandbox {
        key: Key,
        result: Result<Option<Box<Sandbox>>, Error>,
    },
    Pool {
        key: Key,
        result: Result<Box<WarmPool>, Error>,
    },
    Task {
        key: Key,
        result: Result<Option<Box<Task>>, Error>,
    },
}

/// What came of a claim.
pub(crate) struct Claimed {
    pub(crate) pod: Key,
    pub(crate) pod_revision: u64,
    pub(crate) sandbox: Key,
    pub(crate) given: Result<Pod, Error>,
    /// The status, when the pod was given.
    pub(crate) told: Option<Result<Sandbox, Error>>,
}

/// Carries out a write.
pub(crate) async fn carry_out(client: Client, write: Write) -> Written {
    match write {
        Write::CreatePod { pool, name, pod } => {
            let kind = ApiResource::erase::<Pod>(&());
            let api: Api<DynamicObject> = Api::namespaced_with(client, &pool.namespace, &kind);
            let params = PostParams {
                field_manager: Some(names::FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            let result = api.create(&params, &pod).await.map(drop);
            Written::PodCreated { pool, name, result }
        }
        Write::DeletePod { pod, uid, version } => {
            let api: Api<Pod> = Api::namespaced(client, &pod.namespace);
            let result = match version {
                Some(version) => delete_unchanged(&api, &pod, &uid, version).await,
                None => delete(&api, &pod, &uid, Some(1)).await,
            };
            Written::PodDeleted { pod, result }
        }
        Write::ReturnPod { pod, patch } => {
            let api: Api<Pod> = Api::namespaced(client, &pod.namespace);
            let result = api
                .patch(&pod.name, &manager(), &Patch::Merge(patch))
                .await
                .map(Box::new);
            Written::PodReturned { pod, result }
        }
        Write::Claim(claim) => Written::Claimed(Box::new(give(client, *claim).await)),
        Write::Sandbox { key, patch } => {
            let api: Api<Sandbox> = Api::namespaced(client, &key.namespace);
            let result = api
                .patch_status(&key.name, &manager(), &Patch::Merge(patch))
                .await;
            let result = result.map(|sandbox| Some(Box::new(sandbox)));
            Written::Sandbox { key, result }
        }
        Write::EndSandbox { key, uid, patch } => {
            let api: Api<Sandbox> = Api::namespaced(client, &key.namespace);
            let mut result = api
                .patch_status(&key.name, &manager(), &Patch::Merge(patch))
                .await
                .map(drop);
            if result.is_ok() {
                result = delete(&api, &key, &uid, None).await;
            }
            Written::Sandbox {
                key,
                result: result.map(|()| None),
            }
        }
        Write::FreeSandbox { key, patch } => {
            let api: Api<Sandbox> = Api::namespaced(client, &key.namespace);
            let result = api.patch(&key.name, &manager(), &Patch::Merge(patch)).await;
            let result = result.map(|sandbox| Some(Box::new(sandbox)));
            Written::Sandbox { key, result }
        }
        Write::Pool { key, patch } => {
            let api: Api<WarmPool> = Api::namespaced(client, &key.namespace);
            let result = api
                .patch_status(&key.name, &manager(), &Patch::Merge(patch))
                .await;
            let result = result.map(Box::new);
            Written::Pool { key, result }
        }
        Write::Task { key, patch } => {
            let api: Api<Task> = Api::namespaced(client, &key.namespace);
            let result = api
                .patch_status(&key.name, &manager(), &Patch::Merge(patch))
                .await;
            let result = result.map(|task| Some(Box::new(task)));
            Written::Task { key, result }
        }
        Write::DeleteTask { key, uid } => {
            let api: Api<Task> = Api::namespaced(client, &key.namespace);
            let result = delete(&api, &key, &uid, None).await.map(|()| None);
            Written::Task { key, result }
        }
    }
}

/// Gives a pod to a sandbox: one write under the condition that the pod is just as it was seen,
/// then the sandbox's status. A crash between the two is harmless: the pod says whose it is.
async fn give(client: Client, claim: Claim) -> Claimed {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &claim.pod.namespace);
    let mut given = pods
        .patch(&claim.pod.name, &manager(), &Patch::Merge(&claim.pod_patch))
        .await;
    if given.as_ref().is_err_and(is_unclear) {
        given = find_out(&pods, &claim, given).await;
    }
    let told = match &given {
        Err(_) => None,
        Ok(_) => {
            let sandboxes: Api<Sandbox> = Api::namespaced(client, &claim.sandbox.namespace);
            let patch = Patch::Merge(&claim.status_patch);
            Some(
                sandboxes
                    .patch_status(&claim.sandbox.name, &manager(), &patch)
                    .await,
            )
        }
    };
    Claimed {
        pod: claim.pod,
        pod_revision: claim.pod_revision,
        sandbox: claim.sandbox,
        given,
        told,
    }
}

/// No answer came, so the pod may be given or not: the pod itself knows.
async fn find_out(
    pods: &Api<Pod>,
    claim: &Claim,
    unclear: Result<Pod, Error>,
) -> Result<Pod, Error> {
    for wait in [20, 100, 500, 2_000, 5_000] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let Ok(pod) = pods.get(&claim.pod.name).await else {
            continue;
        };
        let notes = pod.metadata.annotations.as_ref();
        let owner = notes.and_then(|notes| notes.get(names::CLAIMED_BY));
        return if owner.is_some_and(|uid| **uid == *claim.sandbox_uid) {
            Ok(pod)
        } else {
            unclear
        };
    }
    unclear
}

/// Whether an error leaves open if the write was done.
pub(crate) fn is_unclear(error: &Error) -> bool {
    match error {
        Error::Api(status) => status.code >= 500,
        _ => true,
    }
}

pub(crate) fn manager() -> PatchParams {
    PatchParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

pub(crate) async fn delete<K>(
    api: &Api<K>,
    key: &Key,
    uid: &Uid,
    grace: Option<u32>,
) -> Result<(), Error>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let params = DeleteParams {
        grace_period_seconds: grace,
        preconditions: Some(Preconditions {
            uid: Some(uid.to_string()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(&key.name, &params).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        // Another object has taken the name, or others kept changing this one.
        Err(Error::Api(status)) if status.code == 409 => {
            let there = api.get_metadata_opt(&key.name).await?;
            let is_left = there.is_some_and(|there| {
                let meta = &there.metadata;
                meta.uid.as_deref() == Some(&**uid) && meta.deletion_timestamp.is_none()
            });
            match is_left {
                true => Err(Error::Api(status)),
                false => Ok(()),
            }
        }
        Err(error) => Err(error),
    }
}

/// Deletes a pod unless it has changed; that it is gone already is fine.
pub(crate) async fn delete_unchanged(
    api: &Api<Pod>,
    key: &Key,
    uid: &Uid,
    version: String,
) -> Result<(), Error> {
    let params = DeleteParams {
        grace_period_seconds: Some(1),
        preconditions: Some(Preconditions {
            uid: Some(uid.to_string()),
            resource_version: Some(version),
        }),
        ..DeleteParams::default()
    };
    match api.delete(&key.name, &params).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// A status to merge into an object that is still at this version.
pub(crate) fn status_patch(resource_version: &str, status: impl serde::Serialize) -> Value {
    json!({ "metadata": { "resourceVersion": resource_version }, "status": status })
}
