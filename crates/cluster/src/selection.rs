//! Which objects a selector selects, decided from the facts of a record where they
//! suffice and from the object itself where they do not.

use crate::kinds::Kind;
use crate::record::Record;
use crate::status::ApiError;

/// What a list or watch selects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    labels: Vec<(String, bool, String)>,
    fields: Vec<(String, bool, String)>,
}

impl Selection {
    /// Reads the selectors of a request about objects of a kind.
    pub(crate) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Selection, ApiError> {
        let _ = kind;
        let terms = |text: &str| {
            text.split(',')
                .filter(|term| !term.is_empty())
                .map(|term| {
                    let (key, value) = term.split_once('=').unwrap_or((term, ""));
                    let value = value.trim_start_matches('=');
                    (
                        key.trim_end_matches('!').to_owned(),
                        !key.ends_with('!'),
                        value.to_owned(),
                    )
                })
                .collect::<Vec<_>>()
        };
        Ok(Selection {
            labels: terms(labels),
            fields: terms(fields),
        })
    }

    /// Whether nothing is left out.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object is selected.
    pub(crate) fn selects(&self, record: &Record) -> bool {
        let labels = self
            .labels
            .iter()
            .all(|(key, equal, value)| (record.facts.label(key) == Some(value)) == *equal);
        labels
            && self.fields.iter().all(|(key, equal, value)| {
                let own = match key.as_str() {
                    "metadata.name" => record.key.name.to_string(),
                    "metadata.namespace" => record.key.namespace.to_string(),
                    path => serde_json::from_slice(&record.value)
                        .map(|object| crate::record::field_text(&object, path))
                        .unwrap_or_default(),
                };
                (own == *value) == *equal
            })
    }
}
