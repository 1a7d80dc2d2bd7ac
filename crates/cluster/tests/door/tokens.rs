//! Service-account tokens: what they are good for, and when no longer.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use sandlot_cluster::access::{ISSUER, SigningKey, TokenSecrets, Tokens, User};
use sandlot_cluster::admission::{Admission, AdmissionRequest, Operation, Resource};
use serde_json::{Value, json};

use crate::world::World;

struct Bench {
    world: World,
    tokens: Arc<Tokens>,
    now: Timestamp,
}

impl Bench {
    /// An account `shop/till` of uid `u1`, and a pod `web` that runs as it on node `n`.
    async fn new() -> Bench {
        let world = World::new();
        world.account("shop", "till", "u1").await;
        world
            .put(
                "pods",
                json!({
                    "metadata": {"namespace": "shop", "name": "web", "uid": "p1"},
                    "spec": {"serviceAccountName": "till", "nodeName": "n"},
                }),
            )
            .await;
        world
            .put("nodes", json!({"metadata": {"name": "n", "uid": "n1"}}))
            .await;
        world
            .put(
                "secrets",
                json!({"metadata": {"namespace": "shop", "name": "s", "uid": "s1"}}),
            )
            .await;
        let tokens = Arc::new(Tokens::new(
            SigningKey::ephemeral().unwrap(),
            world.lookup(),
        ));
        Bench {
            world,
            tokens,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    fn issue(&self, spec: Value) -> String {
        let answer = self
            .tokens
            .issue("shop", "till", &json!({"spec": spec}), self.now)
            .unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    fn refused(&self, spec: Value) -> (u16, String) {
        let error = self
            .tokens
            .issue("shop", "till", &json!({"spec": spec}), self.now)
            .unwrap_err();
        (error.code, error.message)
    }

    fn who(&self, token: &str) -> Option<User> {
        self.who_later(token, 1)
    }

    fn who_later(&self, token: &str, seconds: i64) -> Option<User> {
        let later = self.now + SignedDuration::from_secs(seconds);
        self.tokens
            .check(token, &self.tokens.own_audience(), later)
            .map(|good| good.user)
    }
}

fn bound(kind: &str, name: &str) -> Value {
    json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name}})
}

#[tokio::test]
async fn a_token_says_who_its_owner_is() {
    let bench = Bench::new().await;
    let user = bench.who(&bench.issue(json!({}))).unwrap();
    assert_eq!(
        (user.name.as_str(), user.uid.as_str()),
        ("system:serviceaccount:shop:till", "u1")
    );
    for group in [
        "system:serviceaccounts",
        "system:serviceaccounts:shop",
        "system:authenticated",
    ] {
        assert!(user.is_in(group), "{group}");
    }
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("JTI="));
}

#[tokio::test]
async fn the_answer_names_the_time_the_token_ends() {
    let bench = Bench::new().await;
    let request = json!({"spec": {"expirationSeconds": 600, "audiences": ["vault"]}});
    let answer = bench
        .tokens
        .issue("shop", "till", &request, bench.now)
        .unwrap();
    assert_eq!(
        answer["status"]["expirationTimestamp"],
        "2026-01-01T00:10:00Z"
    );
    assert_eq!(answer["spec"]["audiences"], json!(["vault"]));
    let answer = bench
        .tokens
        .issue("shop", "till", &json!({}), bench.now)
        .unwrap();
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    assert_eq!(answer["spec"]["audiences"], json!([ISSUER]));
}

#[tokio::test]
async fn a_token_ends_with_its_time() {
    let bench = Bench::new().await;
    let token = bench.issue(json!({"expirationSeconds": 600}));
    assert!(bench.who_later(&token, 599).is_some());
    assert!(bench.who_later(&token, 620).is_none());
    assert!(
        bench.who_later(&token, -60).is_none(),
        "it is not good before it was made"
    );
}

