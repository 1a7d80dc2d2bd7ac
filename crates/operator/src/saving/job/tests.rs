//! A cluster that pretends: it takes jobs, and at once they have ended. A job in the way is gone
//! once somebody has looked at it.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::*;

fn jobs() -> CommitJobs {
    CommitJobs {
        registry: "registry.example/snapshots".into(),
        insecure: false,
        image: "committer:1".into(),
        socket: "/run/containerd/containerd.sock".into(),
        push_secret: Some("push".into()),
        pull_secret: None,
        timeout: Duration::from_secs(600),
    }
}

fn what() -> Save {
    Save {
        namespace: "ns".into(),
        snapshot: "b-pause".into(),
        snapshot_uid: "u".into(),
        pod: "p-1".into(),
        pod_uid: "v".into(),
        node: "n".into(),
        containers: vec![("sandbox".into(), "registry.example/snapshots/b:1".into())],
    }
}

/// How every job ends here, and with which last words; and the jobs that were made.
struct Pretended {
    end: &'static str,
    words: String,
    made: Mutex<Vec<Value>>,
    in_the_way: Mutex<Option<Value>>,
}

async fn cluster(end: &'static str, words: String) -> (JobSaver, Arc<Pretended>) {
    let pretended = Arc::new(Pretended {
        end,
        words,
        made: Mutex::default(),
        in_the_way: Mutex::default(),
    });
    let routes = Router::new()
        .route("/api/v1/namespaces/ns/pods/p-1", get(source))
        .route("/api/v1/namespaces/ns/pods", get(pods))
        .route("/apis/batch/v1/namespaces/ns/jobs", post(make).get(list))
        .route("/apis/batch/v1/namespaces/ns/jobs/{job}", get(look))
        .with_state(pretended.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    let client = Client::try_from(config).unwrap();
    (JobSaver::new(client, jobs()), pretended)
}

async fn source() -> Json<Value> {
    Json(
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p-1", "namespace": "ns", "uid": "v" } }),
    )
}

async fn make(State(this): State<Arc<Pretended>>, Json(mut job): Json<Value>) -> Response {
    if this.in_the_way.lock().unwrap().is_some() {
        let taken = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "reason": "AlreadyExists", "message": "there is one", "code": 409 });
        return (StatusCode::CONFLICT, Json(taken)).into_response();
    }
    let mut made = this.made.lock().unwrap();
    job["metadata"]["resourceVersion"] = json!("1");
    job["metadata"]["uid"] = json!(format!("job-{}", made.len()));
    job["status"] = json!({ "conditions": [
        { "type": this.end, "status": "True", "reason": "Pretended", "message": "as the test says" }] });
    made.push(job.clone());
    Json(job).into_response()
}

async fn look(State(this): State<Arc<Pretended>>) -> Response {
    let found = this.in_the_way.lock().unwrap().take();
    found.map_or(StatusCode::NOT_FOUND.into_response(), |job| {
        Json(job).into_response()
    })
}

async fn list(State(this): State<Arc<Pretended>>) -> Json<Value> {
    let jobs = this.made.lock().unwrap().clone();
    Json(
        json!({ "apiVersion": "batch/v1", "kind": "JobList", "metadata": { "resourceVersion": "2" }, "items": jobs }),
    )
}

/// The pod of the first job that was made here, and one of a job that was there before.
async fn pods(State(this): State<Arc<Pretended>>) -> Json<Value> {
    let pod = |job: &str, words: &str, at: &str| {
        let owner = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "b-pause-commit", "uid": job });
        json!({ "metadata": { "name": "x", "ownerReferences": [owner] }, "status": { "containerStatuses": [{
            "name": "commit", "image": "c", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 0, "message": words, "finishedAt": at } } }] } })
    };
    let pods = [
        pod("job-0", &this.words, "2026-01-01T00:00:01Z"),
        pod("before", "what was saved before", "2026-01-01T00:00:02Z"),
    ];
    Json(
        json!({ "apiVersion": "v1", "kind": "PodList", "metadata": { "resourceVersion": "2" }, "items": pods }),
    )
}

fn report() -> String {
    json!({ "containers": [
        { "name": "sandbox", "image": "registry.example/snapshots/b:1", "digest": "sha256:abc" }] })
    .to_string()
}

#[tokio::test]
async fn a_jobs_last_words_say_what_it_has_pushed() {
    let (saver, _) = cluster("Complete", report()).await;
    let saved = saver.save(what()).await.unwrap();
    assert_eq!(
        saved,
        [SavedImage {
            container: "sandbox".into(),
            image: "registry.example/snapshots/b:1".into(),
            digest: Some("sha256:abc".into()),
        }]
    );
}

