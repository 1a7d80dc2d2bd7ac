//! Old events go.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::PostParams;
use sandlot_cluster::{Cluster, Config};
use serde_json::json;

use crate::office::{gone, object};

async fn record(events: &Api<Event>, name: &str, minutes_ago: i64) {
    let last = Timestamp::now() - SignedDuration::from_mins(minutes_ago);
    let event = object(json!({
        "metadata": {"name": name}, "involvedObject": {"namespace": "default", "name": "p"},
        "lastTimestamp": last.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }));
    events.create(&PostParams::default(), &event).await.unwrap();
}

#[tokio::test]
async fn an_event_of_which_nobody_spoke_for_an_hour_is_gone_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let start = async || {
        let database = Some(folder.path().join("db"));
        let config = Config {
            database,
            ..Config::default()
        };
        let cluster = Cluster::start(config).await.unwrap();
        let events: Api<Event> = Api::default_namespaced(cluster.client());
        (cluster, events)
    };
    let (cluster, events) = start().await;
    record(&events, "old", 90).await;
    record(&events, "young", 30).await;
    cluster.stop().await;
    let (cluster, events) = start().await;
    gone(&events, "old").await;
    assert!(events.get_opt("young").await.unwrap().is_some());
    cluster.stop().await;
}
