//! Many clients, few pods, and an operator that is killed again and again: no pod is ever in two
//! hands, and none is left over.

mod stage;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use rand::RngExt;
use sandlot_api::arl::{Sandbox, SandboxPhase, WarmPool, names};
use serde_json::json;
use stage::*;
use tokio::sync::oneshot;

const CLIENTS: usize = 64;
/// Some pods are used once and replaced, the others are wiped and used again.
const USED_ONCE: u32 = 4;
const USED_AGAIN: u32 = 12;
/// The machine that runs this may be busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// Who has which pod, as the clients see it.
#[derive(Default)]
struct Hands {
    holders: Mutex<HashMap<String, String>>,
    /// The uids of pods of the pool that never gives one out again: of so many pods made one after
    /// the other, two may have one name.
    used: Mutex<HashSet<String>>,
}

impl Hands {
    fn take(&self, pod: &Pod, sandbox: &str) {
        let (pod, uid) = (pod.name_any(), pod.uid().unwrap());
        let other = self
            .holders
            .lock()
            .unwrap()
            .insert(pod.clone(), sandbox.to_owned());
        assert_eq!(other, None, "{pod} was given to {sandbox} too");
        if pod.starts_with("once-") {
            let is_new = self.used.lock().unwrap().insert(uid);
            assert!(is_new, "{pod} was given to {sandbox} after another had it");
        }
    }

    fn give_back(&self, pod: &str) {
        self.holders.lock().unwrap().remove(pod);
    }
}

/// Those who wait for a sandbox to be ready, by its name.
type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<String>>>>;

/// Tells whoever waits for a sandbox which pod it was given.
async fn tell(sandboxes: Api<Sandbox>, waiting: Waiting) {
    let mut events = watcher(sandboxes, watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    loop {
        let sandbox = match events.try_next().await {
            Ok(Some(sandbox)) => sandbox,
            Ok(None) => return,
            Err(_) => continue,
        };
        let status = sandbox.status.clone().unwrap_or_default();
        if status.phase == Some(SandboxPhase::Ready)
            && let Some(pod) = status.pod_name
            && let Some(told) = waiting.lock().unwrap().remove(&sandbox.name_any())
        {
            let _ = told.send(pod);
        }
    }
}

/// Claims, holds and gives back, until there have been enough claims.
async fn client(
    sandboxes: Api<Sandbox>,
    pods: Api<Pod>,
    waiting: Waiting,
    hands: Arc<Hands>,
    claims: Arc<AtomicUsize>,
    enough: usize,
) {
    loop {
        let number = claims.fetch_add(1, Ordering::Relaxed);
        if number >= enough {
            return;
        }
        let name = format!("s{number}");
        let pool = if number.is_multiple_of(4) {
            "once"
        } else {
            "again"
        };
        let (told, ready) = oneshot::channel();
        waiting.lock().unwrap().insert(name.clone(), told);
        let sandbox = json!({
            "apiVersion": "arl.infra.io/v1alpha1", "kind": "Sandbox", "metadata": { "name": name },
            "spec": { "poolRef": pool, "keepAlive": true },
        });
        let sandbox = serde_json::from_value(sandbox).unwrap();
        sandboxes
            .create(&PostParams::default(), &sandbox)
            .await
            .unwrap();
        let pod = match tokio::time::timeout(PATIENCE, ready).await {
            Ok(pod) => pod.unwrap(),
            Err(_) => panic!("{name} waits for ever: {:#?}", sandboxes.get(&name).await),
        };
        hands.take(&pods.get(&pod).await.unwrap(), &name);
        let hold = rand::rng().random_range(0..4);
        tokio::time::sleep(Duration::from_millis(hold)).await;
        hands.give_back(&pod);
        sandboxes
            .delete(&name, &DeleteParams::default())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_under_crashes_give_no_pod_twice_and_lose_none() {
    race(500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; `cargo xtask test` runs the shorter one"]
async fn ten_thousand_claims_under_crashes_give_no_pod_twice_and_lose_none() {
    race(10_000).await;
}

async fn race(enough: usize) {
    let mut stage = Stage::set().await;
    for (pool, replicas, recycle) in [
        ("once", USED_ONCE, "Delete"),
        ("again", USED_AGAIN, "Reset"),
    ] {
        let spec = json!({ "replicas": replicas, "template": template(), "recycle": recycle });
        stage.make::<WarmPool>(pool, spec).await;
    }
    let (hands, waiting) = (Arc::<Hands>::default(), Waiting::default());
    let telling = tokio::spawn(tell(stage.api(), waiting.clone()));
    let claims = Arc::<AtomicUsize>::default();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (waiting, hands, claims) = (waiting.clone(), hands.clone(), claims.clone());
        clients.spawn(client(
            stage.api(),
            stage.api(),
            waiting,
            hands,
            claims,
            enough,
        ));
    }
    let mut crashes = 0;
    loop {
        // Each operator lives for some claims, none at all now and then; not for some time, in which
        // a busy machine may not even let it begin.
        let lives_until = claims.load(Ordering::Relaxed) + rand::rng().random_range(0..enough / 25);
        while claims.load(Ordering::Relaxed) < lives_until.min(enough) {
            if let Some(done) = clients.try_join_next() {
                done.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if claims.load(Ordering::Relaxed) >= enough {
            break;
        }
        let moment = rand::rng().random_range(0..20);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        stage.kill_operator().await;
        stage.start_operator();
        crashes += 1;
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    telling.abort();
    assert!(crashes >= 10, "the operator crashed {crashes} times only");
    let is_idle = |pod: &Pod| !pod.annotations().contains_key(names::CLAIMED_BY);
    let all = (USED_ONCE + USED_AGAIN) as usize;
    stage
        .until_pods(|pods| pods.len() == all && pods.iter().all(is_idle))
        .await;
    let left = stage.api::<Sandbox>().list(&ListParams::default()).await;
    assert!(left.unwrap().items.is_empty());
    println!("{enough} claims by {CLIENTS} clients, {crashes} crashes");
}