#[tokio::test]
async fn what_a_failed_job_may_have_left_frozen_is_thawed() {
    let (saver, pretended) = cluster("Failed", "no space left".into()).await;
    let why = saver.save(what()).await.unwrap_err().to_string();
    assert!(
        why.contains("as the test says") && why.contains("no space left"),
        "{why}"
    );
    let made = pretended.made.lock().unwrap().clone();
    let names: Vec<_> = made
        .iter()
        .map(|job| job["metadata"]["name"].clone())
        .collect();
    assert_eq!(names, ["b-pause-commit", "b-pause-unpause"]);
    assert_eq!(
        made[1]["spec"]["template"]["spec"]["containers"][0]["args"],
        json!(["unpause", "p-1", "ns", "sandbox"])
    );
}

#[tokio::test]
async fn a_pod_of_the_same_name_that_came_later_is_not_saved() {
    let (saver, pretended) = cluster("Complete", String::new()).await;
    let mut later = what();
    later.pod_uid = "another".into();
    let error = saver.save(later).await.unwrap_err();
    assert_eq!(error, SaveError::PodNotFound("p-1".into()));
    assert!(pretended.made.lock().unwrap().is_empty());
}

#[test]
fn a_job_has_the_form_that_committers_expect() {
    let job = serde_json::to_value(commit_job(&jobs(), &what()).unwrap()).unwrap();
    let spec = &job["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    assert_eq!(job["metadata"]["name"], "b-pause-commit");
    assert_eq!(
        (&spec["nodeName"], &container["name"]),
        (&json!("n"), &json!("commit"))
    );
    assert_eq!(
        container["args"],
        json!(["p-1", "ns", "sandbox:registry.example/snapshots/b:1"])
    );
    assert_eq!(
        container["command"],
        json!(["/usr/local/bin/image-committer"])
    );
    let env = container["env"].as_array().unwrap();
    assert!(env.contains(&json!({ "name": "SOURCE_POD_UID", "value": "v" })));
    let socket = json!("/run/containerd/containerd.sock");
    assert!(env.contains(&json!({ "name": "CONTAINERD_SOCKET", "value": socket })));
    assert_eq!(container["volumeMounts"][0]["mountPath"], socket);
    assert_eq!(
        container["volumeMounts"][1]["mountPath"],
        "/var/run/opensandbox/registry"
    );
    assert_eq!(
        spec["volumes"][1]["secret"]["items"][0]["path"],
        "config.json"
    );
    assert_eq!(job["spec"]["backoffLimit"], 3);
    assert_eq!(job["spec"]["ttlSecondsAfterFinished"], 300);
    assert_eq!(
        container["securityContext"]["capabilities"]["drop"],
        json!(["ALL"])
    );
}

#[tokio::test]
async fn the_job_of_an_earlier_snapshot_of_that_name_is_not_taken_for_this_ones() {
    let (saver, pretended) = cluster("Complete", report()).await;
    let mut earlier = serde_json::to_value(commit_job(&jobs(), &what()).unwrap()).unwrap();
    earlier["metadata"]["uid"] = json!("before");
    earlier["metadata"]["ownerReferences"][0]["uid"] = json!("the snapshot before");
    *pretended.in_the_way.lock().unwrap() = Some(earlier);
    let saved = saver.save(what()).await.unwrap();
    assert_eq!(saved[0].digest.as_deref(), Some("sha256:abc"));
    assert_eq!(pretended.made.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_of_somebody_elses_is_left_alone_and_said() {
    let (saver, pretended) = cluster("Complete", report()).await;
    let other = json!({ "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "b-pause-commit", "namespace": "ns", "uid": "other" } });
    *pretended.in_the_way.lock().unwrap() = Some(other);
    let why = saver.save(what()).await.unwrap_err().to_string();
    assert!(why.contains("somebody else's"), "{why}");
    assert!(pretended.made.lock().unwrap().is_empty());
}

#[test]
fn a_long_name_is_cut_to_what_a_label_holds_and_no_two_become_one() {
    let (one, other) = (
        format!("{}1", "a".repeat(100)),
        format!("{}2", "a".repeat(100)),
    );
    let (one, other) = (job_name(&one, "commit"), job_name(&other, "commit"));
    assert_eq!((one.len(), other.len()), (63, 63));
    assert!(one.ends_with("-commit") && one != other);
    assert_eq!(job_name("b-pause", "commit"), "b-pause-commit");
}
