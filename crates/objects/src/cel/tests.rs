//! Rules as a user meets them: what they say of an object, and what they may not do.

use std::{sync::Arc, time::Instant};

use proptest::prelude::{Just, ProptestConfig, any, prop, prop_assert, prop_oneof, proptest};
use serde_json::{Value, json};

use super::*;
use crate::schema::{Cause, Path, Schema};

fn broken(schema: Value, object: Value, old: Option<Value>) -> Vec<String> {
    let schema = Arc::new(Schema::from_json(&schema));
    Rules::compile(&schema)
        .check(&object, old.as_ref())
        .iter()
        .map(Cause::to_string)
        .collect()
}

/// A schema with one rule on `spec`.
fn on_spec(rule: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "min": {"type": "integer"}, "max": {"type": "integer"},
        "size": {"type": "number"}, "when": {"type": "string", "format": "date-time"},
        "wait": {"type": "string", "format": "duration"}, "name-x": {"type": "string"}, "namespace": {"type": "string"},
        "under_score": {"type": "string"}, "port": {"x-kubernetes-int-or-string": true},
        "tags": {"type": "array", "items": {"type": "string"}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
    }, "x-kubernetes-validations": [rule]}}})
}

#[test]
fn a_broken_rule_is_told_in_kubernetes_words() {
    let cases: Vec<(Value, Value, &[&str])> = vec![
        (
            json!({"rule": "self.min <= self.max"}),
            json!({"min": 1, "max": 2}),
            &[],
        ),
        (
            json!({"rule": "self.min <= self.max"}),
            json!({"min": 3, "max": 2}),
            &[r#"spec: Invalid value: "object": failed rule: self.min <= self.max"#],
        ),
        (
            json!({"rule": "self.min <= self.max", "message": "min must not exceed max"}),
            json!({"min": 3, "max": 2}),
            &[r#"spec: Invalid value: "object": min must not exceed max"#],
        ),
        (
            json!({"rule": "self.min <= self.max", "messageExpression": "'min ' + string(self.min) + ' exceeds ' + string(self.max)",
                "fieldPath": ".min", "reason": "FieldValueForbidden"}),
            json!({"min": 3, "max": 2}),
            &["spec.min: Forbidden: min 3 exceeds 2"],
        ),
        (
            json!({"rule": "self.min <= self.max", "messageExpression": "'a\\nb'", "message": "plain"}),
            json!({"min": 3, "max": 2}),
            &[r#"spec: Invalid value: "object": plain"#],
        ),
        (
            json!({"rule": "self.min <= self.max"}),
            json!({"min": 3}),
            &[
                r#"spec: Invalid value: "object": no such key: max evaluating rule: self.min <= self.max"#,
            ],
        ),
        (
            json!({"rule": "!has(self.max) || self.min <= self.max"}),
            json!({"min": 3}),
            &[],
        ),
        (json!({"rule": "self.size > 1.5"}), json!({"size": 2}), &[]),
        (
            json!({"rule": "self.min + 1 == 4"}),
            json!({"min": 3.0}),
            &[],
        ),
        (
            json!({"rule": "self.when > timestamp('2020-01-01T00:00:00Z')"}),
            json!({"when": "2026-01-01T00:00:00Z"}),
            &[],
        ),
        (
            json!({"rule": "self.wait <= duration('1h')"}),
            json!({"wait": "30m"}),
            &[],
        ),
        (
            json!({"rule": "self.name__dash__x == 'a' && self.__namespace__ == 'b' && self.under_score == 'c'"}),
            json!({"name-x": "a", "namespace": "b", "under_score": "c"}),
            &[],
        ),
        (
            json!({"rule": "type(self.port) == int ? self.port > 0 : self.port.endsWith('%')"}),
            json!({"port": "5%"}),
            &[],
        ),
        (
            json!({"rule": "self.tags.all(t, t.matches('^[a-z]+$'))"}),
            json!({"tags": ["a", "b"]}),
            &[],
        ),
        (
            json!({"rule": "self.tags.exists_one(t, t == 'a') && self.tags.map(t, t + 'x').join(',') == 'ax,bx'"}),
            json!({"tags": ["a", "b"]}),
            &[],
        ),
        (
            json!({"rule": "self.map.all(k, self.map[k] == k)"}),
            json!({"map": {"a": "a", "b-c": "b-c"}}),
            &[],
        ),
        (
            json!({"rule": "quantity('1Gi').isGreaterThan(quantity('500Mi')) && isURL('https://a.b') && ip('10.0.0.1').family() == 4"}),
            json!({}),
            &[],
        ),
        (
            json!({"rule": "'%d of %s'.format([1, 'x']) == '1 of x' && lists.range(3) == [0, 1, 2]"}),
            json!({}),
            &[],
        ),
        (
            json!({"rule": "self.?min.orValue(7) == 7 && self.tags.size() == 0 || true"}),
            json!({}),
            &[],
        ),
    ];
    for (rule, spec, expected) in cases {
        assert_eq!(
            broken(on_spec(rule.clone()), json!({"spec": spec}), None),
            expected,
            "{rule}"
        );
    }
}

#[test]
fn a_transition_rule_runs_where_there_is_an_old_value() {
    let fixed = json!({"rule": "self == oldSelf", "message": "immutable"});
    let schema = json!({"type": "object", "properties": {
        "name": {"type": "string", "x-kubernetes-validations": [fixed]},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
            "items": {"type": "object", "properties": {"n": {"type": "string"}, "p": {"type": "integer",
                "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "may only grow"}]}}}},
    }});
    assert_eq!(broken(schema.clone(), json!({"name": "a"}), None), [""; 0]);
    assert_eq!(
        broken(schema.clone(), json!({"name": "a"}), Some(json!({}))),
        [""; 0]
    );
    assert_eq!(
        broken(
            schema.clone(),
            json!({"name": "b"}),
            Some(json!({"name": "a"}))
        ),
        [r#"name: Invalid value: "string": immutable"#]
    );
    let old = json!({"ports": [{"n": "x", "p": 5}, {"n": "y", "p": 6}]});
    let new = json!({"ports": [{"n": "z", "p": 1}, {"n": "y", "p": 6}, {"n": "x", "p": 4}]});
    assert_eq!(
        broken(schema, new, Some(old)),
        [r#"ports[2].p: Invalid value: "integer": may only grow"#]
    );
}

#[test]
fn an_optional_old_value_can_be_asked_for() {
    let rule = json!({"rule": "oldSelf.hasValue() ? self.min >= oldSelf.value().min : self.min == 0", "optionalOldSelf": true,
        "message": "starts at 0 and grows"});
    let spec = |min: i64| json!({"spec": {"min": min}});
    assert_eq!(broken(on_spec(rule.clone()), spec(0), None), [""; 0]);
    assert_eq!(broken(on_spec(rule.clone()), spec(1), None).len(), 1);
    assert_eq!(
        broken(on_spec(rule.clone()), spec(2), Some(spec(1))),
        [""; 0]
    );
    assert_eq!(broken(on_spec(rule), spec(0), Some(spec(1))).len(), 1);
}

#[test]
fn an_unchanged_value_is_not_held_against_a_new_rule() {
    let rule = json!({"rule": "self.min > 10"});
    let object = json!({"spec": {"min": 1}});
    assert_eq!(
        broken(on_spec(rule.clone()), object.clone(), Some(object)),
        [""; 0]
    );
    let other = json!({"spec": {"min": 2}});
    assert_eq!(
        broken(on_spec(rule), json!({"spec": {"min": 1}}), Some(other)).len(),
        1
    );
}

/// What is wrong with a rule on a value of this shape.
fn refused(schema: Value, rule: Value) -> Vec<String> {
    let schema = Schema::from_json(&schema);
    let place = Place {
        schema: &schema,
        count: 1,
        correlatable: true,
    };
    let (causes, _) = check_rule(&Path::of("r"), &rule, place);
    causes.iter().map(Cause::to_string).collect()
}

#[test]
fn a_rule_that_cannot_work_is_refused() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}, "l": {"type": "array", "items": {"type": "string"}}}});
    let cases: &[(Value, &str)] = &[
        (
            json!({"rule": ""}),
            "r.rule: Required value: rule is not specified",
        ),
        (
            json!({"rule": "self.b > 1"}),
            r#"r.rule: Invalid value: "self.b > 1": compilation failed: undefined field 'b'"#,
        ),
        (
            json!({"rule": "object.a > 1"}),
            r#"r.rule: Invalid value: "object.a > 1": compilation failed: undeclared reference to 'object' (in container '')"#,
        ),
        (
            json!({"rule": "nope(self.a)"}),
            r#"r.rule: Invalid value: "nope(self.a)": compilation failed: undeclared reference to 'nope' (in container '')"#,
        ),
        (
            json!({"rule": "self.a >"}),
            r#"r.rule: Invalid value: "self.a >": compilation failed: "#,
        ),
        (
            json!({"rule": "true", "reason": "Because"}),
            r#"r.reason: Unsupported value: "Because": supported values: "#,
        ),
        (
            json!({"rule": "true", "message": " "}),
            "r.message: Invalid value",
        ),
        (
            json!({"rule": "true", "fieldPath": ".nope"}),
            "r.fieldPath: Invalid value",
        ),
        (
            json!({"rule": "true", "fieldPath": "a"}),
            "r.fieldPath: Invalid value",
        ),
        (
            json!({"rule": "true", "messageExpression": "self.b"}),
            "r.messageExpression: Invalid value",
        ),
        (
            json!({"rule": "true", "optionalOldSelf": true}),
            "r.optionalOldSelf: Invalid value",
        ),
        (
            json!({"rule": "Message{a: 1} == 1"}),
            "r.rule: Invalid value",
        ),
        (
            json!({"rule": "self.l.all(x, self.l.all(y, x == y))"}),
            "r.rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x",
        ),
    ];
    for (rule, expected) in cases {
        let told = refused(schema.clone(), rule.clone());
        assert_eq!(told.len(), 1, "{rule}: {told:?}");
        assert!(told[0].starts_with(expected), "{rule}: {}", told[0]);
    }
    let bounded =
        json!({"type": "array", "maxItems": 50, "items": {"type": "string", "maxLength": 20}});
    assert_eq!(
        refused(
            bounded,
            json!({"rule": "self.all(x, self.exists_one(y, x == y))"})
        ),
        [""; 0]
    );
    let schema = Schema::from_json(&json!({"type": "string"}));
    let place = Place {
        schema: &schema,
        count: 1,
        correlatable: false,
    };
    assert_eq!(
        check_rule(&Path::of("r"), &json!({"rule": "self == oldSelf"}), place)
            .0
            .len(),
        1
    );
}

#[test]
fn an_expression_made_to_break_the_server_does_not() {
    let long: Vec<String> = (0..400).map(|_| "x".to_owned()).collect();
    let list = json!(long);
    let bombs = [
        // time: loops in loops
        "self.all(a, self.all(b, self.all(c, self.all(d, a == b || c == d || true))))".to_owned(),
        // memory: doubling
        format!("{}'x'{}", "[".repeat(20), "].map(a, a + a)".repeat(20)),
        "['xxxxxxxxxxxxxxxx'].map(a,[a+a+a+a].map(b,[b+b+b+b].map(c,[c+c+c+c].map(d,[d+d+d+d].map(e,[e+e+e+e].map(f,[f+f+f+f+f].map(g,[g+g+g+g].map(h,h+h+h+h)))))))).size() == 0".to_owned(),
        // one call with a huge result
        "lists.range(1000000000).size() > 0".to_owned(),
        "self.join(',').replace('', self.join(',')).replace('', self.join(',')).replace('', self.join(',')).size() > 0".to_owned(),
        "'%.1000000000f'.format([1.0]) == ''".to_owned(),
        // expressions that cost a lot to compile
        "self.all(x, x.matches('((((a{100}){100}){100}){100})'))".to_owned(),
        "self.all(x, x.matches('((a{50}){20})' + string(self.indexOf(x)) + x + x))".to_owned(),
        // many small things out of one large
        "self.join(',').split('').map(x, x.split('')).size() > 0".to_owned(),
        "self.all(x, x.find('(((a{50}){50}){50})' + x) == '')".to_owned(),
        // the failure hidden
        "self.all(a, self.all(b, self.all(c, self.all(d, false) || true) || true) || true) || true".to_owned(),
        // the stack
        format!("{}true", "!".repeat(500)),
        format!("1{} > 0", "+1".repeat(400)),
        format!("{}1{} > 0", "(".repeat(20), ")".repeat(20)),
        format!("{}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("{}1{}", "[".repeat(3000), "]".repeat(3000)),
        format!("self{}", ".a".repeat(4000)),
        format!("self{}", "[0]".repeat(2000)),
        format!("{}true", "true ? ".repeat(300) + &"true : ".repeat(300)),
        format!("true{}", " || true".repeat(200)),
    ];
    for bomb in bombs {
        // A server's threads have 2 MiB of stack; so has this one.
        let (list, text) = (list.clone(), bomb.clone());
        let worker = std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(move || {
                let start = Instant::now();
                let _ = refused(
                    json!({"type": "array", "items": {"type": "string"}}),
                    json!({"rule": text}),
                );
                if let Ok(expression) = Expression::compile(&text, &["self"]) {
                    let _ = expression.evaluate(&[("self", of_json(&list))], &mut 50_000);
                }
                start.elapsed()
            });
        let took = worker.unwrap().join().unwrap();
        assert!(
            took.as_secs() < 20,
            "{took:?} for {}",
            &bomb[..bomb.len().min(60)]
        );
    }
}

#[test]
fn what_runs_out_of_budget_says_so_even_if_the_expression_hides_it() {
    let text = "self.all(a, self.all(b, self.all(c, a + b + c < 0 || true))) || true";
    let expression = Expression::compile(text, &["self"]).unwrap();
    let items: Vec<u32> = (0..500).collect();
    let mut budget = 50_000;
    let answer = expression.evaluate(&[("self", of_json(&json!(items)))], &mut budget);
    assert!(matches!(answer, Err(EvaluationError::TooCostly)));
    assert_eq!(budget, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_makes_the_compiler_fall_over(
        words in prop::collection::vec(prop_oneof![
            prop_oneof![Just("self"), Just("oldSelf"), Just("x"), Just(".all(x,"), Just("has("), Just(".map(x,"), Just("size(")],
            prop_oneof![Just("("), Just(")"), Just("["), Just("]"), Just("{"), Just("}"), Just("?"), Just(":"), Just(","), Just(".")],
            prop_oneof![Just("+"), Just("-"), Just("=="), Just("&&"), Just("||"), Just("!"), Just(" in "), Just("'a'"), Just("1"), Just("1.5"), Just("b'a'"), Just("{'a':1}")],
        ], 0..24),
        noise in "\\PC{0,8}",
    ) {
        let text = words.concat() + &noise;
        if let Ok(expression) = Expression::compile(&text, &["self", "oldSelf"]) {
            let mut budget = 100_000;
            let _ = expression.evaluate(&[("self", of_json(&json!({"a": [1, "b", null]})))], &mut budget);
        }
    }

    #[test]
    fn a_value_that_expressions_see_is_the_value_that_was_sent(value in any::<i64>(), text in "[a-z]{0,8}") {
        let object = json!({"n": value, "t": text, "l": [value]});
        let expression = Expression::compile("self.n == self.l[0] && self.t + '' == self.t", &["self"]).unwrap();
        let mut budget = 10_000;
        let answer = expression.evaluate(&[("self", of_json(&object))], &mut budget);
        prop_assert!(matches!(answer, Ok(super::Value::Bool(true))));
    }
}
