//! Answers: what a verb hands back, and how it becomes an HTTP response.

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::call::Call;
use crate::negotiate::{Accept, Encoding, Form};
use crate::status::ApiError;
use crate::tables;

/// What a verb hands back.
pub(crate) enum Answer {
    /// One object, as stored.
    Object(StatusCode, Bytes),
    /// Many objects.
    List(List),
    /// Something that is neither, such as a Status or a review.
    Value(StatusCode, Value),
    /// A response that is already complete: a watch, a log, an upgrade.
    Response(Box<Response<Body>>),
}

/// Many objects at one revision.
pub(crate) struct List {
    pub(crate) revision: u64,
    pub(crate) continue_token: String,
    pub(crate) remaining: Option<usize>,
    pub(crate) items: Vec<Bytes>,
}

impl Answer {
    /// An object that was read or changed.
    pub(crate) fn ok(bytes: Bytes) -> Answer {
        Answer::Object(StatusCode::OK, bytes)
    }

    /// The response in the form that the client asked for.
    pub(crate) fn into_response(self, call: &Call) -> Result<Response<Body>, ApiError> {
        let form = call.accept.form;
        let (code, bytes) = match (self, form) {
            (Answer::Response(response), _) => return Ok(*response),
            (Answer::Value(code, value), _) => (code, value.to_string().into()),
            (Answer::Object(code, bytes), Form::Whole) => (code, bytes),
            (Answer::Object(code, bytes), Form::MetadataOnly) => {
                (code, metadata_only(&bytes)?.to_string().into())
            }
            (Answer::Object(code, bytes), Form::Table) => {
                (code, tables::of_object(call, &bytes)?.to_string().into())
            }
            (Answer::List(list), Form::Whole) => (StatusCode::OK, joined(call, &list)),
            (Answer::List(list), Form::MetadataOnly) => (StatusCode::OK, metadata_list(&list)?),
            (Answer::List(list), Form::Table) => (
                StatusCode::OK,
                tables::of_list(call, &list)?.to_string().into(),
            ),
        };
        written(code, bytes, call.accept, call.request.options.pretty)
    }
}

/// A JSON document as a response in the encoding asked for.
pub(crate) fn written(
    code: StatusCode,
    json: Bytes,
    accept: Accept,
    pretty: bool,
) -> Result<Response<Body>, ApiError> {
    let (kind, bytes) = match accept.encoding {
        Encoding::Json if pretty => (
            "application/json",
            reread(&json, serde_json::to_vec_pretty)?,
        ),
        Encoding::Json => ("application/json", json),
        Encoding::Yaml => {
            let value: Value = serde_json::from_slice(&json).map_err(ApiError::internal)?;
            let text = serde_saphyr::to_string(&value).map_err(ApiError::internal)?;
            ("application/yaml", text.into())
        }
    };
    Ok(response(code, kind, bytes))
}

fn reread(
    json: &Bytes,
    write: impl FnOnce(&Value) -> serde_json::Result<Vec<u8>>,
) -> Result<Bytes, ApiError> {
    let value: Value = serde_json::from_slice(json).map_err(ApiError::internal)?;
    write(&value).map(Bytes::from).map_err(ApiError::internal)
}

/// A response of a content type.
pub(crate) fn response(
    code: StatusCode,
    kind: &'static str,
    bytes: impl Into<Body>,
) -> Response<Body> {
    let mut response = Response::new(bytes.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

/// An error as a response. Errors are always JSON.
pub(crate) fn failed(error: &ApiError) -> Response<Body> {
    let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = response(code, "application/json", error.to_value().to_string());
    if let Some(details) = error
        .details
        .as_ref()
        .filter(|details| details.retry_after > 0)
    {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, details.retry_after.into());
    }
    response
}

/// A list made of stored bytes, none of them parsed.
fn joined(call: &Call, list: &List) -> Bytes {
    let kind = &call.kind;
    let size: usize = list.items.iter().map(|item| item.len() + 1).sum();
    let mut out = BytesMut::with_capacity(size + 256);
    let head = format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
        Value::from(kind.list_kind.as_str()),
        Value::from(kind.api_version()),
        list.metadata()
    );
    out.put_slice(head.as_bytes());
    for (index, item) in list.items.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        out.put_slice(item);
    }
    out.put_slice(b"]}");
    out.freeze()
}

impl List {
    /// The metadata of the list itself.
    pub(crate) fn metadata(&self) -> Value {
        let mut metadata = serde_json::json!({"resourceVersion": self.revision.to_string()});
        if !self.continue_token.is_empty() {
            metadata["continue"] = self.continue_token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}

/// An object without everything but its metadata.
pub(crate) fn metadata_only(object: &[u8]) -> Result<Value, ApiError> {
    let mut object: Value = serde_json::from_slice(object).map_err(ApiError::internal)?;
    let metadata = object
        .get_mut("metadata")
        .map(Value::take)
        .unwrap_or_default();
    Ok(
        serde_json::json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
    )
}

fn metadata_list(list: &List) -> Result<Bytes, ApiError> {
    let items: Vec<Value> = list
        .items
        .iter()
        .map(|item| metadata_only(item))
        .collect::<Result<_, _>>()?;
    let value = serde_json::json!({
        "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
        "metadata": list.metadata(), "items": items,
    });
    Ok(value.to_string().into())
}
