//! JSON from outside: bounded in depth, with the fields that stand twice told.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::path::Path;

/// How deep lists and objects may nest. No Kubernetes type comes near it.
pub const MAX_DEPTH: usize = 100;

/// How many doubled fields are told; a body made of nothing else must not fill memory with paths.
const MAX_DUPLICATES: usize = 100;

/// Reads JSON and tells the paths of fields that stand twice in one object; the last one counts.
///
/// Fails on what is not JSON, nests deeper than [`MAX_DEPTH`] or has text after the value.
pub fn parse_strict(bytes: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut walk = Walk {
        path: Path::root(),
        depth: 0,
        duplicates: Vec::new(),
    };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Seed(&mut walk).deserialize(&mut reader)?;
    reader.end()?;
    Ok((value, walk.duplicates))
}

struct Walk {
    path: Path,
    depth: usize,
    duplicates: Vec<String>,
}

impl Walk {
    fn down<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(E::custom(format_args!("exceeded max depth of {MAX_DEPTH}")));
        }
        Ok(())
    }
}

struct Seed<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let walk = self.0;
        walk.down()?;
        let mut items = Vec::new();
        loop {
            let mark = walk.path.push_index(items.len());
            let item = access.next_element_seed(Seed(walk))?;
            walk.path.cut(mark);
            let Some(item) = item else { break };
            items.push(item);
        }
        walk.depth -= 1;
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let walk = self.0;
        walk.down()?;
        let mut fields = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let mark = walk.path.push(&name);
            let value = access.next_value_seed(Seed(walk))?;
            if fields.contains_key(&name) && walk.duplicates.len() < MAX_DUPLICATES {
                let path = walk.path.to_string();
                if !walk.duplicates.contains(&path) {
                    walk.duplicates.push(path);
                }
            }
            walk.path.cut(mark);
            fields.insert(name, value);
        }
        walk.depth -= 1;
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_of_two_fields_counts_and_both_are_told() {
        let (value, twice) =
            parse_strict(br#"{"a":1,"spec":{"x":1,"l":[{"k":1,"k":2}],"x":2},"a":3}"#).unwrap();
        assert_eq!(value, json!({"a": 3, "spec": {"x": 2, "l": [{"k": 2}]}}));
        assert_eq!(twice, ["spec.l[0].k", "spec.x", "a"]);
    }

    #[test]
    fn what_is_too_deep_is_refused() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse_strict(deep(MAX_DEPTH).as_bytes()).is_ok());
        let error = parse_strict(deep(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        assert!(error.to_string().contains("exceeded max depth"), "{error}");
        assert!(parse_strict("[".repeat(1 << 20).as_bytes()).is_err());
    }

    #[test]
    fn what_follows_the_value_is_refused() {
        assert!(parse_strict(br#"{} {}"#).is_err());
        assert!(parse_strict(b"").is_err());
        assert!(parse_strict(b"\"\xff\"").is_err());
        assert!(parse_strict(br#"{"a":1e999}"#).is_err());
    }
}
