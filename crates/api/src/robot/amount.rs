//! Amounts of processor, memory and disk as Kubernetes users write them: `250m`, `64Mi`, `2`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// An amount, kept as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Amount(pub String);

/// Suffixes and what they stand for, in thousandths.
const SUFFIXES: [(&str, u128); 13] = [
    ("Ki", 1024 * 1000),
    ("Mi", (1 << 20) * 1000),
    ("Gi", (1 << 30) * 1000),
    ("Ti", (1 << 40) * 1000),
    ("Pi", (1 << 50) * 1000),
    ("m", 1),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000),
    ("", 1000),
];

impl Amount {
    /// The amount in thousandths, rounded up; nothing if it is no amount.
    pub fn millis(&self) -> Option<u64> {
        let text = self.0.trim();
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (_, unit) = SUFFIXES.iter().find(|(known, _)| *known == suffix)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && part.is_empty()) || part.len() > 9 {
            return None;
        }
        let whole: u128 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        let mut total = whole.checked_mul(*unit)?;
        if !part.is_empty() {
            let scale = 10u128.pow(u32::try_from(part.len()).ok()?);
            let part: u128 = part.parse().ok()?;
            total = total.checked_add(part.checked_mul(*unit)?.div_ceil(scale))?;
        }
        u64::try_from(total).ok()
    }

    /// The amount in whole units, such as bytes, rounded up; nothing if it is no amount.
    pub fn units(&self) -> Option<u64> {
        self.millis().map(|millis| millis.div_ceil(1000))
    }
}

impl<'de> Deserialize<'de> for Amount {
    /// Numbers are as good as texts, as everywhere in Kubernetes.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            other => Err(serde::de::Error::custom(format!(
                "{other} is no amount: write a number with a unit, such as 250m or 64Mi"
            ))),
        }
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        for (text, millis) in [
            ("2", Some(2000)),
            ("250m", Some(250)),
            ("0.5", Some(500)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("64Mi", Some(67_108_864_000)),
            ("10k", Some(10_000_000)),
            ("", None),
            ("-1", None),
            ("five", None),
            ("99999999999999E", None),
        ] {
            assert_eq!(Amount(text.to_owned()).millis(), millis, "{text}");
        }
        let number: Amount = serde_json::from_str("3").unwrap();
        assert_eq!(number.units(), Some(3));
        assert!(serde_json::from_str::<Amount>("true").is_err());
    }
}
