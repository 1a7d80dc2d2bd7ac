//! What becomes of those who fall behind: they are told so, and nobody waits for them.

use axum::body::Body;
use futures::StreamExt;
use http::{Method, Request};
use http_body_util::BodyExt;
use sandlot_cluster::access::User;
use sandlot_cluster::{Cluster, Config};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// The store remembers 64 MiB of what is no more: writes of a megabyte make it forget soon.
const MEGABYTE: usize = 1 << 20;
const WRITES: usize = 70;

async fn send(cluster: &Cluster, method: Method, path: &str, body: String) -> http::Response<Body> {
    let kind = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(Body::from(body))
        .unwrap();
    cluster.handle(User::master("test"), request).await
}

async fn get(cluster: &Cluster, path: &str) -> (u16, Value) {
    let response = send(cluster, Method::GET, path, String::new()).await;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap())
}

/// The events of a watch: each its type, and the code of its Status or the name of its object.
fn told(line: &[u8]) -> (String, String) {
    let event: Value = serde_json::from_slice(line).unwrap();
    let object = &event["object"];
    let what = match event["type"] == "ERROR" {
        true => object["code"].to_string(),
        false => object["metadata"]["name"].as_str().unwrap().to_owned(),
    };
    (event["type"].as_str().unwrap().to_owned(), what)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_falls_behind_history_is_told_to_begin_anew_and_others_are_not() {
    let cluster = Cluster::start(Config::default()).await.unwrap();
    for name in ["a", "b", "c"] {
        let map = json!({"metadata": {"name": name}}).to_string();
        assert_eq!(send(&cluster, Method::POST, MAPS, map).await.status(), 201);
    }
    let (_, page) = get(&cluster, &format!("{MAPS}?limit=1")).await;
    let start = page["metadata"]["resourceVersion"].as_str().unwrap();
    let token = page["metadata"]["continue"].as_str().unwrap();
    let from_start =
        format!("{MAPS}?watch=1&resourceVersion={start}&fieldSelector=metadata.name=a");

    let idle = send(&cluster, Method::GET, &from_start, String::new()).await;
    let keen = send(&cluster, Method::GET, &from_start, String::new()).await;
    let keen = tokio::spawn(async move {
        let mut lines = keen.into_body().into_data_stream();
        let mut seen = 0;
        while seen < WRITES {
            let line = lines.next().await.expect("the watch goes on").unwrap();
            assert_eq!(told(&line), ("MODIFIED".to_owned(), "a".to_owned()));
            seen += 1;
        }
    });
    for number in 0..WRITES {
        let text = char::from(b'a' + (number % 26) as u8).to_string();
        let patch = json!({"data": {"big": text.repeat(MEGABYTE - 1000)}}).to_string();
        let answer = send(&cluster, Method::PATCH, &format!("{MAPS}/a"), patch).await;
        assert_eq!(answer.status(), 200);
    }
    keen.await.expect("who keeps up sees everything");

    let shown = idle.into_body().collect().await.unwrap().to_bytes();
    let lines: Vec<&[u8]> = shown
        .trim_ascii_end()
        .split(|byte| *byte == b'\n')
        .collect();
    let last = told(lines[lines.len() - 1]);
    assert_eq!(last, ("ERROR".to_owned(), "410".to_owned()));
    assert!(lines.len() < WRITES, "what is forgotten is not shown");

    let late = send(&cluster, Method::GET, &from_start, String::new()).await;
    let late = late.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(told(&late), ("ERROR".to_owned(), "410".to_owned()));

    let (code, status) = get(&cluster, &format!("{MAPS}?limit=10&continue={token}")).await;
    assert_eq!((code, &status["reason"]), (410, &"Expired".into()));
    // The way on for those who can do with a list that is not of one moment.
    let go_on = status["metadata"]["continue"].as_str().unwrap();
    let (code, rest) = get(&cluster, &format!("{MAPS}?limit=10&continue={go_on}")).await;
    assert_eq!(code, 200);
    let names: Vec<&Value> = rest["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["metadata"]["name"])
        .collect();
    assert_eq!(names[..2], ["b", "c"]);
    cluster.stop().await;
}

#[tokio::test]
async fn an_idle_watch_is_told_every_minute_how_far_it_has_come_and_ends_when_it_asked_to() {
    let cluster = Cluster::start(Config::default()).await.unwrap();
    let path = format!(
        "{MAPS}?watch=1&resourceVersion=1&allowWatchBookmarks=true&timeoutSeconds=150&fieldSelector=metadata.name=nobody"
    );
    let began = tokio::time::Instant::now();
    let watch = send(&cluster, Method::GET, &path, String::new()).await;
    let elsewhere = json!({"metadata": {"name": "elsewhere"}}).to_string();
    let made = send(&cluster, Method::POST, MAPS, elsewhere).await;
    let made = made.into_body().collect().await.unwrap().to_bytes();
    let made: Value = serde_json::from_slice(&made).unwrap();
    let revision = |object: &Value| -> u64 {
        let text = object["metadata"]["resourceVersion"].as_str().unwrap();
        text.parse().unwrap()
    };
    tokio::time::pause();
    let shown = watch.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(began.elapsed().as_secs(), 150);
    let lines = shown.trim_ascii_end().split(|byte| *byte == b'\n');
    let events: Vec<Value> = lines
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(events.len(), 2, "one a minute");
    for event in events {
        assert_eq!(event["type"], "BOOKMARK");
        assert_eq!(event["object"]["kind"], "ConfigMap");
        assert!(
            revision(&event["object"]) >= revision(&made),
            "what was not for it counts too"
        );
    }
    tokio::time::resume();
    cluster.stop().await;
}
