//! Agents let nobody in but their operator, also when nobody brought a key.

mod stage;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, ResourceExt};
use sandlot_access::{OPERATOR_KEY_ANNOTATION, OPERATOR_KEYS, PrivateKey};
use sandlot_operator::Proof;
use stage::*;

/// The one key that operators keep.
async fn kept(stage: &Stage) -> PrivateKey {
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), "arl-system");
    let secret = secrets.get("arl-operator-key").await.unwrap();
    let data = secret.data.unwrap();
    std::str::from_utf8(&data["key"].0)
        .unwrap()
        .parse()
        .unwrap()
}

/// Whose calls the agent of a pod was told to take.
fn told(pod: &Pod) -> Option<String> {
    let container = &pod.spec.as_ref()?.containers[0];
    let variable = container
        .env
        .iter()
        .flatten()
        .find(|v| v.name == OPERATOR_KEYS)?;
    variable.value.clone()
}

fn is_plain(pod: &Pod) -> bool {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    container
        .command
        .iter()
        .flatten()
        .any(|word| word == "--plain")
}

#[tokio::test]
async fn without_a_key_the_operator_makes_one_and_its_successor_keeps_it() {
    let mut stage = Stage::with(|settings| settings.agent.proof = Proof::Secret).await;
    stage.namespace("arl-system").await;
    stage.pool("first", 1).await;
    let pods = stage.until_pods(|pods| pods.len() == 1).await;
    let key = kept(&stage).await.public().unwrap().to_string();
    assert_eq!(told(&pods[0]).as_ref(), Some(&key));
    assert!(!is_plain(&pods[0]));

    stage.stop_operator().await;
    stage.start_operator();
    stage.pool("second", 1).await;
    let pods = stage.until_pods(|pods| pods.len() == 2).await;
    assert!(pods.iter().all(|pod| told(pod).as_ref() == Some(&key)));
}

#[tokio::test]
async fn a_key_that_has_no_place_is_waited_for_and_no_pod_is_open_meanwhile() {
    // The Secret's namespace comes only after the pool.
    let stage = Stage::with(|settings| settings.agent.proof = Proof::Secret).await;
    stage.pool("p", 1).await;
    stage.namespace("arl-system").await;
    let pods = stage.until_pods(|pods| pods.len() == 1).await;
    assert!(told(&pods[0]).is_some() && !is_plain(&pods[0]));
}

#[tokio::test]
async fn idle_pods_that_know_another_operator_are_replaced() {
    let mut stage = Stage::with(|settings| settings.agent.proof = Proof::Nothing).await;
    stage.namespace("arl-system").await;
    stage.pool("p", 1).await;
    let open = stage.until_pods(|pods| pods.len() == 1).await;
    assert!(is_plain(&open[0]));

    stage.stop_operator().await;
    stage.set_proof(Proof::Secret);
    stage.start_operator();
    let closed = |pods: &[Pod]| pods.len() == 1 && !is_plain(&pods[0]);
    let pods = stage.until_pods(closed).await;
    let key = kept(&stage).await.public().unwrap().to_string();
    assert_eq!(pods[0].annotations()[OPERATOR_KEY_ANNOTATION], key);
}
