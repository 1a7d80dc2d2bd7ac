//! Which objects a selector selects, decided from the facts of a record where they
//! suffice and from the object itself where they do not.

use std::borrow::Cow;
use std::cell::OnceCell;

use sandlot_objects::selector::{FieldSelector, LabelSelector, SelectorError, text_at};
use serde_json::Value;

use crate::kinds::{Kind, builtin};
use crate::record::Record;
use crate::status::ApiError;

/// What a list or watch selects.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    /// The fields of the kind that every record has as facts, in their order.
    known: &'static [&'static str],
    /// How the kind calls its fields, where that is not how they are stored.
    regarding: bool,
}

impl Selection {
    /// Reads the selectors of a request about objects of a kind.
    pub(crate) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Selection, ApiError> {
        let refused = |error: SelectorError| ApiError::bad_request(error.to_string());
        let labels = LabelSelector::parse(labels).map_err(refused)?;
        let fields = FieldSelector::parse(fields).map_err(refused)?;
        let selection = Selection {
            labels,
            fields,
            known: builtin::selectable(&kind.stored_as),
            regarding: kind.is("events.k8s.io", "Event"),
        };
        let supported = |field: &str| {
            matches!(field, "metadata.name" | "metadata.namespace")
                || kind
                    .selectable
                    .iter()
                    .any(|own| own == selection.stored(field).as_ref())
        };
        selection.fields.check(supported).map_err(refused)?;
        Ok(selection)
    }

    /// Whether nothing is left out.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether an object is selected.
    pub(crate) fn selects(&self, record: &Record) -> bool {
        self.selects_labels(record) && (self.fields.is_everything() || self.selects_fields(record))
    }

    fn selects_labels(&self, record: &Record) -> bool {
        self.labels.requirements().is_some_and(|all| {
            all.iter()
                .all(|requirement| requirement.accepts(record.facts.label(requirement.key())))
        })
    }

    fn selects_fields(&self, record: &Record) -> bool {
        let object = OnceCell::new();
        self.fields.matches(|field| match field {
            "metadata.name" => Cow::Borrowed(&*record.key.name),
            "metadata.namespace" => Cow::Borrowed(&*record.key.namespace),
            field => {
                let stored = self.stored(field);
                if let Some(at) = self.known.iter().position(|known| *known == stored) {
                    return Cow::Borrowed(record.facts.fields.get(at).map_or("", |text| text));
                }
                let object = object.get_or_init(|| {
                    serde_json::from_slice::<Value>(&record.value).unwrap_or_default()
                });
                Cow::Owned(text_at(object, &stored).into_owned())
            }
        })
    }

    /// How a field is called in the store.
    fn stored<'a>(&self, field: &'a str) -> Cow<'a, str> {
        match field.strip_prefix("regarding.") {
            Some(rest) if self.regarding => Cow::Owned(format!("involvedObject.{rest}")),
            _ => Cow::Borrowed(field),
        }
    }
}
