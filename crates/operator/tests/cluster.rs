//! The operator as on a cluster: several of them, one of whom leads, and rules behind a webhook.

mod stage;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::ValidatingWebhookConfiguration,
        coordination::v1::Lease,
        core::v1::{Endpoints, Secret, Service},
    },
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use sandlot_api::arl::{Task, names::LEADER_LEASE};
use sandlot_operator::{Settings, admission::Webhook};
use serde_json::json;
use stage::*;
use tokio_util::sync::CancellationToken;

/// Long enough for a lease to run out on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SERVICE: &str = "arl-operator-webhook";

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A stage whose API asks the operator's webhook through a Service.
async fn with_webhook() -> Stage {
    with_certificates_for(Duration::from_secs(24 * 3600)).await
}

/// The same with certificates that are good for so long.
async fn with_certificates_for(lifetime: Duration) -> Stage {
    let port = free_port();
    let stage = Stage::with(|settings| {
        settings.webhook = Some(Webhook {
            address: ([127, 0, 0, 1], port).into(),
            namespace: "default".to_owned(),
            service: SERVICE.to_owned(),
            port: 443,
            lifetime,
        });
    })
    .await;
    let service = json!({ "metadata": { "name": SERVICE },
        "spec": { "clusterIP": "None", "ports": [{ "port": 443 }] } });
    let endpoints = json!({ "metadata": { "name": SERVICE },
        "subsets": [{ "addresses": [{ "ip": "127.0.0.1" }], "ports": [{ "port": port }] }] });
    let params = PostParams::default();
    let services: Api<Service> = stage.api();
    services
        .create(&params, &serde_json::from_value(service).unwrap())
        .await
        .unwrap();
    let all: Api<Endpoints> = stage.api();
    all.create(&params, &serde_json::from_value(endpoints).unwrap())
        .await
        .unwrap();
    stage
}

/// The authorities that the API trusts the webhook by, once there are so many.
async fn authorities(stage: &Stage, count: usize) -> String {
    let all: Api<ValidatingWebhookConfiguration> = Api::all(stage.client.clone());
    let bundle = |config: &ValidatingWebhookConfiguration| {
        let hook = config.webhooks.iter().flatten().next()?;
        let bytes = hook.client_config.ca_bundle.clone()?.0;
        String::from_utf8(bytes).ok()
    };
    let trusted = |config: Option<&ValidatingWebhookConfiguration>| {
        config
            .and_then(bundle)
            .is_some_and(|bundle| bundle.matches("BEGIN CERTIFICATE").count() == count)
    };
    let waiting = await_condition(all, "arl-operator", trusted);
    let found = tokio::time::timeout(PATIENCE, waiting).await;
    bundle(&found.unwrap().unwrap().unwrap()).unwrap()
}

/// What the API says to a task with two faults.
async fn refusal(stage: &Stage) -> String {
    let faulty = json!({ "apiVersion": "arl.infra.io/v1alpha1", "kind": "Task", "metadata": { "name": "t" },
        "spec": { "sandboxRef": "s", "timeout": "30s", "steps": [{ "name": "a", "type": "Command" }] } });
    let faulty: Task = serde_json::from_value(faulty).unwrap();
    let tasks = stage.api::<Task>();
    let answer = tasks.create(&PostParams::default(), &faulty).await;
    answer.expect_err("it has no command").to_string()
}

#[tokio::test]
async fn the_webhook_refuses_over_tls_and_fills_in_what_is_left_out() {
    let stage = with_webhook().await;
    authorities(&stage, 1).await;
    let refused = refusal(&stage).await;
    assert!(refused.contains("spec.steps[0].command"), "{refused}");
    stage.task("good", "nobody", &["say", "hi"]).await;
    let made = stage.api::<Task>().get("good").await.unwrap();
    assert_eq!(made.spec.timeout.unwrap().0, Duration::from_secs(30));
}

#[tokio::test]
async fn certificates_are_renewed_in_time_and_the_ones_before_stay_good() {
    let mut stage = with_webhook().await;
    let before = authorities(&stage, 1).await;
    let soon = Timestamp::now() + SignedDuration::from_hours(3);
    let ends = ByteString(soon.as_second().to_string().into_bytes());
    let patch = Patch::Merge(json!({ "data": { "ends": ends } }));
    let secrets: Api<Secret> = stage.api();
    secrets
        .patch(SERVICE, &PatchParams::default(), &patch)
        .await
        .unwrap();
    stage.stop_operator().await;
    stage.start_operator();
    let after = authorities(&stage, 2).await;
    assert!(
        after.contains(before.trim()),
        "others may still show the old one"
    );
    // The server may still be on its way up.
    tokio::time::timeout(PATIENCE, async {
        while !refusal(&stage).await.contains("spec.steps[0].command") {}
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_operator_that_outlives_its_certificates_goes_on_being_trusted() {
    let lifetime = Duration::from_secs(12);
    let stage = with_certificates_for(lifetime).await;
    let first = authorities(&stage, 1).await;
    let begun = std::time::Instant::now();
    let second = authorities(&stage, 2).await;
    assert!(
        second.contains(first.trim()),
        "the one before stays trusted"
    );
    // By then the first are over, and the ones that followed have successors, too.
    let patience = tokio::time::timeout(PATIENCE, async {
        while begun.elapsed() < lifetime || authorities(&stage, 2).await.contains(first.trim()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        while !refusal(&stage).await.contains("spec.steps[0].command") {}
    });
    patience.await.unwrap();
}

/// An operator among several, and how to stop it.
fn another(stage: &Stage, name: &str) -> (tokio::task::JoinHandle<()>, CancellationToken) {
    let mut settings: Settings = stage.settings();
    settings.leader_election = true;
    settings.identity.namespace = "default".to_owned();
    settings.identity.name = name.to_owned();
    let (client, cancel) = (stage.client.clone(), CancellationToken::new());
    let token = cancel.clone();
    let work = tokio::spawn(async move {
        sandlot_operator::run(client, settings, token)
            .await
            .unwrap();
    });
    (work, cancel)
}

async fn until_led_by(stage: &Stage, name: &str) {
    let leases: Api<Lease> = stage.api();
    let led = |lease: Option<&Lease>| {
        lease
            .and_then(|lease| lease.spec.as_ref()?.holder_identity.as_deref())
            .is_some_and(|holder| holder == name)
    };
    let waiting = await_condition(leases, LEADER_LEASE, led);
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{name} does not lead"))
        .unwrap();
}

#[tokio::test]
async fn of_several_operators_one_leads_and_another_follows_when_it_stops_or_crashes() {
    let mut stage = Stage::set().await;
    stage.stop_operator().await;
    let (first, stop_first) = another(&stage, "first");
    until_led_by(&stage, "first").await;
    let (second, _stop_second) = another(&stage, "second");
    stage.pool("p", 1).await;
    stage.sandbox("a", "p").await;
    stage.until_phase("a", "Ready").await;
    // A leader that leaves in order lets go of the lease.
    stop_first.cancel();
    first.await.unwrap();
    until_led_by(&stage, "second").await;
    stage.sandbox("b", "p").await;
    stage.until_phase("b", "Ready").await;
    // One that crashes does not: the lease runs out.
    let (_third, _stop_third) = another(&stage, "third");
    second.abort();
    until_led_by(&stage, "third").await;
    stage.sandbox("c", "p").await;
    stage.until_phase("c", "Ready").await;
}
