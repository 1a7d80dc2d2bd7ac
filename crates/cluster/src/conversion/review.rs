//! ConversionReview: the question to a webhook, and its answer.

use serde::Deserialize;
use serde_json::Value;

use crate::object::{metadata_mut, name, namespace, text, uid};

const VERSION: &str = "apiextensions.k8s.io/v1";
const KIND: &str = "ConversionReview";

/// The question how objects, each written as JSON, look in a version.
pub(super) fn question(uid: &str, version: &str, objects: &[String]) -> String {
    let (uid, version) = (Value::from(uid), Value::from(version));
    format!(
        r#"{{"apiVersion":"{VERSION}","kind":"{KIND}","request":{{"uid":{uid},"desiredAPIVersion":{version},"objects":[{}]}}}}"#,
        objects.join(",")
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    #[serde(default)]
    converted_objects: Vec<Value>,
    #[serde(default)]
    result: Value,
}

/// Reads an answer. A webhook changes the shape of objects and at most their labels and
/// annotations; whatever else it says about what they are is not believed.
pub(super) fn read(
    bytes: &[u8],
    asked: &str,
    version: &str,
    objects: &[&mut Value],
) -> Result<Vec<Value>, String> {
    let review: Review = serde_json::from_slice(bytes)
        .map_err(|error| format!("the answer cannot be read: {error}"))?;
    if review.api_version != VERSION || review.kind != KIND {
        return Err(format!(
            "expected a {KIND} of {VERSION}, got {} of {}",
            review.kind, review.api_version
        ));
    }
    let response = review.response.ok_or("the answer has no response")?;
    if response.uid != asked {
        return Err(format!(
            "expected response.uid={asked:?}, got {:?}",
            response.uid
        ));
    }
    if response.result["status"] != "Success" {
        let why = text(&response.result, &["message"]);
        return Err(match why {
            "" => "it gave no reason".to_owned(),
            why => why.to_owned(),
        });
    }
    let (got, wanted) = (response.converted_objects.len(), objects.len());
    if got != wanted {
        return Err(format!("it returned {got} objects, not {wanted}"));
    }
    let pairs = response.converted_objects.into_iter().zip(objects);
    pairs
        .map(|(converted, object)| same_object(converted, object, version))
        .collect()
}

fn same_object(mut converted: Value, object: &Value, version: &str) -> Result<Value, String> {
    if converted["apiVersion"] != version || converted["kind"] != object["kind"] {
        return Err(format!(
            "it returned a {} of {}, not a {} of {version:?}",
            converted["kind"], converted["apiVersion"], object["kind"]
        ));
    }
    let is = |of: fn(&Value) -> &str| of(&converted) == of(object);
    if !(is(name) && is(namespace) && is(uid)) {
        return Err(format!("it made another object of {:?}", name(object)));
    }
    let said = converted["metadata"].take();
    let mut metadata = object["metadata"].clone();
    for key in ["labels", "annotations"] {
        match said.get(key) {
            Some(value) => metadata[key] = value.clone(),
            None => {
                metadata.as_object_mut().map(|map| map.remove(key));
            }
        }
    }
    *metadata_mut(&mut converted) = metadata.as_object().cloned().unwrap_or_default();
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_question_carries_the_objects_as_they_are() {
        let text = question("u", "x.io/v2", &[widget("v1").to_string()]);
        let asked: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(asked["kind"], KIND);
        let request =
            json!({"uid": "u", "desiredAPIVersion": "x.io/v2", "objects": [widget("v1")]});
        assert_eq!(asked["request"], request);
    }

    fn answer(objects: Value) -> Vec<u8> {
        json!({
            "apiVersion": VERSION, "kind": KIND,
            "response": {"uid": "u", "result": {"status": "Success"}, "convertedObjects": objects},
        })
        .to_string()
        .into_bytes()
    }

    fn widget(version: &str) -> Value {
        json!({
            "apiVersion": format!("x.io/{version}"), "kind": "Widget",
            "metadata": {"name": "w", "uid": "1", "generation": 3, "labels": {"a": "b"}},
        })
    }

    fn outcome(answered: Value) -> Result<Vec<Value>, String> {
        let mut before = widget("v1");
        read(&answer(json!([answered])), "u", "x.io/v2", &[&mut before])
    }

    #[test]
    fn a_webhook_changes_shape_and_labels_and_nothing_else() {
        let mut converted = widget("v2");
        converted["spec"] = json!({"size": 1});
        converted["metadata"]["labels"] = json!({"c": "d"});
        converted["metadata"]["generation"] = 99.into();
        let got = outcome(converted).expect("an answer").remove(0);
        assert_eq!(got["spec"], json!({"size": 1}));
        assert_eq!(got["metadata"]["labels"], json!({"c": "d"}));
        assert_eq!(got["metadata"]["generation"], 3);
    }

    #[test]
    fn a_webhook_cannot_make_another_object_of_one() {
        for (pointer, value) in [
            ("/metadata/name", "other"),
            ("/metadata/uid", "2"),
            ("/kind", "Gadget"),
            ("/apiVersion", "x.io/v3"),
        ] {
            let mut converted = widget("v2");
            *converted.pointer_mut(pointer).expect("a field") = value.into();
            assert!(outcome(converted).is_err(), "{pointer}");
        }
    }

    #[test]
    fn answers_that_are_none_are_told_apart() {
        let mut before = widget("v1");
        for (bytes, why) in [
            (b"{".to_vec(), "cannot be read"),
            (b"{}".to_vec(), "expected a ConversionReview"),
            (answer(json!([])), "0 objects, not 1"),
        ] {
            let error = read(&bytes, "u", "x.io/v2", &[&mut before]).expect_err("no answer");
            assert!(error.contains(why), "{error}");
        }
        let error = read(
            &answer(json!([widget("v2")])),
            "v",
            "x.io/v2",
            &[&mut before],
        );
        assert!(error.expect_err("no answer").contains("response.uid"));
    }
}