#[tokio::test]
async fn a_token_for_others_is_no_token_for_the_api() {
    let bench = Bench::new().await;
    let token = bench.issue(json!({"audiences": ["vault", "mail"]}));
    assert!(bench.who(&token).is_none());
    let good = bench
        .tokens
        .check(&token, &["mail".into(), "bank".into()], bench.now)
        .unwrap();
    assert_eq!(good.audiences, ["mail"]);
}

#[tokio::test]
async fn a_token_ends_with_its_account() {
    let bench = Bench::new().await;
    let token = bench.issue(json!({}));
    bench.world.delete("serviceaccounts", "shop", "till").await;
    assert!(bench.who(&token).is_none());
    bench.world.account("shop", "till", "u2").await;
    assert!(bench.who(&token).is_none(), "another account took the name");
}

#[tokio::test]
async fn a_bound_token_ends_with_what_it_is_bound_to() {
    for (kind, resource, namespace, name) in [
        ("Pod", "pods", "shop", "web"),
        ("Secret", "secrets", "shop", "s"),
        ("Node", "nodes", "", "n"),
    ] {
        let bench = Bench::new().await;
        let token = bench.issue(bound(kind, name));
        assert!(bench.who(&token).is_some(), "{kind}");
        bench.world.delete(resource, namespace, name).await;
        assert!(bench.who(&token).is_none(), "{kind}");
    }
}

#[tokio::test]
async fn a_pods_token_tells_its_pod_and_node() {
    let bench = Bench::new().await;
    let user = bench.who(&bench.issue(bound("Pod", "web"))).unwrap();
    let extra = |key: &str| user.extra[&format!("authentication.kubernetes.io/{key}")][0].clone();
    assert_eq!(
        (extra("pod-name"), extra("pod-uid")),
        ("web".into(), "p1".into())
    );
    assert_eq!(
        (extra("node-name"), extra("node-uid")),
        ("n".into(), "n1".into())
    );
}

#[tokio::test]
async fn a_pod_that_terminates_keeps_its_token_for_a_minute() {
    let bench = Bench::new().await;
    let token = bench.issue(bound("Pod", "web"));
    bench.world.put("pods", json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "p1", "deletionTimestamp": bench.now.to_string()},
        "spec": {"serviceAccountName": "till"},
    })).await;
    assert!(bench.who_later(&token, 59).is_some());
    assert!(bench.who_later(&token, 61).is_none());
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let bench = Bench::new().await;
    bench.world.put("pods", json!({
        "metadata": {"namespace": "shop", "name": "other", "uid": "p2"}, "spec": {"serviceAccountName": "else"},
    })).await;
    let mut wrong_uid = bound("Pod", "web");
    wrong_uid["boundObjectRef"]["uid"] = "p0".into();
    let cases = [
        (
            json!({"expirationSeconds": 599}),
            422,
            "may not specify a duration less than 10 minutes",
        ),
        (
            json!({"expirationSeconds": 1i64 << 33}),
            422,
            "may not specify a duration larger than 2^32 seconds",
        ),
        (
            json!({"expirationSeconds": "soon"}),
            400,
            "cannot read the TokenRequest",
        ),
        (bound("Pod", "gone"), 404, "pods \"gone\" not found"),
        (bound("Pod", "other"), 400, "different serviceaccount name"),
        (
            bound("ConfigMap", "c"),
            400,
            "cannot bind token to object of type v1, Kind=ConfigMap",
        ),
        (wrong_uid, 409, "does not match the UID in record"),
    ];
    for (spec, code, words) in cases {
        let (got, message) = bench.refused(spec.clone());
        assert!(
            got == code && message.contains(words),
            "{spec}: {got} {message}"
        );
    }
    let missing = bench
        .tokens
        .issue("shop", "nobody", &json!({}), bench.now)
        .unwrap_err();
    assert_eq!(missing.message, "serviceaccounts \"nobody\" not found");
}

