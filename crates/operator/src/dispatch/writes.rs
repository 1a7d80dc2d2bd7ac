//! What the operator writes, and how each write is carried out.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Error, Resource,
    api::{DynamicObject, GetParams, Patch, PatchParams},
    core::PartialObjectMeta,
};
use sandlot_api::arl::{Sandbox, Task, WarmPool, names};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    index::{Key, Uid},
    rounds::writes::{create_pod, delete, delete_pod, is_conflict, patch_by},
    settings::Ahead,
};

/// A request that is yet to be sent.
type Request = http::Request<Vec<u8>>;

/// How long to wait before a claim without an answer is sent again.
const WAITS: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

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
pub(crate) async fn carry_out(client: Client, ahead: Option<&Ahead>, write: Write) -> Written {
    match write {
        Write::CreatePod { pool, name, pod } => {
            let result = create_pod(client, names::FIELD_MANAGER, &pod).await;
            Written::PodCreated { pool, name, result }
        }
        Write::DeletePod { pod, uid, version } => {
            let result = delete_pod(client, &pod, &uid, version).await;
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
        Write::Claim(claim) => Written::Claimed(Box::new(give(client, ahead, *claim).await)),
        Write::Sandbox { key, patch } => {
            let api: Api<Sandbox> = Api::namespaced(client, &key.namespace);
            let result = api
                .patch_status(&key.name, &manager(), &Patch::Merge(patch))
                .await;
            let result = result.map(|sandbox| Some(Box::new(sandbox)));
            Written::Sandbox { key, result }
        }
        Write::EndSandbox { key, uid, patch } => {
            let api: Api<Sandbox> = Api::namespaced(client.clone(), &key.namespace);
            let mut result = api
                .patch_status(&key.name, &manager(), &Patch::Merge(patch))
                .await
                .map(drop);
            if result.is_ok() {
                result = delete::<Sandbox>(client, &key, &uid).await;
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
            let result = delete::<Task>(client, &key, &uid).await.map(|()| None);
            Written::Task { key, result }
        }
    }
}

/// Gives a pod to a sandbox: one write under the condition that the pod is just as it was seen,
/// then the sandbox's status. A crash between the two is harmless: the pod says whose it is. Where
/// the second need not wait until the first is on disk, both come to it together.
async fn give(client: Client, ahead: Option<&Ahead>, claim: Claim) -> Claimed {
    let (given, told) = match ahead {
        Some(ahead) => give_side_by_side(client, ahead, &claim).await,
        None => match give_pod(&client, &claim).await {
            Ok(given) => (Ok(given), Some(tell(&client, status_of(&claim)).await)),
            Err(error) => (Err(error), None),
        },
    };
    Claimed {
        pod: claim.pod,
        pod_revision: claim.pod_revision,
        sandbox: claim.sandbox,
        given: given.and_then(|text| serde_json::from_str(&text).map_err(Error::SerdeError)),
        told,
    }
}

/// The same beside the API: the status is made ready while the pod's write is, and follows it.
async fn give_side_by_side(
    client: Client,
    ahead: &Ahead,
    claim: &Claim,
) -> (Result<String, Error>, Option<Result<Sandbox, Error>>) {
    let (say, said) = oneshot::channel();
    let status = status_of(claim).map(|mut request| {
        let cue = async { said.await.unwrap_or(false) };
        (ahead.on_cue)(request.extensions_mut(), cue.boxed());
        request
    });
    let telling = async move { tell(&client, status).await };
    let telling = AbortOnDropHandle::new(tokio::spawn(telling));
    let given = give_pod(&ahead.client, claim).await;
    // Nobody hears it where the status could not even be made ready.
    let _ = say.send(given.is_ok());
    let told = match &given {
        Ok(_) => telling.await.ok(),
        Err(_) => None,
    };
    (given, told)
}

/// The request that writes a sandbox's status.
fn status_of(claim: &Claim) -> Result<Request, kube::core::request::Error> {
    let url = Sandbox::url_path(&(), Some(&claim.sandbox.namespace));
    let patch = Patch::Merge(&claim.status_patch);
    kube::core::Request::new(url).patch_subresource(
        "status",
        &claim.sandbox.name,
        &manager(),
        &patch,
    )
}

async fn tell(
    client: &Client,
    status: Result<Request, kube::core::request::Error>,
) -> Result<Sandbox, Error> {
    client.request(status.map_err(Error::BuildRequest)?).await
}

/// Writes down whose the pod is, and returns the pod as it is then. No answer says nothing: the
/// write may be done, or may yet be. Its condition holds at most once, so it is sent again until
/// there is an answer; and who is refused then looks whether that was for an earlier try.
async fn give_pod(client: &Client, claim: &Claim) -> Result<String, Error> {
    let pods = kube::core::Request::new(Pod::url_path(&(), Some(&claim.pod.namespace)));
    let name = &*claim.pod.name;
    let patch = || async {
        let patch = Patch::Merge(&claim.pod_patch);
        let request = pods.patch(name, &manager(), &patch);
        client
            .request_text(request.map_err(Error::BuildRequest)?)
            .await
    };
    let mut waits = WAITS.into_iter();
    let mut answer = patch().await;
    while answer.as_ref().is_err_and(is_unclear) {
        let Some(wait) = waits.next() else { break };
        tokio::time::sleep(wait).await;
        answer = patch().await;
        if !answer.as_ref().is_err_and(is_conflict) {
            continue;
        }
        // Whatever the pod says now stays so: none of our tries can take effect any more.
        let now = pods.get(name, &GetParams::default());
        answer = match client.request_text(now.map_err(Error::BuildRequest)?).await {
            Ok(pod) if is_given(&pod, &claim.sandbox_uid)? => Ok(pod),
            Ok(_) => answer,
            Err(error) => Err(error),
        };
    }
    answer
}

fn is_given(pod: &str, sandbox: &Uid) -> Result<bool, Error> {
    let pod: PartialObjectMeta<Pod> = serde_json::from_str(pod).map_err(Error::SerdeError)?;
    let notes = pod.metadata.annotations.as_ref();
    let owner = notes.and_then(|notes| notes.get(names::CLAIMED_BY));
    Ok(owner.is_some_and(|uid| **uid == **sandbox))
}

/// Whether an error leaves open if the write was done.
fn is_unclear(error: &Error) -> bool {
    match error {
        Error::Api(status) => status.code >= 500,
        _ => true,
    }
}

fn manager() -> PatchParams {
    patch_by(names::FIELD_MANAGER)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API that takes effect only after it has given up a request, and what it was asked.
    fn slow(answers: Vec<(u16, Value)>) -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(answers.into_iter()));
        let heard = asked.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            heard.lock().unwrap().push(request.method().to_string());
            let (code, body) = answers.lock().unwrap().next().expect("a request too many");
            let body = Body::from(body.to_string().into_bytes());
            async move { http::Response::builder().status(code).body(body) }
        });
        (Client::new(service, "n"), asked)
    }

    fn status(code: u16) -> (u16, Value) {
        let said = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "message": "no", "reason": "Said", "code": code });
        (code, said)
    }

    fn pod(sandbox: &str) -> (u16, Value) {
        let notes = json!({ names::CLAIMED_BY: sandbox });
        let pod = json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "p", "annotations": notes } });
        (200, pod)
    }

    async fn given(answers: Vec<(u16, Value)>) -> (Result<String, Error>, Vec<String>) {
        let (client, asked) = slow(answers);
        let key = |name: &str| Key {
            namespace: "n".into(),
            name: name.into(),
        };
        let claim = Claim {
            pod: key("p"),
            pod_revision: 1,
            pod_patch: json!({}),
            sandbox: key("s"),
            sandbox_uid: "ours".into(),
            status_patch: json!({}),
        };
        let given = give_pod(&client, &claim).await;
        let asked = asked.lock().unwrap().clone();
        (given, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_took_effect_after_its_time_is_found_out() {
        let (given, asked) = given(vec![status(504), status(504), status(409), pod("ours")]).await;
        assert!(given.is_ok());
        assert_eq!(asked, ["PATCH", "PATCH", "PATCH", "GET"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_went_to_another_meanwhile_is_not_taken_for_ours() {
        let (given, _) = given(vec![status(504), status(409), pod("theirs")]).await;
        assert!(is_conflict(&given.unwrap_err()));
        let (given, _) = self::given(vec![status(409)]).await;
        assert!(is_conflict(&given.unwrap_err()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_answers_is_given_up_in_the_end() {
        let (given, asked) = given(vec![status(503); 1 + WAITS.len()]).await;
        assert!(given.is_err() && asked.len() == 1 + WAITS.len());
    }
}
