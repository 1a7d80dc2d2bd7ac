//! Tables: lists and watches as `kubectl get` shows them.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::answer::List;
use crate::call::Call;
use crate::status::ApiError;

/// The columns of a kind.
pub(crate) struct Columns;

impl Columns {
    /// The columns of the kind that a request is about.
    pub(crate) fn new(_call: &Call) -> Columns {
        Columns
    }

    /// A table with a single object.
    pub(crate) fn table_of(&self, object: &Bytes) -> Result<Value, ApiError> {
        let object: Value = serde_json::from_slice(object).map_err(ApiError::internal)?;
        Ok(
            json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": [{"name":"Name","type":"string","format":"name","description":"","priority":0}], "rows": [{"cells": [object["metadata"]["name"]], "object": object}]}),
        )
    }
}

/// A table with one row.
pub(crate) fn of_object(call: &Call, object: &Bytes) -> Result<Value, ApiError> {
    Columns::new(call).table_of(object)
}

/// A table with a row for each object.
pub(crate) fn of_list(_call: &Call, list: &List) -> Result<Value, ApiError> {
    let rows: Vec<Value> = list
        .items
        .iter()
        .map(|item| {
            let object: Value = serde_json::from_slice(item).map_err(ApiError::internal)?;
            Ok(json!({"cells": [object["metadata"]["name"]], "object": object}))
        })
        .collect::<Result<_, ApiError>>()?;
    Ok(
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list.metadata(), "columnDefinitions": [{"name":"Name","type":"string","format":"name","description":"","priority":0}], "rows": rows}),
    )
}
