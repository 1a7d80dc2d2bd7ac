//! Bodies: bytes from outside become an object of the kind that the request is about.

use serde_json::Value;

use crate::call::Call;
use crate::negotiate::{BodyFormat, body_format};
use crate::object::{set_aside, text};
use crate::request::FieldValidation;
use crate::schemas;
use crate::status::ApiError;

impl Call {
    /// The object in the body, of the request's kind and version.
    pub(crate) fn object(&mut self) -> Result<Value, ApiError> {
        let (mut object, duplicates) = self.decode()?;
        self.check_kind(&mut object)?;
        self.accept_fields(&mut object, None, duplicates)?;
        Ok(object)
    }

    /// The body as JSON, whatever it came as, and the fields that stood in it twice.
    pub(crate) fn decode(&self) -> Result<(Value, Vec<String>), ApiError> {
        if self.body.is_empty() {
            return Err(ApiError::bad_request(
                "the body of the request is empty: an object is needed",
            ));
        }
        match body_format(&self.headers)? {
            BodyFormat::Json => schemas::from_json(&self.body),
            BodyFormat::Yaml => Ok((schemas::from_yaml(&self.body)?, Vec::new())),
            BodyFormat::Protobuf if self.kind.custom().is_some() => {
                Err(ApiError::unsupported_media_type(&[
                    "application/json",
                    "application/yaml",
                ]))
            }
            BodyFormat::Protobuf => Ok((schemas::from_protobuf(&self.body)?, Vec::new())),
        }
    }

    /// Refuses objects of another kind; fills in what a built-in kind may leave out.
    pub(crate) fn check_kind(&self, object: &mut Value) -> Result<(), ApiError> {
        let (version, kind) = (self.kind.api_version(), self.kind.kind.as_str());
        expect_kind(object, &version, kind, self.kind.builtin().is_some())
    }

    /// Drops fields that the kind does not know, and says so as the client asked.
    pub(crate) fn accept_fields(
        &mut self,
        object: &mut Value,
        old: Option<&Value>,
        duplicates: Vec<String>,
    ) -> Result<(), ApiError> {
        // What is as it was has been accepted before.
        let aside = old.map(|old| set_aside(object, old));
        let unknown = schemas::prune(&self.kind, object);
        schemas::drop_nulls(&self.kind, object);
        let refused = schemas::read_refused(&self.kind, object, old);
        if let Some(aside) = aside {
            aside.put_back(object);
        }
        let mut complaints: Vec<String> = unknown
            .iter()
            .map(|field| format!("unknown field \"{field}\""))
            .collect();
        complaints.extend(
            duplicates
                .iter()
                .map(|field| format!("duplicate field \"{field}\"")),
        );
        if let Some(error) = refused {
            return Err(error);
        }
        match self.request.options.write.field_validation {
            _ if complaints.is_empty() => Ok(()),
            FieldValidation::Ignore => Ok(()),
            FieldValidation::Warn => {
                self.warnings.extend(complaints);
                Ok(())
            }
            FieldValidation::Strict => Err(ApiError::bad_request(format!(
                "{kind} in version {:?} cannot be handled as a {kind}: strict decoding error: {}",
                self.kind.version,
                complaints.join(", "),
                kind = self.kind.kind,
            ))),
        }
    }
}

/// Refuses an object that is not of the kind and version expected. With `lenient` it may leave both out.
pub(crate) fn expect_kind(
    object: &mut Value,
    version: &str,
    kind: &str,
    lenient: bool,
) -> Result<(), ApiError> {
    let Value::Object(map) = object else {
        return Err(ApiError::bad_request(format!(
            "the body of the request must be an object of kind {kind}, not {}",
            type_of(object)
        )));
    };
    if lenient {
        map.entry("kind").or_insert_with(|| kind.into());
        map.entry("apiVersion").or_insert_with(|| version.into());
    }
    let (own_version, own_kind) = (text(object, &["apiVersion"]), text(object, &["kind"]));
    if own_kind.is_empty() {
        return Err(ApiError::bad_request(
            "Object 'Kind' is missing in the body of the request",
        ));
    }
    if own_version.is_empty() {
        return Err(ApiError::bad_request(
            "Object 'apiVersion' is missing in the body of the request",
        ));
    }
    if own_kind != kind || own_version != version {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {own_kind} in version {own_version:?} cannot be handled as a {kind} in version {version:?}"
        )));
    }
    Ok(())
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
