//! RFC 6902 patches: a list of operations, all of which apply or none.

use json_patch::{PatchErrorKind, PatchOperation, jsonptr::Pointer};
use serde::Deserialize;
use serde_json::Value;

use super::{PatchError, checked_depth};

/// How many operations one patch may have; the limit of a Kubernetes API server.
const MAX_OPERATIONS: usize = 10_000;

/// How many bytes of JSON the copies of one patch may add up to.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// How many list items inserts and removals may shift in all, so that ten thousand inserts
/// at the front of a long list do not hold a core for half a minute.
const MAX_SHIFTED: usize = 50_000_000;

/// How deep the object may nest between operations. Each move can bury a value deeper; a
/// value deeper than the stack could not even be dropped.
const MAX_WORKING_DEPTH: usize = 1_000;

/// Returns `original` with the operations applied in order.
pub fn apply(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let operations = patch
        .as_array()
        .ok_or_else(|| malformed("a JSON patch must be a list of operations"))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let operations: Vec<PatchOperation> = operations
        .iter()
        .map(PatchOperation::deserialize)
        .collect::<Result<_, _>>()
        .map_err(malformed)?;

    let mut patched = original.clone();
    let mut limits = Limits::new(original);
    for operation in &operations {
        if is_test_for_absence(&patched, operation) {
            continue;
        }
        limits.admit(&patched, operation)?;
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(operation))
            .map_err(|error| PatchError::DoesNotApply(explain(operation, &error.kind)))?;
    }
    checked_depth(patched)
}

fn malformed(what: impl ToString) -> PatchError {
    PatchError::Malformed(what.to_string())
}

/// Kubernetes lets `test` with null pass for a field that is not there.
fn is_test_for_absence(document: &Value, operation: &PatchOperation) -> bool {
    matches!(operation, PatchOperation::Test(test)
        if test.value.is_null() && test.path.resolve(document).is_err())
}

/// What the operations so far have cost, and what one patch may cost.
struct Limits {
    copied: usize,
    shifted: usize,
    /// Never less than the depth of the document.
    depth: usize,
}

impl Limits {
    fn new(document: &Value) -> Self {
        Self {
            copied: 0,
            shifted: 0,
            depth: depth(document),
        }
    }

    /// Refuses the operation when the patch would become too expensive with it.
    fn admit(&mut self, document: &Value, operation: &PatchOperation) -> Result<(), PatchError> {
        match operation {
            PatchOperation::Add(add) => {
                self.insert(document, &add.path, depth(&add.value))?;
            }
            PatchOperation::Replace(replace) => {
                self.bury(&replace.path, depth(&replace.value))?;
            }
            PatchOperation::Remove(remove) => self.shift(document, &remove.path)?,
            PatchOperation::Copy(copy) => {
                let Ok(source) = copy.from.resolve(document) else {
                    return Ok(());
                };
                self.copied += source.to_string().len();
                if self.copied > MAX_COPIED {
                    return Err(PatchError::TooLarge(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is \
                         {}, exceeding the limit {MAX_COPIED}",
                        self.copied
                    )));
                }
                self.insert(document, &copy.path, depth(source))?;
            }
            PatchOperation::Move(from_to) => {
                self.shift(document, &from_to.from)?;
                let moved = self.depth.saturating_sub(from_to.from.count());
                self.insert(document, &from_to.path, moved)?;
            }
            PatchOperation::Test(_) => {}
        }
        Ok(())
    }

    fn insert(&mut self, document: &Value, path: &Pointer, depth: usize) -> Result<(), PatchError> {
        self.shift(document, path)?;
        self.bury(path, depth)
    }

    fn bury(&mut self, path: &Pointer, depth: usize) -> Result<(), PatchError> {
        self.depth = self.depth.max(path.count() + depth);
        if self.depth > MAX_WORKING_DEPTH {
            return Err(PatchError::TooLarge(
                "the patch nests the object too deeply".into(),
            ));
        }
        Ok(())
    }

    fn shift(&mut self, document: &Value, path: &Pointer) -> Result<(), PatchError> {
        if let Some(parent) = path.parent()
            && let Ok(Value::Array(items)) = parent.resolve(document)
            && path.back().is_none_or(|last| last.encoded() != "-")
        {
            self.shifted += items.len();
        }
        if self.shifted > MAX_SHIFTED {
            return Err(PatchError::TooLarge(
                "the patch inserts into or removes from long lists too often".into(),
            ));
        }
        Ok(())
    }
}

/// How many objects and lists stand inside one another. The JSON reader bounds it.
fn depth(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn explain(operation: &PatchOperation, kind: &PatchErrorKind) -> String {
    let path = operation.path();
    let missing_from = |verb: &str, from: &Pointer| -> String {
        format!("{verb} operation does not apply: doc is missing from path: {from}: missing value")
    };
    match (operation, kind) {
        (PatchOperation::Test(_), _) => format!("testing value {path} failed: test failed"),
        (PatchOperation::Add(_), _) => {
            format!("add operation does not apply: doc is missing path: \"{path}\": missing value")
        }
        (PatchOperation::Remove(_), _) => {
            format!(
                "remove operation does not apply: doc is missing path: \"{path}\": missing value"
            )
        }
        (PatchOperation::Replace(_), _) => {
            format!("replace operation does not apply: doc is missing key: {path}: missing value")
        }
        (PatchOperation::Move(op), PatchErrorKind::InvalidFromPointer) => {
            missing_from("move", &op.from)
        }
        (PatchOperation::Copy(op), PatchErrorKind::InvalidFromPointer) => {
            missing_from("copy", &op.from)
        }
        (PatchOperation::Move(_), kind) => format!("error in move for path: '{path}': {kind}"),
        (PatchOperation::Copy(_), kind) => format!("error in copy for path: '{path}': {kind}"),
    }
}
