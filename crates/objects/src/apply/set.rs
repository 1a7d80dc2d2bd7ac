//! Sets of fields: which places of an object somebody owns.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

/// One step from a value to a value inside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    /// The field of an object.
    Field(Box<str>),
    /// The item of a list that has these keys: an object as JSON text, its names in order.
    Key(Box<str>),
    /// The item of a list of plain values: the value as JSON text.
    Value(Box<str>),
    /// The item of a list at this place.
    Index(usize),
}

impl PathElement {
    /// The step to a field.
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// The step to the list item with these keys.
    pub fn key(keys: &BTreeMap<&str, &Value>) -> Self {
        let pairs: Vec<String> = keys
            .iter()
            .map(|(name, value)| format!("{}:{value}", Value::from(*name)))
            .collect();
        Self::Key(format!("{{{}}}", pairs.join(",")).into())
    }

    /// The step to a plain value in a list.
    pub fn value(value: &Value) -> Self {
        Self::Value(value.to_string().into())
    }
}

/// Paths are shown as Kubernetes shows them: `.spec.containers[name="a"].image`.
impl fmt::Display for PathElement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(out, ".{name}"),
            Self::Value(text) => write!(out, "[={text}]"),
            Self::Index(place) => write!(out, "[{place}]"),
            Self::Key(text) => {
                let keys: BTreeMap<String, Value> = serde_json::from_str(text).unwrap_or_default();
                let pairs: Vec<String> = keys
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                write!(out, "[{}]", pairs.join(","))
            }
        }
    }
}

/// A set of places in an object, as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    steps: BTreeMap<PathElement, Node>,
}

/// What a set says of one place: whether it is a member, and what is below it. A node that
/// says neither does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) member: bool,
    pub(crate) below: FieldSet,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    /// Whether the place counts as owned: it is a member, or it is a field of the type
    /// (which nobody owns by itself) and something inside it is a member.
    pub(crate) fn owned(&self, named_field: bool) -> bool {
        self.member || (named_field && !self.below.is_empty())
    }
}

impl FieldSet {
    pub(crate) const EMPTY: Self = Self {
        steps: BTreeMap::new(),
    };

    /// The set with these paths of field names.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<_> = path.iter().map(|name| PathElement::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    /// Whether the set has no member.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether the place at `path` is a member.
    pub fn contains(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.get(last).is_some_and(|node| node.member),
            [first, rest @ ..] => self
                .get(first)
                .is_some_and(|node| node.below.contains(rest)),
        }
    }

    /// Adds the place at `path`. The object itself, at the empty path, is never a member.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        let mut set = self;
        for parent in parents {
            set = &mut set.steps.entry(parent.clone()).or_default().below;
        }
        set.steps.entry(last.clone()).or_default().member = true;
    }

    /// Adds all members of `other`.
    pub fn extend(&mut self, other: &Self) {
        for (step, theirs) in &other.steps {
            let ours = self.steps.entry(step.clone()).or_default();
            ours.member |= theirs.member;
            ours.below.extend(&theirs.below);
        }
    }

    /// The places that are members of both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut common = Self::default();
        for (step, ours) in &self.steps {
            let Some(theirs) = other.get(step) else {
                continue;
            };
            let node = Node {
                member: ours.member && theirs.member,
                below: ours.below.intersection(&theirs.below),
            };
            if !node.is_empty() {
                common.steps.insert(step.clone(), node);
            }
        }
        common
    }

    /// Takes the members of `other` out, each by itself: what is below one stays.
    pub fn subtract(&mut self, other: &Self) {
        for (step, theirs) in &other.steps {
            let Some(ours) = self.steps.get_mut(step) else {
                continue;
            };
            ours.member &= !theirs.member;
            ours.below.subtract(&theirs.below);
            if ours.is_empty() {
                self.steps.remove(step);
            }
        }
    }

    /// Takes the members of `other` out, together with all that is below them.
    pub fn subtract_trees(&mut self, other: &Self) {
        for (step, theirs) in &other.steps {
            if theirs.member {
                self.steps.remove(step);
                continue;
            }
            let Some(ours) = self.steps.get_mut(step) else {
                continue;
            };
            ours.below.subtract_trees(&theirs.below);
            if ours.is_empty() {
                self.steps.remove(step);
            }
        }
    }

    /// Keeps only what is at or below the field `name` of the object.
    pub fn retain_field(&mut self, name: &str) {
        self.steps
            .retain(|step, _| matches!(step, PathElement::Field(field) if **field == *name));
    }

    /// Every member, as Kubernetes shows paths, in order.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        for (step, node) in &self.steps {
            let path = format!("{prefix}{step}");
            if node.member {
                paths.push(path.clone());
            }
            node.below.collect_paths(&path, paths);
        }
    }

    pub(crate) fn get(&self, step: &PathElement) -> Option<&Node> {
        self.steps.get(step)
    }

    pub(crate) fn steps(&self) -> impl Iterator<Item = (&PathElement, &Node)> {
        self.steps.iter()
    }

    pub(crate) fn put(&mut self, step: PathElement, node: Node) {
        if !node.is_empty() {
            self.steps.insert(step, node);
        }
    }
}
