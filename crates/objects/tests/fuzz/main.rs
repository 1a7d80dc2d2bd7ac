//! Fuzz targets for what reads bytes from outside: patches, selectors, protobuf bodies, CEL.
//!
//! `cargo test` runs each for a moment. For hours, and guided by coverage:
//! `cargo bolero test --package sandlot-objects patches` (with cargo-bolero installed).

mod choices;

use bolero::check;
use choices::Choices;
use sandlot_objects::{
    builtin,
    cel::Expression,
    patch, protobuf,
    selector::{FieldSelector, LabelSelector},
    shape::Shape,
};
use serde_json::Value;

/// The types of a pod, whose lists merge in every way there is.
fn pod() -> Shape<'static> {
    static POD: std::sync::OnceLock<std::sync::Arc<sandlot_objects::schema::Schema>> =
        std::sync::OnceLock::new();
    let schema = POD.get_or_init(|| builtin::schema("io.k8s.api.core.v1.Pod").unwrap().clone());
    Shape::object(schema, builtin::types())
}

#[test]
fn patches() {
    check!().for_each(|bytes: &[u8]| {
        let mut choices = Choices::of(bytes);
        let (object, change) = (choices.pod(), choices.patch());
        let _ = patch::json::apply(&object, &change);
        if let Ok(merged) = patch::merge::apply(&object, &change) {
            // Merging the same twice changes nothing more.
            assert_eq!(patch::merge::apply(&merged, &change), Ok(merged));
        }
        let _ = patch::strategic::apply(pod(), &object, &change);
    });
}

#[test]
fn selectors() {
    check!().for_each(|bytes: &[u8]| {
        let mut choices = Choices::of(bytes);
        let text = choices.words(&[
            "app", "tier", "!", "=", "==", "!=", " in ", " notin ", "(", ")", ",", "a", "b", "\\",
            ">", "<", "1",
        ]);
        let object = choices.pod();
        if let Ok(selector) = LabelSelector::parse(&text) {
            selector.matches(&object);
        }
        let _ = FieldSelector::parse(&text);
        let _ = LabelSelector::from_object(Some(&choices.json(4)));
        if let Ok(raw) = std::str::from_utf8(bytes) {
            let _ = LabelSelector::parse(raw);
            let _ = FieldSelector::parse(raw);
        }
    });
}

#[test]
fn protobuf_bodies() {
    let recorded: Vec<Vec<u8>> =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protobuf"))
            .unwrap()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "pb"))
            .map(|path| std::fs::read(path).unwrap())
            .collect();
    check!().for_each(|bytes: &[u8]| {
        let _ = protobuf::decode(bytes);
        let mut choices = Choices::of(bytes);
        let mut body = recorded[choices.below(recorded.len())].clone();
        for _ in 0..choices.below(8) {
            let at = choices.below(body.len());
            body[at] = choices.byte();
        }
        body.truncate(body.len() - choices.below(body.len() / 2));
        let _ = protobuf::decode(&body);
    });
}

#[test]
fn cel() {
    const WORDS: [&str; 32] = [
        "self",
        "self.a",
        "self.b",
        "oldSelf",
        ".size()",
        ".all(x, ",
        ".exists(x, ",
        ".map(x, ",
        ".filter(x, ",
        "x",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        " + ",
        " * ",
        " / ",
        " && ",
        " || ",
        " ? ",
        " == ",
        " < ",
        "!",
        "1",
        "0",
        "'a'",
        "null",
        ".matches('a+')",
    ];
    check!().for_each(|bytes: &[u8]| {
        let mut choices = Choices::of(bytes);
        let text = choices.words(&WORDS);
        let object: Value = choices.json(4);
        if let Ok(expression) = Expression::compile(&text, &["self", "oldSelf"]) {
            let this = sandlot_objects::cel::of_json(&object);
            let mut budget = 10_000;
            let _ = expression.evaluate(&[("self", this.clone()), ("oldSelf", this)], &mut budget);
            assert!(budget <= 10_000, "evaluating never earns budget");
        }
        if let Ok(raw) = std::str::from_utf8(bytes) {
            let _ = Expression::compile(raw, &["self"]);
        }
    });
}
