//! Webhooks: HTTPS servers elsewhere that are asked about writes, as
//! MutatingWebhookConfigurations and ValidatingWebhookConfigurations say.

mod configured;
mod review;

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use serde_json::Value;

use super::condition;
use super::{Admission, AdmissionRequest, Denied, Warnings};
use crate::kubelet::BoxFuture;
use crate::lookup::Lookup;
use crate::status::{ApiError, Reason};
use crate::webhook::Services;
use configured::{Hook, Index, Sort};

/// What evaluating the conditions of one webhook may cost.
const BUDGET: u64 = 1_000_000;

/// Asks the webhooks that the cluster's configurations name.
pub struct Webhooks {
    lookup: Arc<dyn Lookup>,
    services: Arc<dyn Services>,
    index: Mutex<Index>,
}

/// What came of asking a webhook.
enum Asked {
    /// It is content; a mutating one may have a patch.
    Allowed {
        patch: Option<Value>,
        warnings: Warnings,
    },
    /// It refuses, and this is the answer to the client.
    Refused(Denied),
    /// It could not be asked, and its policy is to go on without it.
    Ignored,
}

impl Webhooks {
    /// Reads configurations and namespaces here, and finds services there.
    pub fn new(lookup: Arc<dyn Lookup>, services: Arc<dyn Services>) -> Self {
        let index = Mutex::new(Index::new(&*lookup));
        Webhooks {
            lookup,
            services,
            index,
        }
    }

    fn hooks(&self, sort: Sort) -> Arc<[Arc<Hook>]> {
        // A panic cannot leave the index half changed: it is replaced whole.
        self.index
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .hooks(sort)
    }

