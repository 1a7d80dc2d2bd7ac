//! How long an expression can hold a processor: no longer than its budget lasts.
//!
//! `cargo test --release -p sandlot-objects --test cel_time -- --nocapture` prints what each
//! costs. Without optimization it would say nothing about time, and take minutes.

use std::fs;
use std::time::Duration;

use sandlot_objects::cel::{self, EvaluationError, Expression};
use serde_json::json;

/// What one validation of an object, or one policy, may spend.
const BUDGET: u64 = 1_000_000;
/// A processor's second.
const LIMIT: Duration = Duration::from_secs(1);

/// Expressions that would go on for minutes: what is inside a loop of a billion steps.
const NASTY: &[&str] = &[
    "true",
    "self.long == self.long",
    "self.numbers == self.numbers",
    "self.words.exists(word, word == 'zzz')",
    "self.long.contains('b')",
    "self.long.matches('(a|aa)+(a|aa)+(a|aa)+b$')",
    "self.word.matches('^([a-z]+)+$')",
    "self.long.find('[b-z]+') == 'x'",
    "self.long.findAll('a').size() > 0",
    "self.long.replace('a', 'bb').size() > 0",
    "self.long.split('a').size() > 0",
    "self.words.join('--').size() > 0",
    "self.long.indexOf('aaab') > 0",
    "(self.long + self.long).size() > 0",
    "(self.numbers + self.numbers).size() > 0",
    "self.numbers.map(number, number * 2).size() > 0",
    "self.numbers.filter(number, number > 3).size() > 0",
    "self.numbers.sort().size() > 0",
    "self.words.isSorted()",
    "self.numbers.sum() > 0",
    "self.numbers.distinct().size() > 0",
    "sets.contains(self.numbers, self.numbers)",
    "5000 in self.numbers",
    "self.map.all(key, self.map[key] == 1)",
    "quantity(self.quantity).isGreaterThan(quantity('1'))",
    "url(self.url).getHost() == 'x'",
    "ip(self.ip).isLoopback()",
    "string(self.numbers[7]) + self.long == 'x'",
    "[self.long, self.long, self.long].size() > 0",
    "{'a': self.map, 'b': self.map}.size() > 0",
    "timestamp(self.time) > timestamp('2020-01-01T00:00:00Z')",
    "duration('1h') > duration(self.duration)",
    "self.long.lowerAscii().upperAscii().size() > 0",
    "self.long.reverse().size() > 0",
    "'%s %d'.format([self.long, 3]).size() > 0",
    "base64.encode(bytes(self.long)).size() > 0",
];

#[test]
#[cfg_attr(debug_assertions, ignore = "says something with --release alone")]
fn no_expression_holds_a_processor_for_longer_than_its_budget_lasts() {
    let object = cel::of_json(&json!({
        "long": "a".repeat(100_000),
        "word": "a".repeat(200),
        "numbers": (0..10_000).collect::<Vec<_>>(),
        "words": (0..2_000).map(|n| format!("word-{n}")).collect::<Vec<_>>(),
        "map": (0..2_000).map(|n| (format!("key-{n}"), 1)).collect::<std::collections::BTreeMap<_, _>>(),
        "quantity": "1500m", "url": "https://example.com/path", "ip": "10.0.0.1",
        "time": "2026-01-01T00:00:00Z", "duration": "90s",
    }));
    let steps = "self.numbers.all(a, self.numbers.all(b, ";
    let mut ran = 0;
    for nasty in NASTY {
        // Whatever it comes to, the loops go on.
        let text = format!("{steps}[{nasty}].size() == 1))");
        let Ok(expression) = Expression::compile(&text, &["self"]) else {
            println!("{:>10}  {nasty}", "no such");
            continue;
        };
        let mut budget = BUDGET;
        let began = processor_time();
        let outcome = expression.evaluate(&[("self", object.clone())], &mut budget);
        let took = processor_time() - began;
        println!("{:>7} ms  {nasty}", took.as_millis());
        assert!(took < LIMIT, "{nasty} took {took:?}");
        if matches!(outcome, Err(EvaluationError::TooCostly)) {
            ran += 1;
        }
    }
    assert!(
        ran > NASTY.len() / 2,
        "only {ran} ran until they were stopped"
    );
}

/// How long this thread has been on a processor: others may keep the machine busy.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    let nanos = stat.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}
