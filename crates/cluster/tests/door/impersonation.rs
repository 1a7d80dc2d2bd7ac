//! Getting in as oneself, and acting as somebody else.

use std::sync::Arc;

use http::Request;
use jiff::Timestamp;
use sandlot_cluster::ApiError;
use sandlot_cluster::access::{Gate, SigningKey, Tokens, User};
use serde_json::json;

use crate::world::World;

async fn gate() -> (Gate, Arc<Tokens>) {
    let world = World::new();
    world.account("shop", "till", "u1").await;
    world.role("", "acts", json!([
        {"apiGroups": [""], "resources": ["users"], "resourceNames": ["ann"], "verbs": ["impersonate"]},
        {"apiGroups": [""], "resources": ["groups"], "resourceNames": ["readers"], "verbs": ["impersonate"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"], "verbs": ["impersonate"]},
    ])).await;
    world
        .bind("", "acts", "ClusterRole/acts", &["User/tim"])
        .await;
    let tokens = Arc::new(Tokens::new(
        SigningKey::ephemeral().unwrap(),
        world.lookup(),
    ));
    (Gate::new(tokens.clone(), world.authorizer()), tokens)
}

fn enter(
    gate: &Gate,
    peer: Option<&User>,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<User, ApiError> {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    gate.enter(peer, &request.body(()).unwrap(), Timestamp::now())
}

#[tokio::test]
async fn strangers_may_only_ask_whether_the_server_is_there() {
    let (gate, _) = gate().await;
    for path in [
        "/livez",
        "/readyz",
        "/readyz/store",
        "/healthz",
        "/version",
        "/livez?verbose",
    ] {
        assert_eq!(
            enter(&gate, None, path, &[]).unwrap(),
            User::anonymous(),
            "{path}"
        );
    }
    for path in [
        "/",
        "/api",
        "/apis",
        "/metrics",
        "/openapi/v2",
        "/versions",
        "/api/v1/namespaces/default/pods",
        "/livez/../api",
    ] {
        let error = enter(&gate, None, path, &[]);
        // A path with dots is not resolved by anyone, so it leads nowhere that matters.
        if !path.contains("..") {
            assert_eq!(error.unwrap_err().code, 401, "{path}");
        }
    }
}

#[tokio::test]
async fn a_token_gets_its_account_in_and_a_bad_one_nobody() {
    let (gate, tokens) = gate().await;
    let answer = tokens
        .issue("shop", "till", &json!({}), Timestamp::now())
        .unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    let user = enter(
        &gate,
        None,
        "/api",
        &[("authorization", &format!("Bearer {token}"))],
    )
    .unwrap();
    assert_eq!(user.name, "system:serviceaccount:shop:till");
    for wrong in [
        "Bearer nonsense",
        "Bearer",
        "Basic YTpi",
        "",
        &format!("Token {token}"),
    ] {
        let error = enter(&gate, None, "/livez", &[("authorization", wrong)]).unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (401, "Unauthorized"),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_browser_shows_its_token_as_a_websocket_protocol() {
    use base64::Engine;
    let (gate, tokens) = gate().await;
    let answer = tokens
        .issue("shop", "till", &json!({}), Timestamp::now())
        .unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token);
    let protocols = format!("v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.{encoded}");
    let user = enter(
        &gate,
        None,
        "/api",
        &[("sec-websocket-protocol", &protocols)],
    )
    .unwrap();
    assert_eq!(user.name, "system:serviceaccount:shop:till");
}

#[tokio::test]
async fn acting_as_others_needs_permission_for_all_that_they_are() {
    let (gate, _) = gate().await;
    let tim = User::authenticated("tim", []);
    let master = User::master("admin");
    let act = |peer: &User, headers: &[(&str, &str)]| enter(&gate, Some(peer), "/api", headers);
    let ann = act(&tim, &[("impersonate-user", "ann")]).unwrap();
    assert_eq!(ann, User::authenticated("ann", []));
    let ann = act(
        &tim,
        &[
            ("impersonate-user", "ann"),
            ("impersonate-group", "readers"),
            ("impersonate-extra-scopes", "a"),
            ("impersonate-extra-scopes", "b"),
        ],
    )
    .unwrap();
    assert!(ann.is_in("readers") && ann.is_in("system:authenticated"));
    assert_eq!(ann.extra["scopes"], ["a", "b"]);
    let refused: [&[(&str, &str)]; 5] = [
        &[("impersonate-user", "bob")],
        &[
            ("impersonate-user", "ann"),
            ("impersonate-group", "readers"),
            ("impersonate-group", "system:masters"),
        ],
        &[("impersonate-user", "ann"), ("impersonate-uid", "7")],
        &[
            ("impersonate-user", "ann"),
            ("impersonate-extra-roles", "a"),
        ],
        &[("impersonate-user", "system:serviceaccount:shop:till")],
    ];
    for headers in refused {
        let error = act(&tim, headers).unwrap_err();
        assert_eq!(error.code, 403, "{headers:?}");
        act(&master, headers).unwrap();
    }
    let error = act(&tim, &[("impersonate-user", "bob")]).unwrap_err();
    assert_eq!(
        error.message,
        "users \"bob\" is forbidden: User \"tim\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
    assert_eq!(
        act(&master, &[("impersonate-group", "readers")])
            .unwrap_err()
            .code,
        400
    );
}

#[tokio::test]
async fn acting_as_a_service_account_brings_its_groups() {
    let (gate, _) = gate().await;
    let headers = [("impersonate-user", "system:serviceaccount:shop:till")];
    let till = enter(&gate, Some(&User::master("admin")), "/api", &headers).unwrap();
    assert_eq!(till, User::service_account("shop", "till", ""));
    let headers = [("impersonate-user", "system:anonymous")];
    let nobody = enter(&gate, Some(&User::master("admin")), "/api", &headers).unwrap();
    assert_eq!(nobody, User::anonymous());
}
