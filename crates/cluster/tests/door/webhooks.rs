//! Webhooks, asked over real HTTPS.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandlot_cluster::ApiError;
use sandlot_cluster::access::User;
use sandlot_cluster::admission::{
    Admission, AdmissionRequest, Endpoints, Operation, Resource, Warnings, Webhooks,
};
use serde_json::{Value, json};

use crate::https::Https;
use crate::world::World;

/// A webhook server that answers by path, and remembers what it was asked.
struct Hooks {
    server: Https,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Hooks {
    async fn start(answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Hooks {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let server = Https::start(move |path, review| {
            let mut response = answer(path, &review["request"]);
            if response["uid"].is_null() {
                response["uid"] = review["request"]["uid"].clone();
            }
            seen.lock()
                .unwrap()
                .push((path.to_owned(), review["request"].clone()));
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
        });
        Hooks {
            server: server.await,
            asked,
        }
    }

    fn paths(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// A webhook at a path, about pods, with some of it changed.
    fn hook(&self, path: &str, changes: Value) -> Value {
        let mut hook = json!({
            "name": format!("{path}.example.com"),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": self.server.client_config(path),
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE", "UPDATE"]}],
        });
        for (key, value) in changes.as_object().unwrap() {
            hook[key] = value.clone();
        }
        hook
    }
}

/// A patch that sets a label.
fn label(key: &str) -> Value {
    let patch = json!([
        {"op": "add", "path": format!("/metadata/labels/{key}"), "value": "yes"},
    ]);
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
}

async fn configure(world: &World, sort: &str, name: &str, hooks: Vec<Value>) {
    let configuration = json!({"metadata": {"name": name}, "webhooks": hooks});
    world
        .put(
            &format!("admissionregistration.k8s.io/{sort}webhookconfigurations"),
            configuration,
        )
        .await;
}

fn webhooks(world: &World) -> Webhooks {
    Webhooks::new(world.lookup(), Arc::new(Endpoints::new(world.lookup())))
}

fn pod() -> AdmissionRequest {
    AdmissionRequest {
        operation: Operation::Create,
        resource: Resource {
            version: "v1".into(),
            kind: "Pod".into(),
            resource: "pods".into(),
            namespaced: true,
            ..Resource::default()
        },
        namespace: "shop".into(),
        name: "web".into(),
        user: User::authenticated("ann", []),
        object: Some(json!({"kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}}})),
        old_object: None,
        converter: None,
        options: json!({}),
        dry_run: false,
    }
}

async fn validate(world: &World, request: &AdmissionRequest) -> Result<Warnings, ApiError> {
    webhooks(world).validate(request).await
}

#[tokio::test]
async fn a_mutating_webhook_changes_the_object_and_sees_who_asks() {
    let hooks = Hooks::start(|path, _| label(path)).await;
    let world = World::new();
    configure(
        &world,
        "mutating",
        "a",
        vec![
            hooks.hook("first", json!({})),
            hooks.hook("second", json!({})),
        ],
    )
    .await;
    let mut request = pod();
    webhooks(&world).mutate(&mut request).await.unwrap();
    let labels = &request.object.unwrap()["metadata"]["labels"];
    assert_eq!(
        *labels,
        json!({"app": "web", "first": "yes", "second": "yes"})
    );
    let asked = hooks.asked.lock().unwrap();
    let (_, second) = &asked[1];
    assert_eq!(second["userInfo"]["username"], "ann");
    assert_eq!(second["operation"], "CREATE");
    assert_eq!(
        (&second["namespace"], &second["name"]),
        (&json!("shop"), &json!("web"))
    );
    assert_eq!(
        second["object"]["metadata"]["labels"]["first"], "yes",
        "it sees what the first did"
    );
}

#[tokio::test]
async fn a_refusal_reaches_the_client_in_kubernetes_words() {
    let hooks = Hooks::start(|path, _| match path {
        "mute" => json!({"allowed": false}),
        "coded" => json!({"allowed": false, "status": {"code": 418, "message": "no tea"}}),
        _ => json!({"allowed": false, "status": {"message": "not on Sundays"}}),
    })
    .await;
    for (path, code, message) in [
        (
            "mute",
            403,
            "admission webhook \"mute.example.com\" denied the request without explanation",
        ),
        (
            "coded",
            418,
            "admission webhook \"coded.example.com\" denied the request: no tea",
        ),
        (
            "plain",
            403,
            "admission webhook \"plain.example.com\" denied the request: not on Sundays",
        ),
    ] {
        let world = World::new();
        configure(&world, "validating", "a", vec![hooks.hook(path, json!({}))]).await;
        let denied = validate(&world, &pod()).await.unwrap_err();
        assert_eq!((denied.code, denied.message.as_str()), (code, message));
    }
}

#[tokio::test]
async fn only_writes_that_the_rules_and_selectors_choose_are_asked_about() {
    let hooks = Hooks::start(|_, _| json!({"allowed": true})).await;
    let rule = |changes: Value| {
        let mut rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]});
        for (key, value) in changes.as_object().unwrap() {
            rule[key] = value.clone();
        }
        json!({"rules": [rule]})
    };
    let not_exists =
        |key: &str| json!({"matchExpressions": [{"key": key, "operator": "DoesNotExist"}]});
    for (changes, asked) in [
        (rule(json!({})), true),
        (rule(json!({"operations": ["*"]})), true),
        (rule(json!({"operations": ["UPDATE", "DELETE"]})), false),
        (rule(json!({"apiGroups": ["apps"]})), false),
        (
            rule(json!({"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]})),
            true,
        ),
        (rule(json!({"resources": ["*/*"]})), true),
        (rule(json!({"resources": ["pods/*"]})), true),
        (rule(json!({"resources": ["pods/exec"]})), false),
        (rule(json!({"apiVersions": ["v2"]})), false),
        (rule(json!({"scope": "Namespaced"})), true),
        (rule(json!({"scope": "Cluster"})), false),
        (
            json!({"objectSelector": {"matchLabels": {"app": "web"}}}),
            true,
        ),
        (
            json!({"objectSelector": {"matchLabels": {"app": "db"}}}),
            false,
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}),
            true,
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"team": "b"}}}),
            false,
        ),
        (json!({"namespaceSelector": not_exists("team")}), false),
        (json!({"namespaceSelector": not_exists("other")}), true),
        (
            json!({"matchConditions": [{"name": "c", "expression": "request.userInfo.username == 'ann'"}]}),
            true,
        ),
        (
            json!({"matchConditions": [{"name": "c", "expression": "object.metadata.name == 'db'"}]}),
            false,
        ),
        (
            json!({"matchConditions": [{"name": "c", "expression": "oldObject == null"}, {"name": "d", "expression": "false"}]}),
            false,
        ),
    ] {
        let world = World::new();
        world
            .put(
                "namespaces",
                json!({"metadata": {"name": "shop", "labels": {"team": "a"}}}),
            )
            .await;
        configure(
            &world,
            "validating",
            "a",
            vec![hooks.hook("ask", changes.clone())],
        )
        .await;
        hooks.asked.lock().unwrap().clear();
        validate(&world, &pod()).await.unwrap();
        assert_eq!(hooks.paths().len(), usize::from(asked), "{changes}");
    }
}

