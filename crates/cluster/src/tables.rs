//! Tables: lists and watches as `kubectl get` shows them.

use std::sync::Arc;

use bytes::Bytes;
use sandlot_objects::table::{self, IncludeObject};
use serde_json::{Value, json};

use crate::answer::List;
use crate::api::Api;
use crate::call::Call;
use crate::kinds::Kind;
use crate::status::ApiError;

/// The columns of the kind that a request is about, and how much of each object it wants.
pub(crate) struct Columns {
    columns: table::Columns,
    include: IncludeObject,
    /// Knows the time, which ages count from.
    api: Arc<Api>,
}

impl Columns {
    /// The columns of the kind that a request is about.
    pub(crate) fn new(call: &Call) -> Columns {
        Columns {
            columns: columns_of(&call.kind),
            include: call.request.options.include_object,
            api: Arc::clone(&call.api),
        }
    }

    /// A table with a single object.
    pub(crate) fn table_of(&self, object: &Bytes) -> Result<Value, ApiError> {
        let object = read(object)?;
        let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
        Ok(self.columns.table(
            [&object].into_iter(),
            metadata,
            self.include,
            self.api.now(),
        ))
    }
}

fn columns_of(kind: &Kind) -> table::Columns {
    match kind.custom() {
        Some(custom) => {
            table::Columns::custom(custom.columns.as_array().map_or(&[], Vec::as_slice))
        }
        None => table::Columns::builtin(&kind.group, &kind.kind),
    }
}

fn read(object: &Bytes) -> Result<Value, ApiError> {
    serde_json::from_slice(object).map_err(ApiError::internal)
}

/// A table with one row.
pub(crate) fn of_object(call: &Call, object: &Bytes) -> Result<Value, ApiError> {
    Columns::new(call).table_of(object)
}

/// A table with a row for each object.
pub(crate) fn of_list(call: &Call, list: &List) -> Result<Value, ApiError> {
    let Columns {
        columns,
        include,
        api,
    } = Columns::new(call);
    let now = api.now();
    let row = |item| Ok(columns.row(&read(item)?, include, now));
    let rows = list
        .items
        .iter()
        .map(row)
        .collect::<Result<Vec<_>, ApiError>>()?;
    let mut table = columns.head(list.metadata());
    table.insert("rows".into(), rows.into());
    Ok(Value::Object(table))
}
