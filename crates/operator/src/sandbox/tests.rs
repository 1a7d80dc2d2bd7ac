use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kube::{Client, client::Body};
use sandlot_api::arl::{Sandbox, SandboxPhase, names};
use serde_json::{Value, json};

use super::*;
use crate::{agents::Agents, events::Events, index::Key};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn key(name: &str) -> Key {
    Key {
        namespace: "n".into(),
        name: name.into(),
    }
}

/// What an operator knows, over an API that never answers.
fn world() -> World {
    let silence = |_: http::Request<Body>| {
        std::future::pending::<Result<http::Response<Body>, std::convert::Infallible>>()
    };
    let client = Client::new(tower::service_fn(silence), "n");
    let (events, _) = Events::start(client, "test", "test".to_owned(), Default::default());
    let agents = Agents::new(&Default::default(), None);
    World::new(
        Default::default(),
        None,
        agents.into(),
        events,
        Default::default(),
    )
}

fn pod(name: &str) -> v1::Pod {
    serde_json::from_value(json!({
        "metadata": { "namespace": "n", "name": name, "uid": name, "resourceVersion": "1",
            "labels": { "arl.infra.io/pool": "p" } },
        "status": { "phase": "Running", "podIP": "10.0.0.1", "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" } ] },
    }))
    .unwrap()
}

fn sandbox(pool: &str, revision: u64, status: Value) -> Sandbox {
    serde_json::from_value(json!({
        "apiVersion": "arl.infra.io/v1alpha1", "kind": "Sandbox",
        "metadata": { "namespace": "n", "name": "s", "uid": "s",
            "resourceVersion": revision.to_string() },
        "spec": { "poolRef": pool }, "status": status,
    }))
    .unwrap()
}

/// A round's look at everything there is.
fn round(world: &mut World) -> Vec<Write> {
    line_up(world, &key("s"));
    for pool in ["p", "other"] {
        give_out(world, &key(pool), NOW);
    }
    look(world, &key("s"), NOW);
    std::mem::take(&mut world.tray.writes)
}

fn claims(writes: &[Write]) -> usize {
    let is_claim = |write: &&Write| matches!(write, Write::Claim(_));
    writes.iter().filter(is_claim).count()
}

#[tokio::test]
async fn a_sandbox_that_is_told_to_wait_while_it_is_given_a_pod_is_given_no_other() {
    let mut world = world();
    world.index.see_sandbox(&sandbox("p", 1, json!({})), NOW);
    let told = round(&mut world);
    assert!(matches!(told[..], [Write::Sandbox { .. }]), "{told:?}");
    // Both pods are ready before that is written down.
    world.index.see_pod(&pod("a"), NOW);
    world.index.see_pod(&pod("b"), NOW);
    assert_eq!(claims(&round(&mut world)), 1);
    // The answer to the older write comes before the claim's.
    world.index.sandboxes.get_mut(&key("s")).unwrap().writing = None;
    let pending = json!({ "phase": SandboxPhase::Pending });
    world.index.see_sandbox(&sandbox("p", 2, pending), NOW);
    assert_eq!(round(&mut world).len(), 0);
}

#[tokio::test]
async fn a_sandbox_that_moves_to_another_pool_stands_in_one_line_only() {
    let mut world = world();
    world
        .index
        .see_sandbox(&sandbox("other", 1, json!({})), NOW);
    round(&mut world);
    world.index.see_sandbox(&sandbox("p", 2, json!({})), NOW);
    world.index.see_pod(&pod("a"), NOW);
    assert_eq!(claims(&round(&mut world)), 1);
    assert!(!world.index.shelves.contains_key(&key("other")));
}

#[tokio::test]
async fn a_sandbox_given_out_late_in_a_second_is_not_idle_a_second_too_soon() {
    let at = |millis| Timestamp::from_millisecond(millis).unwrap();
    let mut world = world();
    let mut own = sandbox(
        "p",
        1,
        json!({ "phase": "Ready", "podName": "a", "allocatedAt": "1970-01-01T00:00:07Z" }),
    );
    own.spec.idle_timeout_seconds = Some(1);
    own.spec.keep_alive = Some(true);
    world.index.see_sandbox(&own, NOW);
    let mut given = pod("a");
    let notes = given.metadata.annotations.get_or_insert_default();
    notes.insert(names::CLAIMED_BY.to_owned(), "s".to_owned());
    notes.insert(names::CLAIMED_AT.to_owned(), at(7_990).to_string());
    world.index.see_pod(&given, NOW);
    let ends = |world: &mut World, now| {
        world.index.sandboxes.get_mut(&key("s")).unwrap().writing = None;
        look(world, &key("s"), now);
        let writes = std::mem::take(&mut world.tray.writes);
        matches!(writes[..], [Write::EndSandbox { .. }])
    };
    assert!(!ends(&mut world, at(8_500)));
    assert!(ends(&mut world, at(8_990)));
}
