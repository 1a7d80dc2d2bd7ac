//! The answers to file updates that were asked for under a key, so that asking again does not
//! write again: what later steps made of the files stays.
//!
//! They are on the disk before they are given. Refusals are not kept: they changed nothing, and may
//! well succeed the next time.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::notebook::{Line, Notebook, Outlasts};

/// How many answers are remembered; the oldest go first.
const REMEMBERED: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Answer {
    key: String,
    message: String,
}

impl Line for Answer {
    fn key(&self) -> &str {
        &self.key
    }
}

/// Remembered answers.
pub(crate) struct Answers(Notebook<Answer>);

impl Answers {
    /// The answers remembered at `path`.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let mut answers = Notebook::open(path, REMEMBERED, Outlasts::APowerCut);
        answers.begin_anew()?;
        Ok(Self(answers))
    }

    /// The answer given before under this key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|answer| answer.message.as_str())
    }

    /// Keeps an answer, on the disk when this returns.
    pub(crate) fn keep(&mut self, key: String, message: String) -> io::Result<()> {
        self.0.keep(Answer { key, message })
    }

    /// Forgets all of them.
    pub(crate) fn forget_all(&mut self) -> io::Result<()> {
        self.0.forget_all()
    }
}
