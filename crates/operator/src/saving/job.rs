//! Saving by a Job: a container on the pod's node that asks the node's container runtime.
//!
//! The Job has the form that the published committer image expects, and Sandlot's own image: it is
//! told the pod, its namespace and `container:image` for each container, and tells in its
//! termination message what it has pushed. Its name comes from the snapshot, so that asking again
//! finds the same Job. The Job of an earlier snapshot of that name is not waited with: what it
//! saved is not what is wanted now.

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
    runtime::wait::await_condition,
};
use sandlot_api::opensandbox::{SandboxSnapshot, names};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, error::Elapsed};

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

/// The longest value of a label.
const LONGEST_LABEL: usize = 63;
/// A job that has outlived its deadline says so itself before it is given up.
const AFTER_DEADLINE: Duration = Duration::from_secs(30);
/// A job that cannot be watched is looked for again after this time.
const OUT_OF_SIGHT: Duration = Duration::from_secs(1);
/// How long a job of an earlier snapshot may be in the way.
const GIVING_WAY: Duration = Duration::from_secs(60);

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

    fn longest(&self) -> Duration {
        GIVING_WAY + self.jobs.timeout + AFTER_DEADLINE * 2
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
        let made = make(&jobs, &job).await?;
        let deadline = Instant::now() + self.jobs.timeout + AFTER_DEADLINE;
        let job = match wait(&jobs, &name, has_ended(&made), deadline).await {
            Ok(Some(job)) if is_the(&made, &job) => job,
            Ok(_) => return Err(SaveError::Commit(format!("job {name} was deleted"))),
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
            let last = self.last_words(&pods, &job).await;
            let last = last.map_or_else(String::new, |words| format!("; it said: {words}"));
            return Err(SaveError::Commit(format!("job {name} failed: {why}{last}")));
        }
        let told = self.last_words(&pods, &job).await.ok_or_else(|| {
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
    async fn last_words(&self, pods: &Api<Pod>, job: &Job) -> Option<String> {
        let label = format!("job-name={}", job.name_any());
        let found = pods
            .list(&ListParams::default().labels(&label))
            .await
            .ok()?;
        // Pods of a job before it may be there under the same label.
        let own = found.items.iter().filter(|pod| {
            let owners = pod.owner_references().iter();
            owners.map(|owner| &owner.uid).eq(job.metadata.uid.as_ref())
        });
        let ends = own.filter_map(|pod| {
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

/// Makes a job, or finds it made, perhaps by an operator that is no more.
async fn make(jobs: &Api<Job>, job: &Job) -> Result<Job, SaveError> {
    let params = PostParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let name = job.name_any();
    let failed = |error: &dyn std::fmt::Display| SaveError::Commit(format!("job {name}: {error}"));
    let giving_way = Instant::now() + GIVING_WAY;
    loop {
        match jobs.create(&params, job).await {
            Ok(made) => return Ok(made),
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            Err(error) => return Err(failed(&error)),
        }
        // Between two looks it may have gone.
        let found = jobs.get_opt(&name).await.map_err(|error| failed(&error))?;
        let Some(found) = found else { continue };
        match kinship(job, &found) {
            Kinship::Same => return Ok(found),
            Kinship::Stranger => return Err(failed(&"there is one of somebody else's")),
            Kinship::Earlier => {}
        }
        // The cluster takes it away, since the snapshot that it was for is gone.
        let gone = wait(jobs, &name, is_gone(&found), giving_way).await;
        gone.map_err(|_| failed(&"the one of an earlier snapshot is still there"))?;
    }
}

/// Waits until something holds of a job, through whatever time the API cannot be reached.
async fn wait(
    jobs: &Api<Job>,
    name: &str,
    holds: impl Fn(Option<&Job>) -> bool,
    deadline: Instant,
) -> Result<Option<Job>, Elapsed> {
    let waiting = async {
        loop {
            match await_condition(jobs.clone(), name, &holds).await {
                Ok(job) => return job,
                Err(error) => tracing::debug!(job = name, %error, "a job is out of sight"),
            }
            tokio::time::sleep(OUT_OF_SIGHT).await;
        }
    };
    tokio::time::timeout_at(deadline, waiting).await
}

/// What a job that has the name of a wanted one has to do with it.
#[derive(Debug, PartialEq, Eq)]
enum Kinship {
    /// It is the one.
    Same,
    /// It was for a snapshot of the same name, which is gone.
    Earlier,
    /// It is somebody else's.
    Stranger,
}

fn kinship(wanted: &Job, found: &Job) -> Kinship {
    let owners = (wanted.owner_references(), found.owner_references());
    let ([ours], [its]) = (owners.0, owners.1) else {
        return Kinship::Stranger;
    };
    match (
        ours.kind == its.kind && ours.name == its.name,
        ours.uid == its.uid,
    ) {
        (true, true) => Kinship::Same,
        (true, false) => Kinship::Earlier,
        (false, _) => Kinship::Stranger,
    }
}

fn is_the(job: &Job, seen: &Job) -> bool {
    seen.metadata.uid == job.metadata.uid
}

fn is_gone(job: &Job) -> impl Fn(Option<&Job>) -> bool {
    move |seen: Option<&Job>| seen.is_none_or(|seen| !is_the(job, seen))
}

fn has_ended(job: &Job) -> impl Fn(Option<&Job>) -> bool {
    move |seen: Option<&Job>| {
        seen.is_none_or(|seen| {
            !is_the(job, seen) || condition(seen, "Complete") || failure(seen).is_some()
        })
    }
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

/// The name of a snapshot's job. One too long for a label is cut, and tells by a few digits of a
/// fingerprint from which name.
fn job_name(snapshot: &str, what: &str) -> String {
    let whole = format!("{snapshot}-{what}");
    if whole.len() <= LONGEST_LABEL {
        return whole;
    }
    let hash = Sha256::digest(snapshot);
    let digits: String = hash
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // Names of objects are ASCII, so a cut cannot split a character.
    let cut = &snapshot[..LONGEST_LABEL - 2 - digits.len() - what.len()];
    format!("{}-{digits}-{what}", cut.trim_end_matches(['-', '.']))
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
    name[..name.len().min(LONGEST_LABEL)].trim_end_matches(['-', '.'])
}

#[cfg(test)]
mod tests;
