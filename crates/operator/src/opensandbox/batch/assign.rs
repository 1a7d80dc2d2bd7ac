//! Which pool serves a batch that leaves the choice open (`poolRef: "*"`).

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use sandlot_api::PodTemplate;
use sandlot_decide::{
    batch::{Candidate, Requirement, Wish, choose},
    expiry::later,
};
use sandlot_objects::builtin::quantity;
use serde_json::{Value, json};

use super::super::{
    world::{Wake, World},
    writes::Write,
};
use crate::index::Key;

/// Chooses a pool for a batch that leaves the choice, and writes it down.
pub(super) fn look(world: &mut World, key: &Key) {
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    let mut wish = entry.spec.template.as_ref().map(wish);
    if let Some(wish) = &mut wish {
        wish.labels = entry.labels.clone();
    }
    let candidates: Vec<Candidate> = world
        .index
        .pools
        .iter()
        .filter(|(pool, found)| pool.namespace == key.namespace && !found.leaving)
        .map(|(pool, found)| {
            let own = found
                .spec
                .template
                .as_ref()
                .map(self::wish)
                .unwrap_or_default();
            let mut labels = found.labels.clone();
            labels.extend(own.node_selector);
            let count = |number: i32| u32::try_from(number).unwrap_or(0);
            let status = found.status.clone().unwrap_or_default();
            Candidate {
                name: pool.name.to_string(),
                images: own.images,
                requests: own.requests,
                labels,
                own_labels: found.labels.clone(),
                allocated: count(status.allocated),
                total: count(status.total),
            }
        })
        .collect();
    let chosen = match &world.index.profile {
        Ok(profile) => choose(profile, wish.as_ref(), &candidates).map(str::to_owned),
        Err(why) => Err(why.clone()),
    };
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    match chosen {
        Ok(pool) => {
            entry.unsuited = None;
            entry.writing = true;
            let patch = json!({ "metadata": { "resourceVersion": entry.resource_version }, "spec": { "poolRef": pool } });
            world.tray.writes.push(Write::AssignPool {
                key: key.clone(),
                patch,
            });
        }
        Err(why) => {
            entry.unsuited = Some(why);
            // Pools come and go, and none of them knows who waits for any.
            let soon = later(Timestamp::now(), Duration::from_secs(1));
            world.wakes.at(soon, Wake::Batch(key.clone()));
        }
    }
}

/// What a template asks for.
fn wish(template: &PodTemplate) -> Wish {
    let spec = template.0.get("spec").cloned().unwrap_or_default();
    let mut wish = Wish::default();
    for container in spec["containers"].as_array().into_iter().flatten() {
        wish.images
            .extend(container["image"].as_str().map(str::to_owned));
        let requests = container["resources"]["requests"].as_object();
        for (resource, amount) in requests.into_iter().flatten() {
            let text = amount
                .as_str()
                .map_or_else(|| amount.to_string(), str::to_owned);
            if let Some(amount) = quantity::parse(&text) {
                let sum = wish.requests.entry(resource.clone()).or_default();
                *sum = sum.saturating_add(amount);
            }
        }
    }
    let selector = spec["nodeSelector"].as_object().into_iter().flatten();
    wish.node_selector = selector
        .filter_map(|(label, value)| Some((label.clone(), value.as_str()?.to_owned())))
        .collect::<BTreeMap<_, _>>();
    let terms = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        ["nodeSelectorTerms"];
    let terms = terms.as_array().into_iter().flatten();
    wish.affinity = terms.map(requirements).collect();
    wish
}

/// What one term of a node affinity asks for. What cannot be read is met by nobody.
fn requirements(term: &Value) -> Vec<Requirement> {
    let written = term["matchExpressions"].as_array().into_iter().flatten();
    let read = written.map(|one| {
        Some(Requirement {
            key: one["key"].as_str()?.to_owned(),
            operator: serde_json::from_value(one["operator"].clone()).ok()?,
            values: match &one["values"] {
                Value::Array(values) => values
                    .iter()
                    .map(|value| value.as_str().map(str::to_owned))
                    .collect::<Option<_>>()?,
                _ => Vec::new(),
            },
        })
    });
    read.collect::<Option<Vec<_>>>().unwrap_or_default()
}
