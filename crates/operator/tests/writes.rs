//! How often the operator writes. Each write is a round trip to a disk somewhere.

mod stage;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
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
use sandlot_api::arl::{Sandbox, Task, TaskState};
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
    stage.task("t", "s", &["say", "hi"]).await;
    assert_eq!(
        state_of(&stage.until_ended("t").await),
        Some(TaskState::Succeeded)
    );
    // Time enough for a write too many to show, and less than until the end of the task is
    // written into the sandbox.
    tokio::time::sleep(Duration::from_millis(300)).await;

    let changes = changes.lock().unwrap().clone();
    // Each count holds the user's own create, except the pod's.
    assert_eq!(changes["Sandbox s"], 2, "{changes:#?}");
    assert_eq!(changes[&format!("Pod {pod}")], 1, "{changes:#?}");
    // On a busy machine a short task may be seen running.
    assert!(changes["Task t"] <= 3, "{changes:#?}");
}
