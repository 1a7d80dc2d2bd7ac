//! ValidatingAdmissionPolicies hold writes to rules in CEL.

use std::sync::Arc;

use sandlot_cluster::ApiError;
use sandlot_cluster::access::User;
use sandlot_cluster::admission::{Admission, AdmissionRequest, Operation, Policies, Resource};
use serde_json::{Value, json};

use crate::world::World;

const GROUP: &str = "admissionregistration.k8s.io";

fn pool(replicas: i64) -> AdmissionRequest {
    AdmissionRequest {
        operation: Operation::Create,
        resource: Resource {
            group: "x.io".into(),
            version: "v1".into(),
            kind: "Pool".into(),
            resource: "pools".into(),
            namespaced: true,
            versions: vec!["v2".into()],
            ..Resource::default()
        },
        namespace: "shop".into(),
        name: "p".into(),
        user: User::authenticated("ann", []),
        object: Some(json!({"metadata": {"name": "p"}, "spec": {"replicas": replicas}})),
        old_object: None,
        converter: None,
        options: json!({}),
        dry_run: false,
    }
}

/// A world with one policy about pools, bound with these actions.
async fn world(spec: Value, binding: Value) -> World {
    let world = World::new();
    world
        .put(
            "namespaces",
            json!({"metadata": {"name": "shop", "labels": {"max": "3"}}}),
        )
        .await;
    let mut policy = json!({"matchConstraints": {"resourceRules": [
        {"apiGroups": ["x.io"], "apiVersions": ["v1"], "resources": ["pools"], "operations": ["*"]},
    ]}});
    let mut bound = json!({"policyName": "few", "validationActions": ["Deny"]});
    for (whole, changes) in [(&mut policy, spec), (&mut bound, binding)] {
        for (key, value) in changes.as_object().unwrap() {
            whole[key] = value.clone();
        }
    }
    world
        .put(
            &format!("{GROUP}/validatingadmissionpolicies"),
            json!({"metadata": {"name": "few"}, "spec": policy}),
        )
        .await;
    world
        .put(
            &format!("{GROUP}/validatingadmissionpolicybindings"),
            json!({"metadata": {"name": "here"}, "spec": bound}),
        )
        .await;
    world
}

fn policies(world: &World) -> Policies {
    Policies::new(world.lookup())
}

#[tokio::test]
async fn a_write_that_breaks_a_policy_is_refused_in_kubernetes_words() {
    let start = "pools.x.io \"p\" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'here' denied request: ";
    for (validation, code, words) in [
        (
            json!({"expression": "object.spec.replicas <= 3"}),
            422,
            "failed expression: object.spec.replicas <= 3",
        ),
        (
            json!({"expression": "object.spec.replicas <= 3", "message": "too many"}),
            422,
            "too many",
        ),
        (
            json!({"expression": "false", "messageExpression": "'at most ' + string(3)", "reason": "Forbidden"}),
            403,
            "at most 3",
        ),
        (
            json!({"expression": "object.spec.replicas <= int(namespaceObject.metadata.labels.max)", "message": "m"}),
            422,
            "m",
        ),
        (
            json!({"expression": "request.userInfo.username != 'ann'", "message": "not ann"}),
            422,
            "not ann",
        ),
        (
            json!({"expression": "object.nothing.there"}),
            422,
            "expression 'object.nothing.there' resulted in error: no such key: nothing",
        ),
    ] {
        let world = world(json!({"validations": [validation.clone()]}), json!({})).await;
        let denied = policies(&world).validate(&pool(5)).await.unwrap_err();
        assert_eq!(
            (denied.code, denied.message),
            (code, format!("{start}{words}")),
            "{validation}"
        );
    }
}

#[tokio::test]
async fn a_write_that_a_policy_is_not_about_goes_through() {
    let no = json!([{"expression": "false"}]);
    let nobody = json!({"matchLabels": {"nobody": "has this"}});
    let rule = |version: &str| json!([{"apiGroups": ["x.io"], "apiVersions": [version], "resources": ["pools"], "operations": ["*"]}]);
    for (spec, binding, refused) in [
        (json!({}), json!({}), true),
        (json!({"validations": []}), json!({}), false),
        (json!({}), json!({"policyName": "other"}), false),
        (json!({}), json!({"validationActions": ["Audit"]}), false),
        (
            json!({}),
            json!({"matchResources": {"namespaceSelector": nobody}}),
            false,
        ),
        (
            json!({"matchConditions": [{"name": "c", "expression": "object.spec.replicas > 100"}]}),
            json!({}),
            false,
        ),
        (
            json!({"matchConditions": [{"name": "c", "expression": "object.spec.replicas > 1"}]}),
            json!({}),
            true,
        ),
        (
            json!({"matchConstraints": {"resourceRules": rule("v2")}}),
            json!({}),
            true,
        ),
        (
            json!({"matchConstraints": {"resourceRules": rule("v2"), "matchPolicy": "Exact"}}),
            json!({}),
            false,
        ),
        (
            json!({"matchConstraints": {"resourceRules": rule("v1"), "excludeResourceRules": rule("*")}}),
            json!({}),
            false,
        ),
    ] {
        let mut whole = json!({"validations": no});
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let world = world(whole, binding.clone()).await;
        let outcome = policies(&world).validate(&pool(5)).await;
        assert_eq!(outcome.is_err(), refused, "{spec} {binding}");
    }
}

