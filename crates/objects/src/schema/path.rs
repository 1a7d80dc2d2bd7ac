//! The path of a field as error messages write it, grown and cut during a walk.

use std::fmt;

/// A path such as `spec.containers[0].name`.
///
/// A walk pushes a step, goes down and cuts back, so that no path is allocated for the
/// fields that are fine.
#[derive(Clone, Debug, Default)]
pub struct Path(String);

/// Where to cut a [`Path`] back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

impl Path {
    /// The path of the object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of a field below the root.
    pub fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether this is the object itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Goes down into a field.
    pub fn push(&mut self, field: &str) -> Mark {
        let mark = Mark(self.0.len());
        if !self.0.is_empty() {
            self.0.push('.');
        }
        self.0.push_str(field);
        mark
    }

    /// Goes down into an item of a list.
    pub fn push_index(&mut self, index: usize) -> Mark {
        let mark = Mark(self.0.len());
        self.0.push_str(&format!("[{index}]"));
        mark
    }

    /// Goes back up to where a push was made.
    pub fn cut(&mut self, mark: Mark) {
        self.0.truncate(mark.0);
    }

    /// The path of a field of this one.
    pub fn field(&self, name: &str) -> Path {
        let mut path = self.clone();
        path.push(name);
        path
    }

    /// The path of an item of this one.
    pub fn index(&self, index: usize) -> Path {
        let mut path = self.clone();
        path.push_index(index);
        path
    }

    /// The path of a value of this map.
    pub fn key(&self, key: &str) -> Path {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
