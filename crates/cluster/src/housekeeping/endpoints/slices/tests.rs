//! Slices as a service's pods come, change and go.

use proptest::prelude::*;
use sandlot_store::{Facts as _, Key};
use serde_json::json;

use super::super::service::Service;
use super::*;

fn service() -> Record {
    let key = Key::new("services", "default", "web");
    let value = json!({"metadata": {"uid": "1", "name": "web"}}).to_string();
    let facts = Facts::of(&key, value.as_bytes());
    Record {
        key,
        revision: 1,
        value: value.into(),
        facts,
    }
}

fn served(pods: impl IntoIterator<Item = (usize, bool)>) -> Served {
    let service = json!({
        "metadata": {"name": "web", "labels": {"a": "b"}},
        "spec": {"selector": {"app": "web"}, "ports": [
            {"port": 80, "targetPort": "http", "protocol": "TCP", "name": "plain"},
            {"port": 443, "protocol": "TCP", "name": "secure"},
        ]},
    });
    let backends = pods.into_iter().map(|(number, ready)| {
        let pod = json!({
            "metadata": {"name": format!("pod-{number}"), "namespace": "default", "uid": format!("uid-{number}")},
            "spec": {"nodeName": "here", "containers": [{"ports": [
                // Pods of two makes: half of them listen elsewhere.
                {"name": "http", "containerPort": 8080 + number % 2},
            ]}]},
            "status": {
                "podIP": format!("10.0.{}.{}", number / 250, number % 250 + 1),
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            },
        });
        (Arc::from(format!("pod-{number}")), Arc::new(Backend::of(&pod)))
    });
    Served {
        service: Service::of(&service).unwrap(),
        backends: backends.collect(),
    }
}

/// Brings slices in order, as the API would.
fn settle(slices: &mut Vec<Value>, served: &Served) {
    let mut gone = Vec::new();
    for change in changes(&service(), served, slices) {
        match change {
            Change::Create(object) => slices.push(object),
            Change::Replace(index, object) => slices[index] = object,
            Change::Delete(index) => gone.push(index),
        }
    }
    gone.sort_unstable();
    gone.into_iter().rev().for_each(|index| {
        slices.remove(index);
    });
}

/// Every pod in the slices with its readiness and first port, in order.
fn told(slices: &[Value]) -> Vec<(String, bool, u64)> {
    let mut told: Vec<_> = slices
        .iter()
        .flat_map(|slice| {
            let port = slice["ports"][0]["port"].as_u64().unwrap_or(0);
            let endpoints = slice["endpoints"].as_array().unwrap().iter();
            endpoints.map(move |one| {
                let name = one["targetRef"]["name"].as_str().unwrap().to_owned();
                (name, one["conditions"]["ready"] == true, port)
            })
        })
        .collect();
    told.sort();
    told
}

#[test]
fn a_service_without_pods_has_one_empty_slice() {
    let mut slices = Vec::new();
    settle(&mut slices, &served([]));
    assert_eq!((slices.len(), told(&slices).len()), (1, 0));
    assert_eq!(changes(&service(), &served([]), &slices), []);
    assert_eq!(slices[0]["metadata"]["ownerReferences"][0]["uid"], "1");
    assert_eq!(
        slices[0]["metadata"]["labels"]["kubernetes.io/service-name"],
        "web"
    );
}

#[test]
fn a_change_of_one_pod_of_many_rewrites_one_slice() {
    let mut slices = Vec::new();
    let pods = |unready: usize| served((0..1000).map(|number| (number, number != unready)));
    settle(&mut slices, &pods(1000));
    assert_eq!(slices.len(), 10);
    let changed = changes(&service(), &pods(517), &slices);
    assert!(
        matches!(changed[..], [Change::Replace(..)]),
        "{}",
        changed.len()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn slices_tell_what_there_is_whatever_was_before(
        steps in prop::collection::vec(prop::collection::btree_map(0..400_usize, any::<bool>(), 0..400), 1..5),
    ) {
        let mut slices = Vec::new();
        for pods in steps {
            let expected = {
                let mut all: Vec<_> = pods.iter().map(|(number, ready)| {
                    (format!("pod-{number}"), *ready, 8080 + *number as u64 % 2)
                }).collect();
                all.sort();
                all
            };
            let served = served(pods);
            settle(&mut slices, &served);
            prop_assert_eq!(told(&slices), expected);
            prop_assert!(slices.iter().all(|slice| slice["endpoints"].as_array().unwrap().len() <= MOST));
            prop_assert_eq!(changes(&service(), &served, &slices), []);
        }
    }
}
