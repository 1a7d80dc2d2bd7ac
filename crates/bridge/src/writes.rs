//! What the bridge writes to the API, and how.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Error, Resource,
    api::{Patch, PatchParams, PostParams},
};
use sandlot_api::robot::{Command, Robot, Task, names};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::sights::{Kind, Object};

/// Something to write about one object. Of two about the same object, one waits for the other.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) what: What,
}

/// What is written.
#[derive(Debug)]
pub(crate) enum What {
    /// A robot registers for the first time: it is made, then its status written.
    Register { robot: Box<Robot>, status: Value },
    /// The status changes, if the object is still as it was seen.
    Status(Value),
    /// The spec changes.
    Spec(Value),
}

/// What came of a write.
pub(crate) struct Written {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) result: Result<Option<Object>, Error>,
}

/// Carries out a write.
pub(crate) async fn carry_out(client: Client, namespace: String, write: Write) -> Written {
    let Write { kind, name, what } = write;
    let space = namespace.as_str();
    let result = match (what, kind) {
        (What::Register { robot, status }, _) => register(client, space, &robot, status).await,
        (What::Status(patch), Kind::Robot) => {
            status::<Robot>(client, space, &name, patch, Object::Robot).await
        }
        (What::Status(patch), Kind::Task) => {
            status::<Task>(client, space, &name, patch, Object::Task).await
        }
        (What::Status(patch), Kind::Command) => {
            status::<Command>(client, space, &name, patch, Object::Command).await
        }
        (What::Spec(patch), _) => {
            let api: Api<Robot> = Api::namespaced(client, space);
            let changed = api.patch(&name, &manager(), &Patch::Merge(patch)).await;
            changed.map(|robot| Some(Object::Robot(Box::new(robot))))
        }
        // Nobody here writes the status of a deployment.
        (What::Status(_), Kind::Deployment) => Ok(None),
    };
    Written { kind, name, result }
}

async fn register(
    client: Client,
    namespace: &str,
    robot: &Robot,
    status: Value,
) -> Result<Option<Object>, Error> {
    let api: Api<Robot> = Api::namespaced(client, namespace);
    let params = PostParams {
        field_manager: Some(names::BRIDGE_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&params, robot).await {
        Ok(_) => {}
        // Somebody has made it meanwhile; it will be seen, and the robot asks again.
        Err(Error::Api(status)) if status.code == 409 => return Ok(None),
        Err(error) => return Err(error),
    }
    let name = robot.metadata.name.as_deref().unwrap_or_default();
    let told = api
        .patch_status(name, &manager(), &Patch::Merge(status))
        .await?;
    Ok(Some(Object::Robot(Box::new(told))))
}

async fn status<K>(
    client: Client,
    namespace: &str,
    name: &str,
    patch: Value,
    wrap: fn(Box<K>) -> Object,
) -> Result<Option<Object>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    let api: Api<K> = Api::namespaced(client, namespace);
    match api
        .patch_status(name, &manager(), &Patch::Merge(patch))
        .await
    {
        Ok(object) => Ok(Some(wrap(Box::new(object)))),
        // What is gone needs no status.
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

fn manager() -> PatchParams {
    PatchParams {
        field_manager: Some(names::BRIDGE_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// A patch from one status to another, if the object is still as it was seen: what is gone from
/// the status is taken away.
pub(crate) fn status_patch<K: Resource, S: Serialize>(
    object: &K,
    before: Option<&S>,
    after: &S,
) -> Value {
    // Statuses are plain data: writing them as JSON cannot fail.
    let before = before.map(|before| serde_json::to_value(before).unwrap_or_default());
    let mut after = serde_json::to_value(after).unwrap_or_default();
    if let (Some(before), after) = (&before, &mut after) {
        take_away(before, after);
    }
    json!({
        "metadata": { "resourceVersion": object.meta().resource_version },
        "status": after,
    })
}

/// Says of fields that are gone that they are, at every depth: a merge keeps what is not named.
fn take_away(before: &Value, after: &mut Value) {
    if let (Value::Object(before), Value::Object(after)) = (before, after) {
        for (field, old) in before {
            match after.get_mut(field) {
                None => {
                    after.insert(field.clone(), Value::Null);
                }
                Some(new) => take_away(old, new),
            }
        }
    }
}
