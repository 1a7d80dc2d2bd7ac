//! How often the operator writes. Each write is a round trip to a disk somewhere.

mod stage;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Pod};
use kube::{
    Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use sandlot_api::arl::{Sandbox, Task, TaskState, WarmPool};
use serde::de::DeserializeOwned;
use stage::*;

/// How often each object was seen to change, by kind and name.
type Changes = Arc<Mutex<BTreeMap<String, usize>>>;

async fn count<K>(stage: &Stage, changes: &Changes)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let mut events = kube::runtime::watcher(stage.api::<K>(), watcher::Config::default())
        .default_backoff()
        .boxed();
    // From here on everything is counted: the list has been read.
    while !matches!(events.try_next().await, Ok(Some(Event::InitDone))) {}
    let changes = changes.clone();
    tokio::spawn(async move {
        while let Ok(Some(event)) = events.try_next().await {
            if let Event::Apply(object) = event {
                let name = format!("{} {}", K::kind(&()), object.name_any());
                *changes.lock().unwrap().entry(name).or_default() += 1;
            }
        }
    });
}

#[tokio::test]
async fn a_claim_takes_three_writes_and_a_short_task_two() {
    let stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.until_ready("p", 1).await;
    let changes = Changes::default();
    count::<Sandbox>(&stage, &changes).await;
    count::<Pod>(&stage, &changes).await;
    count::<Task>(&stage, &changes).await;

    stage.sandbox("s", "p").await;
    let pod = pod_of(&stage.until_phase("s", "Ready").await);
    let refilled = |pool: &WarmPool| {
        let status = pool.status.as_ref();
        status.is_some_and(|status| (status.ready, status.allocated) == (1, 1))
    };
    stage.until::<WarmPool>("p", refilled).await;
    let claimed = changes.lock().unwrap().clone();
    // Each count holds the user's own create, except the claimed pod's.
    assert_eq!(claimed["Sandbox s"], 2, "{claimed:#?}");
    assert_eq!(claimed[&format!("Pod {pod}")], 1, "{claimed:#?}");
    // And one other pod, which takes its place.
    let pods = claimed.keys().filter(|name| name.starts_with("Pod "));
    assert_eq!(pods.count(), 2, "{claimed:#?}");

    stage.task("t", "s", &["say", "hi"]).await;
    let task = stage.until_ended("t").await;
    assert_eq!(state_of(&task), Some(TaskState::Succeeded));
    // On a busy machine even a short task may be seen running.
    let ended = changes.lock().unwrap().clone();
    assert!(ended["Task t"] <= 3, "{ended:#?}");
}
