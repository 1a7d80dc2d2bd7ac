//! Questions about access, and their answers.

use serde_json::{Value, json};

use crate::rbac::{office, user};

#[tokio::test]
async fn reviews_answer_what_a_request_would_meet() {
    let authorizer = office().await;
    let ask = |spec: Value| authorizer.review(json!({"spec": spec}));
    let pods = json!({"verb": "get", "resource": "pods", "namespace": "shop"});
    let answer = ask(json!({"user": "ann", "resourceAttributes": pods})).unwrap();
    assert_eq!(answer["status"]["allowed"], true);
    assert!(
        answer["status"]["reason"]
            .as_str()
            .unwrap()
            .starts_with("RBAC: allowed by")
    );
    let answer =
        ask(json!({"user": "zoe", "groups": ["readers"], "resourceAttributes": pods})).unwrap();
    assert_eq!(answer["status"]["allowed"], true);
    let answer = ask(json!({"user": "zoe", "resourceAttributes": pods})).unwrap();
    assert_eq!(answer["status"], json!({"allowed": false}));
    let answer =
        ask(json!({"user": "ann", "nonResourceAttributes": {"verb": "get", "path": "/metrics/x"}}));
    assert_eq!(answer.unwrap()["status"]["allowed"], true);
    for wrong in [
        json!({"user": "ann"}),
        json!({"resourceAttributes": pods}),
        json!({"user": 7}),
        json!(3),
    ] {
        assert_eq!(ask(wrong).unwrap_err().code, 400);
    }
    let review = json!({"spec": {"user": "bob", "resourceAttributes": {"namespace": "shop", "verb": "get"}}});
    assert_eq!(
        authorizer
            .review_in("bank", review.clone())
            .unwrap_err()
            .code,
        400
    );
    assert_eq!(
        authorizer.review_in("shop", review).unwrap()["status"]["allowed"],
        false
    );
    let own = json!({"spec": {"resourceAttributes": pods}});
    assert_eq!(
        authorizer.review_self(&user("ann"), own).unwrap()["status"]["allowed"],
        true
    );
}

#[tokio::test]
async fn a_user_can_list_what_they_may_do() {
    let authorizer = office().await;
    let rules = |who: &str, namespace: &str| {
        let review = json!({"spec": {"namespace": namespace}});
        authorizer.review_rules(&user(who), review).unwrap()["status"].clone()
    };
    let bob = rules("bob", "shop");
    assert_eq!(bob["resourceRules"].as_array().unwrap().len(), 3);
    assert_eq!(bob["resourceRules"][0]["resourceNames"], json!(["prices"]));
    assert_eq!(
        rules("ann", "shop")["nonResourceRules"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let masters = rules("zoe=system:masters", "shop");
    assert_eq!(
        masters["resourceRules"][0],
        json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})
    );
    assert_eq!(
        masters["nonResourceRules"][0],
        json!({"nonResourceURLs": ["*"], "verbs": ["*"]})
    );
}
