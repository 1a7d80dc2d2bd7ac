//! What all writes have in common.

use k8s_openapi::{NamespaceResourceScope, api::core::v1::Pod};
use kube::{
    Api, Client, Error, Resource,
    api::{ApiResource, DeleteParams, DynamicObject, PatchParams, PostParams, Preconditions},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::index::{Key, Uid};

/// How long a pod of ours may take to end, in seconds.
const GRACE: u32 = 1;

/// A patch by this field manager.
pub(crate) fn patch_by(manager: &str) -> PatchParams {
    PatchParams {
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    }
}

/// A new object by this field manager.
pub(crate) fn post_by(manager: &str) -> PostParams {
    PostParams {
        field_manager: Some(manager.to_owned()),
        ..PostParams::default()
    }
}

/// Makes a pod.
pub(crate) async fn create_pod(
    client: Client,
    manager: &str,
    pod: &DynamicObject,
) -> Result<(), Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let kind = ApiResource::erase::<Pod>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &kind);
    api.create(&post_by(manager), pod).await.map(drop)
}

/// Deletes a pod, unless another has taken its name. With a version, only while it is still as it
/// was seen.
pub(crate) async fn delete_pod(
    client: Client,
    key: &Key,
    uid: &Uid,
    version: Option<String>,
) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(client, &key.namespace);
    match version {
        Some(version) => remove(&api, key, uid, Some(version), Some(GRACE)).await,
        None => remove_any(&api, key, uid, Some(GRACE)).await,
    }
}

/// Deletes an object, unless another has taken its name.
pub(crate) async fn delete<K>(client: Client, key: &Key, uid: &Uid) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client, &key.namespace);
    remove_any(&api, key, uid, None).await
}

/// Deletes an object however it is by now.
async fn remove_any<K>(api: &Api<K>, key: &Key, uid: &Uid, grace: Option<u32>) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    match remove(api, key, uid, None, grace).await {
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
        result => result,
    }
}

async fn remove<K>(
    api: &Api<K>,
    key: &Key,
    uid: &Uid,
    version: Option<String>,
    grace: Option<u32>,
) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let params = DeleteParams {
        grace_period_seconds: grace,
        preconditions: Some(Preconditions {
            uid: Some(uid.to_string()),
            resource_version: version,
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

/// What the API said against a pod; nothing where only its name is taken.
pub(crate) fn refusal(error: &Error) -> Option<String> {
    match error {
        Error::Api(status) if status.code == 409 => None,
        Error::Api(status) => Some(status.message.clone()),
        other => Some(other.to_string()),
    }
}

/// Whether the object has changed since it was seen.
pub(crate) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 409)
}

/// Conflicts are part of life; anything else is worth a line.
pub(crate) fn say(key: &Key, error: &Error, what: &str) {
    match error {
        Error::Api(status) if status.code == 409 || status.code == 404 => {
            tracing::debug!(%key, %error, what, "written too late");
        }
        error => tracing::warn!(%key, %error, what, "could not be written"),
    }
}
