use proptest::prelude::*;
use serde_json::{Value, json};

use super::{FieldSelector, LabelSelector, text_at};

fn labelled(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

#[test]
fn label_selectors_select() {
    let object = labelled(json!({"app": "web", "tier": "front", "n": "5", "empty": ""}));
    let cases = [
        ("", true),
        ("app", true),
        ("!app", false),
        ("nope", false),
        ("!nope", true),
        ("! nope", true),
        ("app=web", true),
        ("app==web", true),
        ("app = web , tier=front", true),
        ("app=web,tier=back", false),
        ("app!=web", false),
        ("app!=db", true),
        ("nope!=x", true),
        ("app in (web,db)", true),
        ("app in (db)", false),
        ("app notin (db, cache)", true),
        ("nope notin (x)", true),
        ("app notin (web)", false),
        ("n>4", true),
        ("n>5", false),
        ("n<6,n>4", true),
        ("app>4", false),
        ("empty=", true),
        ("empty in (,a)", true),
        ("empty in (a,)", true),
        ("app=,tier", false),
        ("in in (in)", false),
    ];
    for (text, expected) in cases {
        let selector = LabelSelector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(selector.matches(&object), expected, "{text}");
    }
    assert!(LabelSelector::parse("app!=x").unwrap().matches(&json!({})));
}

#[test]
fn wrong_label_selectors_are_refused_in_the_words_of_kubernetes() {
    let cases = [
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("a=b,", "found '', expected: identifier after ','"),
        (
            ",a",
            "found ',', expected: !, identifier, or 'end of string'",
        ),
        (
            "a in b",
            "unable to parse requirement: found 'b', expected: '('",
        ),
        (
            "a in (b",
            "unable to parse requirement: found '', expected: ',' or ')'",
        ),
        (
            "a b",
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
        ),
        (
            "!",
            "unable to parse requirement: found '', expected: identifier",
        ),
        (
            "a=(",
            "unable to parse requirement: found '(', expected: identifier",
        ),
        (
            "a in ()",
            "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, \
             values set can't be empty",
        ),
        (
            "a>b",
            "unable to parse requirement: values[0]: Invalid value: [\"b\"]: for 'Gt', 'Lt' \
             operators, the value must be an integer",
        ),
        (
            "a=b@c",
            "unable to parse requirement: values[0][a]: Invalid value: \"b@c\": a valid label must \
             be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or \
             '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (
            "/a=b",
            "unable to parse requirement: <nil>: Invalid value: \"/a\": prefix part must be \
             non-empty",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            LabelSelector::parse(text).unwrap_err().to_string(),
            expected,
            "{text}"
        );
    }
    assert!(LabelSelector::parse(&"a,".repeat(40_000)).is_err());
}

#[test]
fn selector_objects_select() {
    let object = labelled(json!({"app": "web", "tier": "front"}));
    let cases = [
        (json!({}), true),
        (json!({"matchLabels": {"app": "web"}}), true),
        (json!({"matchLabels": {"app": "db"}}), false),
        (
            json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}),
            true,
        ),
        (
            json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}),
            true,
        ),
        (
            json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["front"]}]}),
            false,
        ),
        (
            json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]}),
            false,
        ),
    ];
    for (selector, expected) in cases {
        let read = LabelSelector::from_object(Some(&selector)).unwrap();
        assert_eq!(read.matches(&object), expected, "{selector}");
    }
    assert!(!LabelSelector::from_object(None).unwrap().matches(&object));
    let wrong = json!({"matchExpressions": [{"key": "x", "operator": "Gt"}]});
    assert_eq!(
        LabelSelector::from_object(Some(&wrong))
            .unwrap_err()
            .to_string(),
        "\"Gt\" is not a valid label selector operator"
    );
}

#[test]
fn field_selectors_select() {
    let pod = json!({"metadata": {"name": "a", "namespace": "x"}, "status": {"phase": "Running"},
                     "spec": {"odd": "a,b=c\\d", "on": true}});
    let cases = [
        ("", true),
        ("metadata.name=a", true),
        ("metadata.name==a,status.phase!=Pending", true),
        ("metadata.name!=a", false),
        ("spec.nodeName=", true),
        ("spec.nodeName!=", false),
        ("spec.odd=a\\,b\\=c\\\\d", true),
        ("spec.on=true", true),
        (",metadata.name=a,", true),
    ];
    for (text, expected) in cases {
        let selector = FieldSelector::parse(text).unwrap();
        assert_eq!(
            selector.matches(|field| text_at(&pod, field)),
            expected,
            "{text}"
        );
    }
    let selector = FieldSelector::parse("metadata.name=a,x!=b").unwrap();
    assert_eq!(selector.exact("metadata.name"), Some("a"));
    assert_eq!(selector.exact("x"), None);
}

#[test]
fn wrong_field_selectors_are_refused_in_the_words_of_kubernetes() {
    let cases = [
        (
            "metadata.name",
            "invalid selector: 'metadata.name'; can't understand 'metadata.name'",
        ),
        (
            "a=b\\c",
            "invalid field selector: invalid escape sequence: \\c",
        ),
        (
            "a=b=c",
            "invalid field selector: unescaped character in value: =",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            FieldSelector::parse(text).unwrap_err().to_string(),
            expected
        );
    }
    let selector = FieldSelector::parse("spec.foo=1").unwrap();
    let error = selector
        .check(|field| field == "metadata.name")
        .unwrap_err();
    assert_eq!(error.to_string(), "field label not supported: spec.foo");
}

proptest! {
    #[test]
    fn a_selector_that_is_read_prints_as_one_that_means_the_same(text in "[ab!=<>(), 0-9inot]{0,24}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        }
        if let Ok(selector) = FieldSelector::parse(&text) {
            prop_assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
        }
    }

    #[test]
    fn reading_never_crashes(text in any::<String>()) {
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
    }
}
