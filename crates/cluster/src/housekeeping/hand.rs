//! How housekeeping acts: through the API, as a user with a name, so that admission sees
//! what is done and managed fields say who did it.

use std::sync::Arc;

use axum::body::Body;
use futures::{StreamExt, stream};
use http::{Method, Request, header};
use http_body_util::BodyExt;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sandlot_store::{Expect, Key};
use serde_json::{Value, json};

use crate::access::User;
use crate::api::{Api, Manner, WriteFailure, parse};
use crate::kinds::Kind;
use crate::object;
use crate::record::Record;
use crate::request::Propagation;
use crate::status::{ApiError, Reason};
use crate::verbs::is_due;
use crate::{front, object::as_map};

/// How many parts of one plan are done at the same time.
const AT_ONCE: usize = 32;
/// What keeps a namespace until its contents are gone.
pub(crate) const CONTENTS: &str = "kubernetes";

/// One thing to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Make an object, unless one of its name is there.
    Create {
        kind: Arc<Kind>,
        namespace: Arc<str>,
        object: Value,
    },
    /// Put an object in the place of another version of it.
    Replace { target: Target, object: Value },
    /// Merge something into an object, or with a subresource into that part of it.
    Patch {
        target: Target,
        subresource: &'static str,
        patch: Value,
    },
    /// Remove an object.
    Delete {
        target: Target,
        propagation: Propagation,
    },
    /// Let go of a namespace whose contents are gone.
    Finalize { namespace: Arc<str> },
}

/// One version of an object: what is done to it is not done to another.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    kind: Arc<Kind>,
    key: Key,
    uid: Box<str>,
    revision: u64,
}

impl Target {
    pub(crate) fn new(kind: &Arc<Kind>, record: &Record) -> Target {
        Target {
            kind: Arc::clone(kind),
            key: record.key.clone(),
            uid: record.facts.uid.clone(),
            revision: record.revision,
        }
    }

    fn path(&self) -> String {
        let name = utf8_percent_encode(&self.key.name, NON_ALPHANUMERIC);
        format!("{}/{name}", collection(&self.kind, &self.key.namespace))
    }

    /// Makes a delete hold for this version only.
    fn delete_options(&self, propagation: Propagation) -> Value {
        let policy = match propagation {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        };
        json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy,
            "preconditions": {"uid": self.uid, "resourceVersion": self.revision.to_string()},
        })
    }

    /// Makes a write hold for this version only.
    fn insist(&self, object: &mut Value) {
        let metadata = object::metadata_mut(object);
        metadata.insert("uid".into(), (*self.uid).into());
        metadata.insert("resourceVersion".into(), self.revision.to_string().into());
    }
}

/// The path of all objects of a kind in a namespace.
fn collection(kind: &Kind, namespace: &str) -> String {
    let mut path = match kind.group.as_str() {
        "" => format!("/api/{}", kind.version),
        group => format!("/apis/{group}/{}", kind.version),
    };
    if kind.namespaced {
        path.push_str("/namespaces/");
        path.extend(utf8_percent_encode(namespace, NON_ALPHANUMERIC));
    }
    path.push('/');
    path.push_str(&kind.plural);
    path
}

/// Acts on the API under one name.
pub(crate) struct Hand {
    api: Arc<Api>,
    user: User,
}

impl Hand {
    /// A hand of one of the cluster's own service accounts.
    pub(crate) fn new(api: Arc<Api>, name: &str) -> Hand {
        let user = User::master(format!("system:serviceaccount:kube-system:{name}"));
        Hand { api, user }
    }

    pub(crate) fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// Does all of a plan. The first failure is returned when the rest has been tried too.
    pub(crate) async fn act_all(&self, actions: Vec<Action>) -> Result<(), ApiError> {
        let mut outcomes = stream::iter(actions)
            .map(|action| self.act(action))
            .buffer_unordered(AT_ONCE);
        let mut result = Ok(());
        while let Some(outcome) = outcomes.next().await {
            result = result.and(outcome);
        }
        result
    }

    async fn act(&self, action: Action) -> Result<(), ApiError> {
        const JSON: &str = "application/json";
        match action {
            Action::Create {
                kind,
                namespace,
                object,
            } => {
                let path = collection(&kind, &namespace);
                let created = self.send(Method::POST, &path, JSON, &object).await;
                unless(created, Reason::AlreadyExists)
            }
            Action::Replace { target, mut object } => {
                target.insist(&mut object);
                let path = target.path();
                let replaced = self.send(Method::PUT, &path, JSON, &object).await;
                unless(replaced, Reason::NotFound)
            }
            Action::Patch {
                target,
                subresource,
                mut patch,
            } => {
                target.insist(&mut patch);
                let path = match subresource {
                    "" => target.path(),
                    subresource => format!("{}/{subresource}", target.path()),
                };
                let format = "application/merge-patch+json";
                let patched = self.send(Method::PATCH, &path, format, &patch).await;
                unless(patched, Reason::NotFound)
            }
            Action::Delete {
                target,
                propagation,
            } => {
                let path = target.path();
                let options = target.delete_options(propagation);
                let deleted = self.send(Method::DELETE, &path, JSON, &options).await;
                unless(deleted, Reason::NotFound)
            }
            Action::Finalize { namespace } => self.finalize(&namespace).await,
        }
    }

    /// Sends one request in process.
    async fn send(
        &self,
        method: Method,
        path: &str,
        format: &str,
        body: &Value,
    ) -> Result<(), ApiError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, format)
            .header(header::USER_AGENT, "kube-controller-manager")
            .body(Body::from(body.to_string()))
            .map_err(ApiError::internal)?;
        let response = front::handle(Arc::clone(&self.api), self.user.clone(), request).await;
        let code = response.status();
        if code.is_success() {
            return Ok(());
        }
        let body = response.into_body().collect().await;
        let body = body.map_err(ApiError::internal)?.to_bytes();
        let status: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = object::text(&status, &["message"]);
        let reason = match object::text(&status, &["reason"]) {
            "AlreadyExists" => Reason::AlreadyExists,
            "NotFound" => Reason::NotFound,
            "Conflict" => Reason::Conflict,
            _ => Reason::Unknown,
        };
        Err(ApiError::new(code.as_u16(), reason, message))
    }

    /// Takes the finalizer off a namespace's spec, which nobody else may do.
    async fn finalize(&self, namespace: &str) -> Result<(), ApiError> {
        let key = Key::new("namespaces", "", namespace);
        let Some(record) = self.api.store.latest(&key) else {
            return Ok(());
        };
        let mut object = parse(&record)?;
        let spec = object::child_mut(as_map(&mut object), "spec");
        if let Some(Value::Array(finalizers)) = spec.get_mut("finalizers") {
            finalizers.retain(|one| one != CONTENTS);
        }
        let done = match is_due(&object) {
            true => self.api.remove(key, record.revision, object).await,
            false => {
                let expect = Expect::Revision(record.revision);
                self.api.put(key, expect, object, Manner::Near).await
            }
        };
        match done {
            Ok(_) => Ok(()),
            Err(WriteFailure::Raced) => Err(ApiError::modified("", "namespaces", namespace)),
            Err(WriteFailure::Failed(error)) => Err(error),
        }
    }
}

/// Takes an error for success when it says that there is nothing left to do.
fn unless(outcome: Result<(), ApiError>, reason: Reason) -> Result<(), ApiError> {
    match outcome {
        Err(error) if error.reason == reason => Ok(()),
        outcome => outcome,
    }
}
