//! The webhooks that are configured, ready to be asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations,
    ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Wanted;
use serde::de::DeserializeOwned;

use crate::admission::condition::Condition;
use crate::admission::matching::Matching;
use crate::lookup::{Change, Changes, Follow, Lookup};
use crate::webhook::Server;

/// How long a webhook may take when its configuration does not say.
const PATIENCE: i32 = 10;
/// Only these promise that a dry run changes nothing.
const HARMLESS: [&str; 2] = ["None", "NoneOnDryRun"];

/// What a webhook may do to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// Change it.
    Mutating,
    /// Accept or refuse it.
    Validating,
}

/// One webhook.
pub(super) struct Hook {
    pub(super) name: String,
    pub(super) sort: Sort,
    pub(super) server: Server,
    pub(super) matching: Matching,
    pub(super) conditions: Vec<Condition>,
    /// Whether the write goes on when the webhook fails.
    pub(super) ignored: bool,
    /// Whether it wants to see changes that others made after it.
    pub(super) reinvoked: bool,
    /// Whether asking it may change something even on a dry run.
    pub(super) side_effects: bool,
}

/// What both sorts of webhooks have in common.
struct Parts {
    name: String,
    client: WebhookClientConfig,
    rules: Option<Vec<RuleWithOperations>>,
    match_policy: Option<String>,
    namespaces: Option<Wanted>,
    objects: Option<Wanted>,
    conditions: Option<Vec<MatchCondition>>,
    timeout: Option<i32>,
    failure: Option<String>,
    side_effects: String,
    reinvocation: Option<String>,
}

impl Hook {
    fn new(sort: Sort, parts: Parts) -> Hook {
        let seconds = parts.timeout.unwrap_or(PATIENCE).clamp(1, 30);
        Hook {
            sort,
            // Clamped to be positive.
            server: Server::new(
                &parts.client,
                Duration::from_secs(u64::from(seconds.unsigned_abs())),
            ),
            matching: Matching::of_webhook(
                parts.rules,
                parts.match_policy.as_deref(),
                parts.namespaces,
                parts.objects,
            ),
            conditions: parts
                .conditions
                .unwrap_or_default()
                .iter()
                .map(Condition::new)
                .collect(),
            ignored: parts.failure.as_deref() == Some("Ignore"),
            reinvoked: parts.reinvocation.as_deref() == Some("IfNeeded"),
            side_effects: !HARMLESS.contains(&parts.side_effects.as_str()),
            name: parts.name,
        }
    }
}

impl From<MutatingWebhook> for Hook {
    fn from(hook: MutatingWebhook) -> Hook {
        Hook::new(
            Sort::Mutating,
            Parts {
                name: hook.name,
                client: hook.client_config,
                rules: hook.rules,
                match_policy: hook.match_policy,
                namespaces: hook.namespace_selector,
                objects: hook.object_selector,
                conditions: hook.match_conditions,
                timeout: hook.timeout_seconds,
                failure: hook.failure_policy,
                side_effects: hook.side_effects,
                reinvocation: hook.reinvocation_policy,
            },
        )
    }
}

impl From<ValidatingWebhook> for Hook {
    fn from(hook: ValidatingWebhook) -> Hook {
        Hook::new(
            Sort::Validating,
            Parts {
                name: hook.name,
                client: hook.client_config,
                rules: hook.rules,
                match_policy: hook.match_policy,
                namespaces: hook.namespace_selector,
                objects: hook.object_selector,
                conditions: hook.match_conditions,
                timeout: hook.timeout_seconds,
                failure: hook.failure_policy,
                side_effects: hook.side_effects,
                reinvocation: None,
            },
        )
    }
}

/// The webhooks of one sort, in the order of their configurations' names.
struct Configured {
    follow: Box<dyn Follow>,
    by_name: BTreeMap<Arc<str>, Vec<Arc<Hook>>>,
    all: Arc<[Arc<Hook>]>,
}

/// Every webhook, brought up to date when asked for.
pub(super) struct Index {
    mutating: Configured,
    validating: Configured,
}

impl Index {
    pub(super) fn new(lookup: &dyn Lookup) -> Index {
        let follow = |plural: &str| Configured {
            follow: lookup.follow(&format!("{}/{plural}", crate::admission::GROUP)),
            by_name: BTreeMap::new(),
            all: Arc::new([]),
        };
        Index {
            mutating: follow("mutatingwebhookconfigurations"),
            validating: follow("validatingwebhookconfigurations"),
        }
    }

    pub(super) fn hooks(&mut self, sort: Sort) -> Arc<[Arc<Hook>]> {
        match sort {
            Sort::Mutating => self.mutating.now(|change| {
                hooks::<MutatingWebhookConfiguration, _>(change, |found| found.webhooks)
            }),
            Sort::Validating => self.validating.now(|change| {
                hooks::<ValidatingWebhookConfiguration, _>(change, |found| found.webhooks)
            }),
        }
    }
}

impl Configured {
    fn now(&mut self, read: impl Fn(&Change) -> Vec<Arc<Hook>>) -> Arc<[Arc<Hook>]> {
        let changes = match self.follow.changes() {
            Changes::Since(changes) if changes.is_empty() => return self.all.clone(),
            Changes::Since(changes) => changes,
            Changes::All(all) => {
                self.by_name.clear();
                all
            }
        };
        for change in changes {
            match change.object {
                Some(_) => self.by_name.insert(change.name.clone(), read(&change)),
                None => self.by_name.remove(&change.name),
            };
        }
        self.all = self.by_name.values().flatten().cloned().collect();
        self.all.clone()
    }
}

/// The webhooks of a configuration; one that does not parse has none.
fn hooks<C: DeserializeOwned, H: Into<Hook>>(
    change: &Change,
    of: impl Fn(C) -> Option<Vec<H>>,
) -> Vec<Arc<Hook>> {
    let bytes = change.object.as_deref().unwrap_or_default();
    match serde_json::from_slice(bytes) {
        Ok(found) => of(found)
            .unwrap_or_default()
            .into_iter()
            .map(|hook| Arc::new(hook.into()))
            .collect(),
        Err(error) => {
            tracing::error!(name = %change.name, %error, "ignoring a broken webhook configuration");
            Vec::new()
        }
    }
}