#[tokio::test]
async fn a_webhook_that_fails_refuses_or_is_ignored_as_its_policy_says() {
    let hooks = Hooks::start(|path, _| match path {
        "uid" => json!({"uid": "another", "allowed": true}),
        "patch" => label("x"),
        _ => json!({"nonsense": true}),
    })
    .await;
    let nobody = json!({"url": "https://127.0.0.1:1/none"});
    let strangers = json!({"url": format!("https://{}/x", hooks.server.address)});
    let plain = json!({"url": format!("http://{}/x", hooks.server.address)});
    for (path, changes, words) in [
        ("uid", json!({}), "expected response.uid"),
        ("patch", json!({}), "may not return a patch"),
        ("nonsense", json!({}), "cannot be read"),
        (
            "slow",
            json!({"timeoutSeconds": 1}),
            "did not answer within 1s",
        ),
        (
            "x",
            json!({"clientConfig": nobody}),
            "Post \"https://127.0.0.1:1/none\"",
        ),
        ("x", json!({"clientConfig": strangers}), "certificate"),
        ("x", json!({"clientConfig": plain}), "is no https URL"),
        (
            "x",
            json!({"matchConditions": [{"name": "c", "expression": "object.missing.field == 1"}]}),
            "match condition \"c\"",
        ),
    ] {
        for policy in ["Fail", "Ignore"] {
            let world = World::new();
            let mut hook = hooks.hook(path, changes.clone());
            hook["failurePolicy"] = policy.into();
            configure(&world, "validating", "a", vec![hook]).await;
            let outcome = validate(&world, &pod()).await;
            if policy == "Ignore" {
                outcome.unwrap();
                continue;
            }
            let denied = outcome.unwrap_err();
            assert_eq!(denied.code, 500, "{path} {changes}");
            let start =
                format!("Internal error occurred: failed calling webhook \"{path}.example.com\": ");
            assert!(
                denied.message.starts_with(&start) && denied.message.contains(words),
                "{}",
                denied.message
            );
        }
    }
}