    /// The version in which a webhook wants to see this write, if it does. What cannot be
    /// decided counts as a failure of the webhook.
    fn wanted<'a>(
        &self,
        hook: &Hook,
        request: &'a AdmissionRequest,
    ) -> Result<Option<&'a str>, String> {
        let version = hook.matching.version(request, &*self.lookup);
        if version.is_none() || hook.conditions.is_empty() {
            return Ok(version);
        }
        let variables = condition::variables(request);
        let holds = condition::all_hold(&hook.conditions, &variables, &mut { BUDGET })?;
        Ok(version.filter(|_| holds))
    }

    async fn ask(&self, hook: &Hook, request: &AdmissionRequest) -> Asked {
        match self.wanted(hook, request) {
            Ok(None) => Asked::Allowed {
                patch: None,
                warnings: Warnings::new(),
            },
            Ok(Some(_)) if request.dry_run && hook.side_effects => {
                Asked::Refused(ApiError::bad_request(format!(
                    "admission webhook {:?} does not support dry run",
                    hook.name
                )))
            }
            Ok(Some(version)) => judge(hook, self.exchange(hook, version, request).await),
            Err(why) => judge(hook, Err(why)),
        }
    }

    async fn exchange(
        &self,
        hook: &Hook,
        version: &str,
        request: &AdmissionRequest,
    ) -> Result<review::Answer, String> {
        let uid = uuid::Uuid::new_v4().to_string();
        let seen = request.in_version(version).await;
        let seen = seen.map_err(|error| error.message)?;
        let question = review::question(&uid, version, &seen);
        let answer = hook
            .server
            .ask(&*self.services, question.to_string())
            .await?;
        review::read(&answer, &uid, hook.sort)
    }

    /// Changes the object as a webhook asks, which saw it in the version that it wants.
    async fn patch(
        &self,
        hook: &Hook,
        request: &mut AdmissionRequest,
        patch: &Value,
    ) -> Result<bool, Denied> {
        let own = request.resource.version.clone();
        let version = hook.matching.version(request, &*self.lookup);
        let version = version.unwrap_or(&own).to_owned();
        if version == own || request.converter.is_none() {
            return review::apply(hook, request, patch);
        }
        let mut seen = request.in_version(&version).await?.into_owned();
        let changed = review::apply(hook, &mut seen, patch)?;
        if changed {
            seen.resource.version = version;
            request.object = seen.in_version(&own).await?.into_owned().object;
        }
        Ok(changed)
    }

    async fn mutate_once(
        &self,
        hooks: &[Arc<Hook>],
        request: &mut AdmissionRequest,
        warnings: &mut Warnings,
        mut changed: Changed<'_>,
    ) -> Result<(), Denied> {
        for (number, hook) in hooks.iter().enumerate() {
            if !changed.calls(number, hook) {
                continue;
            }
            match self.ask(hook, request).await {
                Asked::Refused(denied) => return Err(denied),
                Asked::Ignored => {}
                Asked::Allowed {
                    patch: None,
                    warnings: said,
                } => warnings.extend(said),
                Asked::Allowed {
                    patch: Some(patch),
                    warnings: said,
                } => {
                    warnings.extend(said);
                    if self.patch(hook, request, &patch).await? {
                        changed.note(number);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Which webhook changed the object last: those before it may want to see it again.
enum Changed<'a> {
    /// The first round calls everybody, and notes who changed something.
    First(&'a mut Option<usize>),
    /// The second calls again those that asked for it and came before the last change.
    Again(usize),
}

impl Changed<'_> {
    fn calls(&self, number: usize, hook: &Hook) -> bool {
        match self {
            Changed::First(_) => true,
            Changed::Again(last) => hook.reinvoked && number < *last,
        }
    }

    fn note(&mut self, number: usize) {
        if let Changed::First(last) = self {
            **last = Some(number);
        }
    }
}

impl Admission for Webhooks {
    /// Webhooks never judge what configures webhooks: a broken one could not be repaired.
    fn concerns(&self, request: &AdmissionRequest) -> bool {
        request.resource.group != super::GROUP
    }

    /// Whichever webhooks there are may be shown the whole object.
    fn reads(&self, _: &AdmissionRequest) -> bool {
        let any = |sort| !self.hooks(sort).is_empty();
        any(Sort::Mutating) || any(Sort::Validating)
    }

    fn mutate<'a>(
        &'a self,
        request: &'a mut AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        Box::pin(async {
            let hooks = self.hooks(Sort::Mutating);
            let (mut warnings, mut last) = (Warnings::new(), None);
            self.mutate_once(&hooks, request, &mut warnings, Changed::First(&mut last))
                .await?;
            if let Some(last) = last {
                self.mutate_once(&hooks, request, &mut warnings, Changed::Again(last))
                    .await?;
            }
            Ok(warnings)
        })
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        Box::pin(async {
            let hooks = self.hooks(Sort::Validating);
            let mut warnings = Warnings::new();
            for asked in join_all(hooks.iter().map(|hook| self.ask(hook, request))).await {
                match asked {
                    Asked::Refused(denied) => return Err(denied),
                    Asked::Ignored => {}
                    Asked::Allowed { warnings: said, .. } => warnings.extend(said),
                }
            }
            Ok(warnings)
        })
    }
}

/// What a webhook's answer, or the lack of one, means for the write.
fn judge(hook: &Hook, answer: Result<review::Answer, String>) -> Asked {
    match answer {
        Ok(answer) if answer.allowed => Asked::Allowed {
            patch: answer.patch,
            warnings: answer.warnings,
        },
        Ok(answer) => Asked::Refused(refusal(hook, answer)),
        Err(why) if hook.ignored => {
            tracing::warn!(
                webhook = hook.name,
                why,
                "a webhook failed, and its policy is to go on"
            );
            Asked::Ignored
        }
        Err(why) => Asked::Refused(ApiError::internal(format!(
            "failed calling webhook {:?}: failed to call webhook: {why}",
            hook.name
        ))),
    }
}

/// What the client is told when a webhook refuses.
fn refusal(hook: &Hook, answer: review::Answer) -> Denied {
    let name = &hook.name;
    let mut denied = ApiError::from(answer.status);
    denied.message = match denied.message.as_str() {
        "" if denied.reason != Reason::Unknown => {
            format!(
                "admission webhook {name:?} denied the request: {}",
                denied.reason.as_str()
            )
        }
        "" => format!("admission webhook {name:?} denied the request without explanation"),
        why => format!("admission webhook {name:?} denied the request: {why}"),
    };
    if !answer.has_code {
        denied.code = 400;
    }
    if denied.reason == Reason::Unknown && !answer.has_code {
        denied.reason = Reason::Forbidden;
        denied.code = 403;
    }
    denied
}
