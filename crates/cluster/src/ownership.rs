//! Who set which field: `metadata.managedFields`, kept with every write.

use sandlot_objects::apply::{self, ApplyError, Part as OwnedPart, Writer};
use serde_json::Value;

use crate::call::Call;
use crate::schemas::merging;
use crate::status::{ApiError, Cause};
use crate::verbs::Part;

/// How a write came about, which decides who owns its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Authorship {
    /// Whoever writes owns what changes.
    #[default]
    Writes,
    /// Server-side apply has already settled who owns what.
    Applied,
}

/// Merges an applied configuration into what there is.
pub(crate) fn apply(
    call: &Call,
    part: Part,
    live: Option<&Value>,
    config: &Value,
) -> Result<Value, ApiError> {
    let force = call.request.options.write.force.unwrap_or(false);
    with_writer(call, part, |writer| {
        apply::apply(merging(&call.kind), live, config, writer, force).map_err(refused)
    })
}

/// Records who made a new object.
pub(crate) fn created(call: &Call, object: Value) -> Value {
    match call.authorship {
        Authorship::Applied => object,
        Authorship::Writes => track(call, Part::Main, None, object),
    }
}

/// Records who changed what.
pub(crate) fn changed(call: &Call, part: Part, object: Value, old: &Value) -> Value {
    match call.authorship {
        Authorship::Applied => object,
        Authorship::Writes => track(call, part, Some(old), object),
    }
}

/// The same of an object that comes without its managers, which are the text that they were stored
/// as: what they are now. Nothing where that takes the whole object.
pub(crate) fn changed_in_text(
    call: &Call,
    part: Part,
    object: &Value,
    old: &Value,
    managers: &str,
) -> Option<String> {
    with_writer(call, part, |writer| {
        apply::track_in_text(merging(&call.kind), old, object, managers, writer)
    })
}

fn track(call: &Call, part: Part, old: Option<&Value>, object: Value) -> Value {
    with_writer(call, part, |writer| {
        apply::track(merging(&call.kind), old, object, writer)
    })
}

fn with_writer<T>(call: &Call, part: Part, act: impl FnOnce(&Writer<'_>) -> T) -> T {
    let (manager, api_version) = (call.manager(), call.kind.api_version());
    act(&Writer {
        manager: &manager,
        api_version: &api_version,
        subresource: part.subresource(),
        part: match part {
            Part::Status => OwnedPart::Status,
            Part::Main if call.kind.has("status") => OwnedPart::AllButStatus,
            _ => OwnedPart::Everything,
        },
        now: call.api.now(),
    })
}

fn refused(error: ApplyError) -> ApiError {
    match error {
        ApplyError::Invalid(why) => ApiError::bad_request(why),
        ApplyError::Conflicts(conflicts) => {
            let message = conflicts.to_string();
            let cause = |conflict: &apply::Conflict| {
                Cause::new(
                    "FieldManagerConflict",
                    conflict.path.clone(),
                    conflict.message(),
                )
            };
            ApiError::apply_conflict(message, conflicts.0.iter().map(cause).collect())
        }
    }
}
