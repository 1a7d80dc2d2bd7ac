//! Those who send a body drop by drop.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Request;
use http_body_util::BodyExt;
use sandlot_cluster::access::User;
use sandlot_cluster::{Cluster, Config};
use serde_json::Value;
use tokio::time::Instant;

async fn post(cluster: &Cluster, body: Body) -> (u16, Value) {
    let request = Request::post("/api/v1/namespaces/default/configmaps")
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let answer = cluster.handle(User::master("test"), request).await;
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_body_that_comes_drop_by_drop_is_not_awaited_for_ever() {
    let cluster = Cluster::start(Config::default()).await.unwrap();
    let drops = stream::repeat(()).then(|()| async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok::<_, Infallible>(Bytes::from_static(b" "))
    });
    tokio::time::pause();
    let began = Instant::now();
    let (code, status) = post(&cluster, Body::from_stream(drops)).await;
    assert_eq!((code, &status["reason"]), (408, &"Timeout".into()));
    assert!(
        began.elapsed() < Duration::from_secs(31),
        "{:?}",
        began.elapsed()
    );
    tokio::time::resume();
    cluster.stop().await;
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let cluster = Cluster::start(Config::default()).await.unwrap();
    let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![b' '; 64 << 10])));
    let (code, status) = post(&cluster, Body::from_stream(endless)).await;
    assert_eq!(
        (code, &status["reason"]),
        (413, &"RequestEntityTooLarge".into())
    );
    cluster.stop().await;
}
