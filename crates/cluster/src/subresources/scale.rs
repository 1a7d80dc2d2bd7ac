//! The scale of a custom object: its replicas under one name, whatever the kind calls them.

use bytes::Bytes;
use sandlot_objects::crd::Scale;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::intake::expect_kind;
use crate::negotiate::{PatchFormat, patch_format};
use crate::object::{as_map, at, child_mut};
use crate::request::Verb;
use crate::schemas;
use crate::status::{ApiError, Cause};
use crate::verbs::{self, Part, change, patched};

const PART: Part = Part::Sub("scale");

/// Reads or changes the scale of an object.
pub(crate) async fn scale(call: &mut Call) -> Result<Answer, ApiError> {
    let custom = call.kind.custom();
    let Some(paths) = custom.and_then(|custom| custom.version.scale.clone()) else {
        return Err(ApiError::no_such_path());
    };
    match call.request.verb {
        Verb::Get => {
            let object = verbs::read(call).await?;
            Ok(Answer::ok(scale_of(&object, &paths).to_string().into()))
        }
        Verb::Update => {
            let (mut wanted, _) = call.decode()?;
            expect_kind(&mut wanted, "autoscaling/v1", "Scale", true)?;
            set(call, &paths, |_, _| Ok(wanted.clone())).await
        }
        Verb::Patch => {
            let format = patch_format(&call.headers)?;
            let body = match format {
                PatchFormat::Apply => schemas::from_yaml(&call.body)?,
                _ => schemas::from_json(&call.body)?.0,
            };
            set(call, &paths, |call, scale| {
                patched(call, format, scale, &body)
            })
            .await
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// Changes the replicas of an object to those of a scale made from its present one.
async fn set(
    call: &mut Call,
    paths: &Scale,
    make: impl Fn(&Call, &Value) -> Result<Value, ApiError>,
) -> Result<Answer, ApiError> {
    let written = change(call, PART, |call, old| {
        let before = scale_of(old, paths);
        let wanted = make(call, &before)?;
        let version = crate::object::resource_version(&wanted);
        if !version.is_empty() && version != crate::object::resource_version(old) {
            return Err(call.modified(call.request.name()));
        }
        let mut new = old.clone();
        place(&mut new, &paths.spec_replicas, replicas_of(&wanted)?);
        Ok(new)
    })
    .await?;
    let object: Value = serde_json::from_slice(&written.bytes).map_err(ApiError::internal)?;
    Ok(Answer::ok(Bytes::from(
        scale_of(&object, paths).to_string(),
    )))
}

fn replicas_of(scale: &Value) -> Result<Value, ApiError> {
    let name = crate::object::name(scale);
    let refused = |cause| Err(ApiError::invalid("autoscaling", "Scale", name, vec![cause]));
    match at(scale, &["spec", "replicas"]) {
        None | Some(Value::Null) => Ok(0.into()),
        Some(replicas) => match replicas.as_i64() {
            Some(count) if count < 0 => refused(Cause::invalid(
                "spec.replicas",
                replicas,
                "must be greater than or equal to 0",
            )),
            Some(count) if count > i64::from(i32::MAX) => refused(Cause::invalid(
                "spec.replicas",
                replicas,
                "must fit in 32 bits",
            )),
            Some(_) => Ok(replicas.clone()),
            None => Err(ApiError::bad_request(format!(
                "spec.replicas of a Scale must be a whole number, not {replicas}"
            ))),
        },
    }
}

fn scale_of(object: &Value, paths: &Scale) -> Value {
    let number = |path: &str| find(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    let selector = paths
        .label_selector
        .as_deref()
        .and_then(|path| find(object, path));
    if let Some(selector) = selector {
        status["selector"] = selector.clone();
    }
    let mut metadata = json!({});
    for key in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if let Some(value) = at(object, &["metadata", key]) {
            metadata[key] = value.clone();
        }
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": number(&paths.spec_replicas)}, "status": status,
    })
}

fn keys(path: &str) -> Vec<&str> {
    path.split('.').filter(|key| !key.is_empty()).collect()
}

fn find<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    at(object, &keys(path))
}

fn place(object: &mut Value, path: &str, value: Value) {
    let keys = keys(path);
    let Some((last, before)) = keys.split_last() else {
        return;
    };
    let mut map = as_map(object);
    for key in before {
        map = child_mut(map, key);
    }
    map.insert((*last).to_owned(), value);
}
