//! Bytes read as choices, so that what is tried has a shape and every byte changes it.

use serde_json::{Map, Value, json};

/// Names that mean something to pods and to patches.
const NAMES: [&str; 24] = [
    "metadata",
    "labels",
    "spec",
    "containers",
    "name",
    "ports",
    "containerPort",
    "protocol",
    "env",
    "value",
    "volumes",
    "emptyDir",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "finalizers",
    "args",
    "a",
    "b",
    "tolerations",
    "op",
    "path",
    "from",
];
const TEXTS: [&str; 14] = [
    "a",
    "b",
    "",
    "main",
    "replace",
    "delete",
    "merge",
    "add",
    "remove",
    "/spec/containers/0",
    "/metadata/labels/a",
    "/",
    "/a~1b",
    "TCP",
];

/// What is left of the bytes.
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// All of them.
    pub(crate) fn of(bytes: &'a [u8]) -> Choices<'a> {
        Choices(bytes)
    }

    /// The next byte; zero when there are no more.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A number below a bound.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let number = usize::from(self.byte()) << 8 | usize::from(self.byte());
        if bound == 0 { 0 } else { number % bound }
    }

    fn one<'b>(&mut self, of: &[&'b str]) -> &'b str {
        of[usize::from(self.byte()) % of.len()]
    }

    /// Some of these words, one after the other.
    pub(crate) fn words(&mut self, words: &[&str]) -> String {
        let count = self.below(40);
        (0..count).map(|_| self.one(words)).collect()
    }

    /// Any JSON, so deep at most.
    pub(crate) fn json(&mut self, depth: u8) -> Value {
        match self.byte() % if depth == 0 { 5 } else { 8 } {
            0 => Value::Null,
            1 => json!(self.byte().is_multiple_of(2)),
            2 => json!(i64::from(self.byte()) - 100),
            3 => json!(f64::from(self.byte()) / 3.0),
            4 => json!(self.one(&TEXTS)),
            5 => {
                let count = self.byte() % 4;
                (0..count).map(|_| self.json(depth - 1)).collect()
            }
            _ => {
                let count = self.byte() % 5;
                let field = |_| (self.one(&NAMES).to_owned(), self.json(depth - 1));
                Value::Object((0..count).map(field).collect::<Map<_, _>>())
            }
        }
    }

    /// A pod, more or less.
    pub(crate) fn pod(&mut self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "labels": {"app": self.one(&TEXTS), "tier": self.json(1)}, "finalizers": self.json(2)},
            "spec": {
                "containers": [
                    {"name": "main", "ports": [{"containerPort": 80, "protocol": "TCP"}], "env": self.json(3)},
                    {"name": self.one(&TEXTS), "args": self.json(2)},
                ],
                "volumes": self.json(3), "tolerations": self.json(3),
            },
        })
    }

    /// A list of operations, or something that looks like a part of a pod.
    pub(crate) fn patch(&mut self) -> Value {
        if !self.byte().is_multiple_of(3) {
            return json!({"metadata": self.json(4), "spec": {"containers": self.json(4), "volumes": self.json(4)}, "a": self.json(2)});
        }
        let count = self.byte() % 6;
        let operation = |_| {
            json!({"op": self.one(&["add", "remove", "replace", "move", "copy", "test", "?"]), "path": self.one(&TEXTS),
                "from": self.one(&TEXTS), "value": self.json(3)})
        };
        (0..count).map(operation).collect()
    }
}