#[tokio::test]
async fn a_token_that_was_tampered_with_is_worth_nothing() {
    let bench = Bench::new().await;
    let token = bench.issue(json!({}));
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else {
        panic!("{token}")
    };
    let mut said: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    said["sub"] = "system:serviceaccount:kube-system:admin".into();
    let said = URL_SAFE_NO_PAD.encode(said.to_string());
    let unsigned = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let other = Tokens::new(SigningKey::ephemeral().unwrap(), bench.world.lookup());
    let foreign = other.issue("shop", "till", &json!({}), bench.now).unwrap();
    for forged in [
        format!("{header}.{said}.{signature}"),
        format!("{unsigned}.{said}."),
        format!("{unsigned}.{claims}.{signature}"),
        format!("{header}.{claims}.{}", &signature[1..]),
        format!("{header}.{claims}"),
        foreign["status"]["token"].as_str().unwrap().to_owned(),
        String::new(),
        "...".to_owned(),
        "x".repeat(1 << 20),
    ] {
        assert!(bench.who(&forged).is_none(), "{forged:.80}");
    }
    assert!(bench.who(&token).is_some());
}

#[tokio::test]
async fn a_review_tells_whose_a_token_is_and_nothing_of_a_bad_one() {
    let bench = Bench::new().await;
    let token = bench.issue(json!({}));
    let review = |spec: Value| bench.tokens.review(json!({"spec": spec}), bench.now);
    let good = review(json!({"token": token})).unwrap();
    assert_eq!(good["status"]["authenticated"], true);
    assert_eq!(
        good["status"]["user"]["username"],
        "system:serviceaccount:shop:till"
    );
    assert_eq!(good["status"]["audiences"], json!([ISSUER]));
    let bad = review(json!({"token": token, "audiences": ["vault"]})).unwrap();
    assert_eq!(
        bad["status"],
        json!({"error": "invalid bearer token", "user": {}})
    );
    assert_eq!(review(json!({})).unwrap_err().code, 400);
}

#[tokio::test]
async fn the_signing_key_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("service-account.key");
    let world = World::new();
    world.account("shop", "till", "u1").await;
    let now = Timestamp::now();
    let open = || Tokens::new(SigningKey::open(&path).unwrap(), world.lookup());
    let answer = open().issue("shop", "till", &json!({}), now).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    let again = open();
    assert!(again.check(token, &again.own_audience(), now).is_some());
    assert_eq!(open().jwks(), again.jwks());
}

fn secret_write(secret: Value) -> AdmissionRequest {
    AdmissionRequest {
        operation: Operation::Create,
        resource: Resource {
            version: "v1".into(),
            resource: "secrets".into(),
            ..Resource::default()
        },
        namespace: "shop".into(),
        name: "till-token".into(),
        user: User::master("admin"),
        object: Some(secret),
        old_object: None,
        converter: None,
        options: Value::Null,
        dry_run: false,
    }
}

#[tokio::test]
async fn a_secret_for_a_token_is_filled_in_and_ends_with_the_secret() {
    let bench = Bench::new().await;
    let step = TokenSecrets::new(bench.tokens.clone(), "the authority".into());
    let mut request = secret_write(json!({
        "metadata": {"namespace": "shop", "name": "till-token", "uid": "s2",
                     "annotations": {"kubernetes.io/service-account.name": "till"}},
        "type": "kubernetes.io/service-account-token",
    }));
    assert!(step.concerns(&request));
    step.mutate(&mut request).await.unwrap();
    let secret = request.object.unwrap();
    let data = |key: &str| {
        let encoded = secret["data"][key].as_str().unwrap();
        String::from_utf8(
            base64::engine::general_purpose::STANDARD
                .decode(encoded)
                .unwrap(),
        )
        .unwrap()
    };
    assert_eq!(
        (data("namespace").as_str(), data("ca.crt").as_str()),
        ("shop", "the authority")
    );
    assert_eq!(
        secret["metadata"]["annotations"]["kubernetes.io/service-account.uid"],
        "u1"
    );
    let token = data("token");
    assert!(bench.who(&token).is_none(), "the secret is not stored yet");
    bench.world.put("secrets", secret).await;
    assert_eq!(
        bench.who(&token).unwrap().name,
        "system:serviceaccount:shop:till"
    );
    bench.world.delete("secrets", "shop", "till-token").await;
    assert!(bench.who(&token).is_none());
}
