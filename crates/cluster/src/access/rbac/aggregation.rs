//! ClusterRoles that take their rules from other ClusterRoles.

use std::collections::BTreeMap;
use std::sync::Arc;

use sandlot_objects::selector::LabelSelector;
use sandlot_store::{Expect, Key, Range};
use serde_json::Value;

use super::index::Kind;
use crate::api::{Api, Manner, WriteFailure};

/// Keeps the rules of aggregated roles up to date, until the server stops.
pub(crate) async fn run(api: Arc<Api>) {
    let range = Range::all(Kind::ClusterRole.key());
    loop {
        let (listing, mut watch) = api.store.list_and_watch(range.clone());
        let mut roles = BTreeMap::new();
        for record in &listing.records {
            keep(&mut roles, &record.key.name, record.revision, &record.value);
        }
        loop {
            bring_up_to_date(&api, &roles).await;
            let event = tokio::select! {
                () = api.stop.cancelled() => return,
                event = watch.next() => event,
            };
            match event {
                None => return,
                // Fell behind: look at all of them again.
                Some(Err(_)) => break,
                Some(Ok(event)) if event.deleted => {
                    roles.remove(&*event.record.key.name);
                }
                Some(Ok(event)) => {
                    let record = &event.record;
                    keep(&mut roles, &record.key.name, record.revision, &record.value);
                }
            }
        }
    }
}

/// A role as it was at a revision.
type Roles = BTreeMap<String, (u64, Value)>;

fn keep(roles: &mut Roles, name: &str, revision: u64, bytes: &[u8]) {
    if let Ok(role) = serde_json::from_slice(bytes) {
        roles.insert(name.to_owned(), (revision, role));
    }
}

async fn bring_up_to_date(api: &Api, roles: &Roles) {
    for (name, (revision, role)) in roles {
        let Some(rules) = rules_of(role, roles.values().map(|(_, role)| role)) else {
            continue;
        };
        if role.get("rules") == Some(&rules) {
            continue;
        }
        let mut role = role.clone();
        role["rules"] = rules;
        let key = Key::new(Kind::ClusterRole.key(), "", name.as_str());
        match api
            .put(key, Expect::Revision(*revision), role, Manner::Near)
            .await
        {
            // When somebody was faster, the watch says so and it is done again.
            Ok(_) | Err(WriteFailure::Raced) => {}
            Err(WriteFailure::Failed(error)) => {
                tracing::warn!(role = name, %error, "an aggregated ClusterRole could not be updated");
            }
        }
    }
}

/// The rules that an aggregated role takes from the others, each once, in the order of their
/// names; `None` for a role that has rules of its own.
fn rules_of<'a>(role: &Value, all: impl Iterator<Item = &'a Value>) -> Option<Value> {
    let selectors = role
        .get("aggregationRule")?
        .get("clusterRoleSelectors")?
        .as_array()?;
    let selectors: Vec<LabelSelector> = selectors
        .iter()
        .filter_map(|one| LabelSelector::from_object(Some(one)).ok())
        .collect();
    let own = &role["metadata"]["name"];
    let mut rules: Vec<Value> = Vec::new();
    let chosen = all.filter(|other| {
        other["metadata"]["name"] != *own && selectors.iter().any(|one| one.matches(other))
    });
    for rule in chosen
        .filter_map(|other| other["rules"].as_array())
        .flatten()
    {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    Some(Value::Array(rules))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_aggregated_role_has_the_rules_of_all_that_carry_its_labels() {
        let part = |name: &str, label: &str, verb: &str| {
            json!({
                "metadata": {"name": name, "labels": {label: "true"}},
                "rules": [{"verbs": [verb]}, {"verbs": ["list"]}],
            })
        };
        let whole = json!({
            "metadata": {"name": "whole", "labels": {"to-whole": "true"}},
            "aggregationRule": {"clusterRoleSelectors": [
                {"matchLabels": {"to-whole": "true"}}, {"matchLabels": {"to-all": "true"}},
            ]},
            "rules": [{"verbs": ["stale"]}],
        });
        let all = [
            part("a", "to-whole", "get"),
            part("b", "to-other", "delete"),
            part("c", "to-all", "watch"),
            whole.clone(),
        ];
        assert_eq!(
            rules_of(&whole, all.iter()),
            Some(json!([{"verbs": ["get"]}, {"verbs": ["list"]}, {"verbs": ["watch"]}]))
        );
        assert_eq!(rules_of(&all[0], all.iter()), None);
    }
}
