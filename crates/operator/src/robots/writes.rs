//! What is written about robots and the work on them, and how each write is carried out.

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{
    Api, Client, Error, Resource,
    api::{DeleteParams, Patch, Preconditions, PropagationPolicy},
};
use sandlot_api::robot::{Job, Robot, RobotDeployment, Task, TaskGroup, names};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::sights::{Kind, Object};
use crate::{
    index::Key,
    rounds::writes::{patch_by, post_by},
};

/// Something to write, about one object.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) kind: Kind,
    pub(crate) key: Key,
    /// What the object is part of.
    pub(crate) owner: Option<(Kind, Key)>,
    pub(crate) what: What,
}

/// What is written.
#[derive(Debug)]
pub(crate) enum What {
    /// The object is made.
    Create(Box<Object>),
    /// Its metadata or spec changes.
    Change(Value),
    /// Its status does.
    Status(Value),
    /// It goes.
    Delete { uid: String },
}

/// What came of a write.
pub(crate) struct Written {
    pub(crate) kind: Kind,
    pub(crate) key: Key,
    pub(crate) owner: Option<(Kind, Key)>,
    pub(crate) created: bool,
    /// The object that was told to go.
    pub(crate) deleted: Option<String>,
    pub(crate) result: Result<Option<Object>, Error>,
}

/// Carries out a write.
pub(crate) async fn carry_out(client: Client, write: Write) -> Written {
    let Write {
        kind,
        key,
        owner,
        what,
    } = write;
    let created = matches!(what, What::Create(_));
    let deleted = match &what {
        What::Delete { uid } => Some(uid.clone()),
        _ => None,
    };
    let result = match (what, kind) {
        (What::Create(object), _) => match *object {
            Object::Robot(robot) => create(client, &key, &*robot, Object::Robot).await,
            Object::Job(job) => create(client, &key, &*job, Object::Job).await,
            Object::Group(group) => create(client, &key, &*group, Object::Group).await,
            Object::Task(task) => create(client, &key, &*task, Object::Task).await,
            Object::Deployment(one) => create(client, &key, &*one, Object::Deployment).await,
        },
        (what, Kind::Robot) => change::<Robot>(client, &key, what, Object::Robot).await,
        (what, Kind::Job) => change::<Job>(client, &key, what, Object::Job).await,
        (what, Kind::Group) => change::<TaskGroup>(client, &key, what, Object::Group).await,
        (what, Kind::Task) => change::<Task>(client, &key, what, Object::Task).await,
        (what, Kind::Deployment) => {
            change::<RobotDeployment>(client, &key, what, Object::Deployment).await
        }
    };
    Written {
        kind,
        key,
        owner,
        created,
        deleted,
        result,
    }
}

async fn create<K>(
    client: Client,
    key: &Key,
    object: &K,
    wrap: fn(Box<K>) -> Object,
) -> Result<Option<Object>, Error>
where
    K: Custom,
{
    let api: Api<K> = Api::namespaced(client, &key.namespace);
    match api.create(&post_by(names::FIELD_MANAGER), object).await {
        Ok(made) => Ok(Some(wrap(Box::new(made)))),
        // An earlier attempt of ours, whose answer was lost.
        Err(Error::Api(status)) if status.code == 409 => Ok(api
            .get_opt(&key.name)
            .await?
            .map(|found| wrap(Box::new(found)))),
        Err(error) => Err(error),
    }
}

async fn change<K: Custom>(
    client: Client,
    key: &Key,
    what: What,
    wrap: fn(Box<K>) -> Object,
) -> Result<Option<Object>, Error> {
    let api: Api<K> = Api::namespaced(client, &key.namespace);
    let params = patch_by(names::FIELD_MANAGER);
    let changed = match what {
        What::Change(patch) => api.patch(&key.name, &params, &Patch::Merge(patch)).await,
        What::Status(patch) => {
            api.patch_status(&key.name, &params, &Patch::Merge(patch))
                .await
        }
        What::Delete { uid } => return delete(&api, key, uid).await.map(|()| None),
        What::Create(_) => return Ok(None),
    };
    match changed {
        Ok(object) => Ok(Some(wrap(Box::new(object)))),
        // What is gone needs no status.
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

async fn delete<K: Custom>(api: &Api<K>, key: &Key, uid: String) -> Result<(), Error> {
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions {
            uid: Some(uid),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(&key.name, &params).await {
        Ok(_) => Ok(()),
        // Gone already, or another object has taken the name.
        Err(Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the kinds of this group have in common.
trait Custom:
    Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
{
}

impl<K> Custom for K where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
{
}

/// A patch that takes the finalizer of this group away, if the object is still as it was seen.
pub(crate) fn release<K: Resource>(object: &K) -> Value {
    let meta = object.meta();
    let finalizers: Vec<&String> = meta
        .finalizers
        .iter()
        .flatten()
        .filter(|one| *one != names::FINALIZER)
        .collect();
    json!({ "metadata": { "resourceVersion": meta.resource_version, "finalizers": finalizers } })
}

/// A patch that adds the finalizer, if the object is still as it was seen.
pub(crate) fn hold<K: Resource>(object: &K) -> Value {
    let meta = object.meta();
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    finalizers.push(names::FINALIZER.to_owned());
    json!({ "metadata": { "resourceVersion": meta.resource_version, "finalizers": finalizers } })
}

/// A merge patch from one value to another: what is gone from maps is taken away, at every depth.
pub(crate) fn merge<S: Serialize>(before: &S, after: &S) -> Value {
    // Specs are plain data: writing them as JSON cannot fail.
    let before = serde_json::to_value(before).unwrap_or_default();
    let mut after = serde_json::to_value(after).unwrap_or_default();
    fill_gaps(&before, &mut after);
    after
}

fn fill_gaps(before: &Value, after: &mut Value) {
    if let (Value::Object(before), Value::Object(after)) = (before, after) {
        for (field, old) in before {
            match after.get_mut(field) {
                None => {
                    after.insert(field.clone(), Value::Null);
                }
                Some(new) => fill_gaps(old, new),
            }
        }
    }
}

/// A patch from one status to another: what is gone from it is taken away.
pub(crate) fn status_patch<K: Resource, S: Serialize>(object: &K, before: &S, after: &S) -> Value {
    // Statuses are plain data: writing them as JSON cannot fail.
    let before = serde_json::to_value(before).unwrap_or_default();
    let mut after = serde_json::to_value(after).unwrap_or_default();
    if let (Value::Object(before), Value::Object(after)) = (&before, &mut after) {
        for field in before.keys() {
            after.entry(field.clone()).or_insert(Value::Null);
        }
    }
    json!({
        "metadata": { "resourceVersion": object.meta().resource_version },
        "status": after,
    })
}

/// A condition that holds or does not; since when, it keeps from before.
pub(crate) fn condition<'a>(
    mut known: impl Iterator<Item = &'a Condition>,
    kind: &str,
    holds: bool,
    reason: &str,
    now: Timestamp,
) -> Condition {
    let status = if holds { "True" } else { "False" };
    let before = known.find(|condition| condition.type_ == kind);
    let since = before
        .filter(|condition| condition.status == status)
        .map_or(Time(now), |condition| {
            condition.last_transition_time.clone()
        });
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        last_transition_time: since,
        observed_generation: None,
    }
}
