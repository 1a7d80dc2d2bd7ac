//! AdmissionReview: the question to a webhook, and its answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use sandlot_objects::patch::json;
use serde::Deserialize;
use serde_json::{Value, json};

use super::configured::{Hook, Sort};
use crate::admission::condition::attributes;
use crate::admission::{AdmissionRequest, Denied, Operation, Warnings};
use crate::status::ApiError;

const VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
/// No client wants to read more warnings, or longer ones.
const WARNINGS: usize = 32;
const WARNING: usize = 256;

/// What a webhook says.
pub(super) struct Answer {
    pub(super) allowed: bool,
    pub(super) patch: Option<Value>,
    pub(super) warnings: Warnings,
    pub(super) status: Status,
    /// Whether the status came with a code of its own.
    pub(super) has_code: bool,
}

/// The question about a write, whose objects have the shape of a version of their kind.
pub(super) fn question(uid: &str, version: &str, request: &AdmissionRequest) -> Value {
    let mut asked = attributes(request);
    asked["uid"] = uid.into();
    asked["object"] = json!(request.object);
    asked["oldObject"] = json!(request.old_object.as_deref());
    if version != request.resource.version {
        let group = &request.resource.group;
        asked["kind"]["version"] = version.into();
        asked["resource"]["version"] = version.into();
        for object in ["object", "oldObject"] {
            if asked[object].is_object() {
                asked[object]["apiVersion"] = format!("{group}/{version}").into();
            }
        }
    }
    json!({"apiVersion": VERSION, "kind": KIND, "request": asked})
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: Option<String>,
    kind: Option<String>,
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    status: Option<Status>,
    patch: Option<Patch>,
    patch_type: Option<String>,
    warnings: Option<Vec<String>>,
}

/// The bytes of a patch: base64, or a list of numbers as some libraries write bytes in JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum Patch {
    Base64(String),
    Numbers(Vec<u8>),
}

/// Reads an answer to the question of this uid.
pub(super) fn read(bytes: &[u8], uid: &str, sort: Sort) -> Result<Answer, String> {
    let review: Review = serde_json::from_slice(bytes)
        .map_err(|error| format!("the answer cannot be read: {error}"))?;
    let (version, kind) = (
        review.api_version.unwrap_or_default(),
        review.kind.unwrap_or_default(),
    );
    if version != VERSION || kind != KIND {
        return Err(format!(
            "expected webhook response of {VERSION}, Kind={KIND}, got {version}, Kind={kind}"
        ));
    }
    let response = review.response.ok_or("the answer has no response")?;
    if response.uid != uid {
        return Err(format!(
            "expected response.uid={uid:?}, got {:?}",
            response.uid
        ));
    }
    let patch = match (response.patch, response.patch_type.as_deref()) {
        (None, _) => None,
        (Some(_), _) if sort == Sort::Validating => {
            return Err("a validating webhook may not return a patch".to_owned());
        }
        (Some(patch), Some("JSONPatch")) => Some(decode(patch)?),
        (Some(_), other) => {
            return Err(format!(
                "unsupported patch type {:?}",
                other.unwrap_or_default()
            ));
        }
    };
    let status = response.status.unwrap_or_default();
    let has_code = status.code.is_some_and(|code| code != 0);
    let warnings = response
        .warnings
        .unwrap_or_default()
        .into_iter()
        .take(WARNINGS);
    let warnings = warnings
        .map(|text| text.chars().take(WARNING).collect())
        .collect();
    Ok(Answer {
        allowed: response.allowed,
        patch,
        warnings,
        status,
        has_code,
    })
}

fn decode(patch: Patch) -> Result<Value, String> {
    let bytes = match patch {
        Patch::Numbers(bytes) => bytes,
        Patch::Base64(text) => STANDARD
            .decode(text)
            .map_err(|error| format!("the patch is not base64: {error}"))?,
    };
    serde_json::from_slice(&bytes).map_err(|error| format!("the patch is not JSON: {error}"))
}

/// Applies a webhook's patch to the object, and says whether anything changed.
pub(super) fn apply(
    hook: &Hook,
    request: &mut AdmissionRequest,
    patch: &Value,
) -> Result<bool, Denied> {
    let Some(object) = &request.object else {
        let what = if request.operation == Operation::Delete {
            "a deletion"
        } else {
            "nothing"
        };
        return Err(ApiError::internal(format!(
            "webhook {:?} cannot patch {what}",
            hook.name
        )));
    };
    let patched = json::apply(object, patch).map_err(|error| {
        ApiError::internal(format!(
            "the patch of webhook {:?} does not apply: {error}",
            hook.name
        ))
    })?;
    let name = |object: &Value| object["metadata"]["name"].clone();
    if patched["kind"] != object["kind"]
        || (name(object) != name(&patched) && !request.name.is_empty())
    {
        return Err(ApiError::internal(format!(
            "webhook {:?} made another object of it, which it may not",
            hook.name
        )));
    }
    let changed = patched != *object;
    request.object = Some(patched);
    Ok(changed)
}
