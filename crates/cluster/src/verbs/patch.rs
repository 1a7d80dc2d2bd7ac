//! Changing part of an object.

use http::StatusCode;
use sandlot_objects::patch::{self, PatchError};
use serde_json::Value;

use super::margin;
use super::write::{Part, change, insert};
use crate::answer::Answer;
use crate::call::Call;
use crate::intake::expect_kind;
use crate::metadata;
use crate::negotiate::{PatchFormat, patch_format};
use crate::object;
use crate::ownership::{self, Authorship};
use crate::schemas;
use crate::status::{ApiError, Cause, Reason};

/// Changes an object as the body says. Server-side apply also makes it when there is none.
pub(crate) async fn patch(call: &mut Call, part: Part) -> Result<Answer, ApiError> {
    let format = patch_format(&call.headers)?;
    check_options(call, format)?;
    match format {
        PatchFormat::Apply => apply(call, part).await,
        PatchFormat::Strategic if call.kind.custom().is_some() => {
            Err(ApiError::unsupported_media_type(&[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/apply-patch+yaml",
            ]))
        }
        format => {
            let (body, _) = schemas::from_json(&call.body)?;
            if format == PatchFormat::Merge
                && let Some(bytes) = margin::patch(call, part, &body).await?
            {
                return Ok(Answer::ok(bytes));
            }
            let written = change(call, part, |call, old| {
                let mut new = patched(call, format, old, &body)?;
                call.check_kind(&mut new)?;
                call.accept_fields(&mut new, Some(old), Vec::new())?;
                Ok(new)
            })
            .await?;
            Ok(Answer::ok(written.bytes))
        }
    }
}

/// What a patch makes of an object.
pub(crate) fn patched(
    call: &Call,
    format: PatchFormat,
    old: &Value,
    body: &Value,
) -> Result<Value, ApiError> {
    let result = match format {
        PatchFormat::Json => patch::json::apply(old, body),
        PatchFormat::Merge | PatchFormat::Apply => patch::merge::apply(old, body),
        PatchFormat::Strategic => patch::strategic::apply(schemas::merging(&call.kind), old, body),
    };
    result.map_err(|error| refused(&error))
}

fn refused(error: &PatchError) -> ApiError {
    let reason = match error {
        PatchError::Malformed(_) => Reason::BadRequest,
        PatchError::TooLarge(_) => Reason::RequestEntityTooLarge,
        PatchError::DoesNotApply(_) => Reason::Invalid,
    };
    ApiError::new(error.status(), reason, error.to_string())
}

fn check_options(call: &Call, format: PatchFormat) -> Result<(), ApiError> {
    let options = &call.request.options.write;
    let mut causes = Vec::new();
    match format {
        PatchFormat::Apply if options.field_manager.is_empty() => {
            causes.push(Cause::required(
                "fieldManager",
                "is required for apply patch",
            ));
        }
        PatchFormat::Apply => {}
        _ if options.force.is_some() => {
            causes.push(Cause::forbidden(
                "force",
                "may not be specified for non-apply patch",
            ));
        }
        _ => {}
    }
    match causes.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", causes)),
    }
}

/// Server-side apply.
async fn apply(call: &mut Call, part: Part) -> Result<Answer, ApiError> {
    call.authorship = Authorship::Applied;
    let mut config = schemas::from_yaml(&call.body)?;
    expect_kind(
        &mut config,
        &call.kind.api_version(),
        &call.kind.kind,
        false,
    )?;
    call.accept_fields(&mut config, None, Vec::new())?;
    let name = call.request.name().to_owned();
    let metadata = object::metadata_mut(&mut config);
    metadata
        .entry("name")
        .or_insert_with(|| name.as_str().into());
    metadata::same_object(&call.kind, &config, &call.request)?;
    metadata::place(&call.kind, &mut config, call.namespace())?;

    let key = call.api.key(&call.kind, call.namespace(), &name);
    if part == Part::Main && call.api.store.latest(&key).is_none() {
        if !object::uid(&config).is_empty() {
            return Err(call.not_found(&name));
        }
        let object = ownership::apply(call, part, None, &config)?;
        match insert(call, object).await {
            Ok(bytes) => return Ok(Answer::Object(StatusCode::CREATED, bytes)),
            // Somebody else made it meanwhile: then this is a change of theirs.
            Err(error) if error.reason == Reason::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let written = change(call, part, |call, old| {
        ownership::apply(call, part, Some(old), &config)
    })
    .await?;
    Ok(Answer::ok(written.bytes))
}