#[tokio::test]
async fn variables_are_worked_out_once_and_may_use_one_another() {
    let spec = json!({
        "variables": [
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "tooMany", "expression": "variables.replicas > 3"},
        ],
        "validations": [{"expression": "!variables.tooMany", "messageExpression": "string(variables.replicas)"}],
    });
    let world = world(spec, json!({})).await;
    let step = policies(&world);
    step.validate(&pool(3)).await.unwrap();
    let denied = step.validate(&pool(4)).await.unwrap_err();
    assert!(
        denied.message.ends_with("denied request: 4"),
        "{}",
        denied.message
    );
}

#[tokio::test]
async fn a_binding_may_only_warn() {
    let spec = json!({"validations": [{"expression": "false", "message": "careful"}]});
    let world = world(spec, json!({"validationActions": ["Warn", "Audit"]})).await;
    let warnings = policies(&world).validate(&pool(1)).await.unwrap();
    assert_eq!(
        warnings,
        ["Validation failed for ValidatingAdmissionPolicy 'few' with binding 'here': careful"]
    );
}

#[tokio::test]
async fn a_policy_that_cannot_be_evaluated_refuses_unless_it_says_otherwise() {
    for spec in [
        json!({"validations": [{"expression": "object.nothing"}]}),
        json!({"validations": [{"expression": "1 +"}]}),
        json!({"validations": [{"expression": "1"}]}),
        json!({"validations": [{"expression": "[1,2,3,4,5,6,7,8].all(a, [1,2,3,4,5,6,7,8].all(b, [1,2,3,4,5,6,7,8].all(c, [1,2,3,4,5,6,7,8].all(d, [1,2,3,4,5,6,7,8].all(e, [1,2,3,4,5,6,7,8].all(f, [1,2,3,4,5,6,7,8].all(g, [1,2,3,4,5,6,7,8].all(h, a > 0 && h > 0))))))))"}]}),
    ] {
        for (policy, refused) in [("Fail", true), ("Ignore", false)] {
            let mut spec = spec.clone();
            spec["failurePolicy"] = policy.into();
            let world = world(spec.clone(), json!({})).await;
            let outcome = policies(&world).validate(&pool(1)).await;
            assert_eq!(outcome.is_err(), refused, "{spec}");
        }
    }
}

#[tokio::test]
async fn policies_do_not_judge_policies() {
    let world = world(json!({"validations": [{"expression": "false"}]}), json!({})).await;
    let mut request = pool(1);
    request.resource.group = GROUP.into();
    assert!(!policies(&world).concerns(&request));
    let _ = Arc::new(world);
}

/// A definition of the kind that policies are parametrized by here.
fn limits() -> Value {
    json!({
        "metadata": {"name": "limits.x.io"},
        "spec": {"group": "x.io", "scope": "Namespaced", "names": {"plural": "limits", "kind": "Limit"}},
    })
}

fn limit(name: &str, most: i64) -> Value {
    json!({"metadata": {"namespace": "shop", "name": name, "labels": {"kind": "of"}}, "most": most})
}

#[tokio::test]
async fn a_policy_is_held_against_the_objects_that_its_binding_names() {
    let by_name = json!({"name": "small", "parameterNotFoundAction": "Deny"});
    let by_label =
        json!({"selector": {"matchLabels": {"kind": "of"}}, "parameterNotFoundAction": "Deny"});
    for reference in [by_name, by_label] {
        let rule = json!({
            "paramKind": {"apiVersion": "x.io/v1", "kind": "Limit"},
            "validations": [{"expression": "object.spec.replicas <= params.most"}],
        });
        let world = world(rule, json!({"paramRef": reference})).await;
        let policies = policies(&world);
        let why = |result: Result<_, ApiError>| result.unwrap_err().message;
        let unknown = why(policies.validate(&pool(2)).await);
        assert!(
            unknown
                .contains("failed to find resource referenced by paramKind: 'x.io/v1, Kind=Limit'"),
            "{unknown}"
        );

        let kind = "apiextensions.k8s.io/customresourcedefinitions";
        world.put(kind, limits()).await;
        let missing = why(policies.validate(&pool(2)).await);
        assert!(
            missing.contains("no params found for policy binding with `Deny`"),
            "{missing}"
        );

        world.put("x.io/limits", limit("small", 3)).await;
        policies.validate(&pool(3)).await.unwrap();
        let refused = why(policies.validate(&pool(4)).await);
        assert!(
            refused.contains("failed expression: object.spec.replicas <= params.most"),
            "{refused}"
        );

        world.put("x.io/limits", limit("small", 9)).await;
        policies.validate(&pool(4)).await.unwrap();
    }
}

#[tokio::test]
async fn a_binding_may_do_without_the_objects_that_it_names() {
    let rule = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.spec.replicas <= int(params.data.most)"}],
    });
    let reference =
        json!({"name": "limit", "namespace": "shop", "parameterNotFoundAction": "Allow"});
    let world = world(rule, json!({"paramRef": reference})).await;
    let policies = policies(&world);
    policies.validate(&pool(100)).await.unwrap();
    let map = json!({"metadata": {"namespace": "shop", "name": "limit"}, "data": {"most": "3"}});
    world.put("configmaps", map).await;
    assert!(policies.validate(&pool(100)).await.is_err());
}
