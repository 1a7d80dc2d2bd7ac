//! Saving by a Job: a container on the pod's node that asks the node's container runtime.
//!
//! The Job has the form that the published committer image expects, and Sandlot's own image: it is
//! told the pod, its namespace and `container:image` for each container, and tells in its
//! termination message what it has pushed. Its name comes from the snapshot, so that asking again
//! finds the same Job.

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
    runtime::wait::{Condition, await_condition},
};
use sandlot_api::opensandbox::{SandboxSnapshot, names};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Save, SaveError, SavedImage, Saver};

/// How the jobs are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitJobs {
    /// Where the images go.
    pub registry: String,
    /// Whether that registry is spoken to without TLS.
    pub insecure: bool,
    /// The image of the committer.
    pub image: String,
    /// Where the node's containerd listens.
    pub socket: String,
    /// A Secret in the sandbox's namespace for pushing.
    pub push_secret: Option<String>,
    /// A Secret in the sandbox's namespace for pulling.
    pub pull_secret: Option<String>,
    /// How long a job may take.
    pub timeout: Duration,
}

/// What runs in a committer's image.
const PROGRAM: &str = "/usr/local/bin/image-committer";
/// Where it looks for its registry logins, as `config.json`.
const LOGINS: &str = "/var/run/opensandbox/registry";

/// Saves by jobs.
#[derive(Clone)]
pub(crate) struct JobSaver {
    client: Client,
    jobs: CommitJobs,
}

/// What a committer says at its end.
#[derive(Debug, Deserialize)]
struct Report {
    containers: Vec<Reported>,
}

#[derive(Debug, Deserialize)]
struct Reported {
    name: String,
    image: String,
    #[serde(default)]
    digest: Option<String>,
}

impl std::fmt::Debug for JobSaver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobSaver")
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}

impl JobSaver {
    pub(crate) fn new(client: Client, jobs: CommitJobs) -> Self {
        Self { client, jobs }
    }
}

impl Saver for JobSaver {
    fn registry(&self) -> &str {
        &self.jobs.registry
    }

    fn save(&self, what: Save) -> BoxFuture<'static, Result<Vec<SavedImage>, SaveError>> {
        let this = self.clone();
        Box::pin(async move { this.carry_out(&what).await })
    }

    // A registry keeps what it is given for as long as its owner wants.
    fn forget(&self, _: Vec<String>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn pull_secret(&self) -> Option<&str> {
        self.jobs.pull_secret.as_deref()
    }

    fn uses_jobs(&self) -> bool {
        true
    }
}

impl JobSaver {
    async fn carry_out(&self, what: &Save) -> Result<Vec<SavedImage>, SaveError> {
        let failed = |error: &dyn std::fmt::Display| SaveError::Commit(error.to_string());
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &what.namespace);
        let source = pods
            .get_opt(&what.pod)
            .await
            .map_err(|error| failed(&error))?;
        if source.is_none_or(|pod| pod.uid().as_deref() != Some(&what.pod_uid)) {
            return Err(SaveError::PodNotFound(what.pod.clone()));
        }
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &what.namespace);
        let name = job_name(&what.snapshot, "commit");
        let job = commit_job(&self.jobs, what).map_err(|error| failed(&error))?;
        make(&jobs, &job).await.map_err(|error| failed(&error))?;
        let ended = tokio::time::timeout(
            self.jobs.timeout,
            await_condition(jobs.clone(), &name, has_ended()),
        );
        let job = match ended.await {
            Ok(Ok(Some(job))) => job,
            Ok(Ok(None)) => return Err(SaveError::Commit(format!("job {name} was deleted"))),
            Ok(Err(error)) => return Err(failed(&error)),
            Err(_) => {
                self.unpause(&jobs, what).await;
                let seconds = self.jobs.timeout.as_secs();
                return Err(SaveError::Commit(format!(
                    "job {name} did not end within {seconds} s"
                )));
            }
        };
        if let Some(why) = failure(&job) {
            self.unpause(&jobs, what).await;
            let last = self.last_words(&pods, &name).await;
            let last = last.map_or_else(String::new, |words| format!("; it said: {words}"));
            return Err(SaveError::Commit(format!("job {name} failed: {why}{last}")));
        }
        let told = self.last_words(&pods, &name).await.ok_or_else(|| {
            SaveError::Commit(format!("job {name} ended without saying what it has saved"))
        })?;
        let report: Report = serde_json::from_str(&told).map_err(|error| {
            SaveError::Commit(format!(
                "job {name} said {told:?}, which makes no sense: {error}"
            ))
        })?;
        Ok(report
            .containers
            .into_iter()
            .map(|saved| SavedImage {
                container: saved.name,
                image: saved.image,
                digest: saved.digest.filter(|digest| !digest.is_empty()),
            })
            .collect())
    }

    /// What the last of a job's pods said at its end.
    async fn last_words(&self, pods: &Api<Pod>, job: &str) -> Option<String> {
        let label = format!("job-name={job}");
        let found = pods
            .list(&ListParams::default().labels(&label))
            .await
            .ok()?;
        let ends = found.items.iter().filter_map(|pod| {
            let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
            let end = containers.first()?.state.as_ref()?.terminated.as_ref()?;
            Some((end.finished_at.clone(), end.message.clone()?))
        });
        ends.max_by_key(|(at, _)| at.as_ref().map(|at| at.0))
            .map(|(_, words)| words)
    }

    /// A committer that failed may have left the containers frozen.
    async fn unpause(&self, jobs: &Api<Job>, what: &Save) {
        let made = match unpause_job(&self.jobs, what) {
            Ok(job) => make(jobs, &job).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = made {
            tracing::warn!(
                snapshot = what.snapshot,
                error,
                "the containers may still be frozen"
            );
        }
    }
}

