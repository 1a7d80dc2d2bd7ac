//! Conditions as this group has them: those that hold, and since when.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sandlot_api::opensandbox::{Condition, Holds};

/// A condition that holds; one that held before keeps its beginning.
pub(super) fn holds(
    old: &[Condition],
    (kind, reason, message): (&str, &str, String),
    now: Timestamp,
) -> Condition {
    let before = old.iter().find(|condition| condition.kind == kind);
    // Statuses carry whole seconds, so that what is read back compares equal.
    let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
    Condition {
        kind: kind.to_owned(),
        status: Holds::True,
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: before
            .and_then(|condition| condition.last_transition_time.clone())
            .or(Some(Time(whole))),
    }
}