#[tokio::test]
async fn a_webhook_with_side_effects_is_not_part_of_a_dry_run() {
    let hooks = Hooks::start(|_, _| json!({"allowed": true})).await;
    for (effects, refused) in [
        ("None", false),
        ("NoneOnDryRun", false),
        ("Some", true),
        ("Unknown", true),
    ] {
        let world = World::new();
        configure(
            &world,
            "validating",
            "a",
            vec![hooks.hook("ask", json!({"sideEffects": effects}))],
        )
        .await;
        let mut request = pod();
        validate(&world, &request).await.unwrap();
        request.dry_run = true;
        let denied = validate(&world, &request).await.err();
        assert_eq!(
            denied.map(|denied| denied.code),
            refused.then_some(400),
            "{effects}"
        );
    }
}

#[tokio::test]
async fn an_earlier_webhook_sees_later_changes_again_when_it_wants_to() {
    let hooks = Hooks::start(|path, _| match path {
        "last" => label("late"),
        _ => json!({"allowed": true}),
    })
    .await;
    let world = World::new();
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    let all = vec![
        hooks.hook("keen", again.clone()),
        hooks.hook("calm", json!({})),
        hooks.hook("last", again),
    ];
    configure(&world, "mutating", "a", all).await;
    webhooks(&world).mutate(&mut pod()).await.unwrap();
    assert_eq!(hooks.paths(), ["keen", "calm", "last", "keen"]);
}

#[tokio::test]
async fn warnings_are_handed_on_and_configurations_work_in_the_order_of_their_names() {
    let hooks = Hooks::start(|path, _| json!({"allowed": true, "warnings": [path]})).await;
    let world = World::new();
    for name in ["b", "c", "a"] {
        configure(&world, "mutating", name, vec![hooks.hook(name, json!({}))]).await;
    }
    let warnings = webhooks(&world).mutate(&mut pod()).await.unwrap();
    assert_eq!(warnings, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_patch_may_be_a_list_of_numbers() {
    let bytes = json!([{"op": "add", "path": "/metadata/labels/numbers", "value": "yes"}]);
    let bytes = bytes.to_string().into_bytes();
    let hooks = Hooks::start(
        move |_, _| json!({"allowed": true, "patchType": "JSONPatch", "patch": bytes}),
    )
    .await;
    let world = World::new();
    configure(
        &world,
        "mutating",
        "a",
        vec![hooks.hook("first", json!({}))],
    )
    .await;
    let mut request = pod();
    webhooks(&world).mutate(&mut request).await.unwrap();
    let labels = &request.object.unwrap()["metadata"]["labels"];
    assert_eq!(labels["numbers"], "yes");
}

#[tokio::test]
async fn a_patch_may_not_make_another_object_of_it() {
    let patch = json!([{"op": "replace", "path": "/metadata/name", "value": "other"}]);
    let patch = STANDARD.encode(patch.to_string());
    let hooks = Hooks::start(
        move |_, _| json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}),
    )
    .await;
    let world = World::new();
    configure(
        &world,
        "mutating",
        "a",
        vec![hooks.hook("rename", json!({}))],
    )
    .await;
    assert_eq!(
        webhooks(&world).mutate(&mut pod()).await.unwrap_err().code,
        500
    );
}

#[tokio::test]
async fn a_webhook_behind_a_service_is_found_through_its_endpoints() {
    let hooks = Hooks::start(|_, _| json!({"allowed": false})).await;
    let world = World::new();
    let service = json!({"namespace": "tools", "name": "hooks", "path": "/ask"});
    let config = json!({"clientConfig": {"service": service, "caBundle": hooks.server.bundle}});
    configure(&world, "validating", "a", vec![hooks.hook("x", config)]).await;
    let denied = validate(&world, &pod()).await.unwrap_err();
    assert!(
        denied.message.contains("service \"hooks\" not found"),
        "{}",
        denied.message
    );
    world.put("services", json!({
        "metadata": {"namespace": "tools", "name": "hooks"}, "spec": {"ports": [{"port": 443, "name": "https"}]},
    })).await;
    world.put("endpoints", json!({
        "metadata": {"namespace": "tools", "name": "hooks"},
        "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "https", "port": hooks.server.address.port()}]}],
    })).await;
    let denied = validate(&world, &pod()).await.unwrap_err();
    assert!(
        denied.message.contains("denied the request"),
        "{}",
        denied.message
    );
    assert_eq!(hooks.paths(), ["ask"]);
}

#[tokio::test]
async fn a_configuration_that_is_gone_asks_nobody() {
    let hooks = Hooks::start(|_, _| json!({"allowed": false})).await;
    let world = World::new();
    let step = webhooks(&world);
    configure(&world, "validating", "a", vec![hooks.hook("no", json!({}))]).await;
    step.validate(&pod()).await.unwrap_err();
    world
        .delete(
            "admissionregistration.k8s.io/validatingwebhookconfigurations",
            "",
            "a",
        )
        .await;
    step.validate(&pod()).await.unwrap();
}