async fn make(jobs: &Api<Job>, job: &Job) -> Result<(), kube::Error> {
    let params = PostParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match jobs.create(&params, job).await {
        Ok(_) => Ok(()),
        // Asked for before, perhaps by an operator that is no more.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

fn has_ended() -> impl Condition<Job> {
    |job: Option<&Job>| job.is_none_or(|job| condition(job, "Complete") || failure(job).is_some())
}

fn condition(job: &Job, kind: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| &status.conditions);
    conditions
        .flatten()
        .any(|condition| condition.type_ == kind && condition.status == "True")
}

fn failure(job: &Job) -> Option<String> {
    let conditions = job.status.iter().flat_map(|status| &status.conditions);
    let failed = conditions
        .flatten()
        .find(|condition| condition.type_ == "Failed" && condition.status == "True")?;
    let words = [&failed.reason, &failed.message];
    let words: Vec<&str> = words.into_iter().flatten().map(String::as_str).collect();
    Some(words.join(": "))
}

/// The name of a snapshot's job, cut to what a label may hold.
fn job_name(snapshot: &str, what: &str) -> String {
    let room = 63 - 1 - what.len();
    // Names of objects are ASCII, so a cut cannot split a character.
    let cut = snapshot[..snapshot.len().min(room)].trim_end_matches(['-', '.']);
    format!("{cut}-{what}")
}

fn commit_job(jobs: &CommitJobs, what: &Save) -> serde_json::Result<Job> {
    let containers = what
        .containers
        .iter()
        .map(|(container, image)| format!("{container}:{image}"));
    let mut args = vec![what.pod.clone(), what.namespace.clone()];
    args.extend(containers);
    job(jobs, what, "commit", &args)
}

fn unpause_job(jobs: &CommitJobs, what: &Save) -> serde_json::Result<Job> {
    let containers = what
        .containers
        .iter()
        .map(|(container, _)| container.clone());
    let mut args = vec![
        "unpause".to_owned(),
        what.pod.clone(),
        what.namespace.clone(),
    ];
    args.extend(containers);
    job(jobs, what, "unpause", &args)
}

fn job(jobs: &CommitJobs, what: &Save, verb: &str, args: &[String]) -> serde_json::Result<Job> {
    let labels = json!({
        "sandbox.opensandbox.io/sandbox-snapshot-name": label(&what.snapshot),
        "sandbox.opensandbox.io/privileged-node-access": "true",
    });
    let owner: OwnerReference = serde_json::from_value(json!({
        "apiVersion": names::API_VERSION,
        "kind": <SandboxSnapshot as kube::Resource>::kind(&()),
        "name": what.snapshot, "uid": what.snapshot_uid,
        "controller": true, "blockOwnerDeletion": false,
    }))?;
    let mut mounts = vec![json!({ "name": "containerd", "mountPath": jobs.socket })];
    let mut volumes = vec![
        json!({ "name": "containerd", "hostPath": { "path": jobs.socket, "type": "Socket" } }),
    ];
    if let Some(secret) = &jobs.push_secret {
        mounts.push(json!({ "name": "push", "mountPath": LOGINS, "readOnly": true }));
        volumes.push(json!({ "name": "push", "secret": { "secretName": secret,
            "items": [{ "key": ".dockerconfigjson", "path": "config.json" }] } }));
    }
    let env: Vec<Value> = [
        ("CONTAINERD_SOCKET", jobs.socket.clone()),
        // A pod of the same name that came later is another.
        ("SOURCE_POD_UID", what.pod_uid.clone()),
        ("SNAPSHOT_REGISTRY_INSECURE", jobs.insecure.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| json!({ "name": name, "value": value }))
    .collect();
    serde_json::from_value(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": job_name(&what.snapshot, verb), "namespace": what.namespace,
            "labels": labels, "ownerReferences": [owner],
        },
        "spec": {
            "backoffLimit": 3, "ttlSecondsAfterFinished": 300,
            "activeDeadlineSeconds": jobs.timeout.as_secs(),
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "restartPolicy": "Never", "nodeName": what.node,
                    "automountServiceAccountToken": false,
                    "tolerations": [{ "operator": "Exists" }],
                    "volumes": volumes,
                    "containers": [{
                        "name": verb, "image": jobs.image, "imagePullPolicy": "IfNotPresent",
                        "command": [PROGRAM], "args": args, "env": env,
                        "volumeMounts": mounts,
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        // Root for the runtime's socket, and nothing else.
                        "securityContext": { "runAsUser": 0, "allowPrivilegeEscalation": false,
                            "capabilities": { "drop": ["ALL"] } },
                    }],
                },
            },
        },
    }))
}

/// A name as a label may hold it.
fn label(name: &str) -> &str {
    name[..name.len().min(63)].trim_end_matches(['-', '.'])
}

#[cfg(test)]
mod tests;
