//! The answers to file updates that were asked for under a key, so that asking again does not
//! write again: what later steps made of the files stays.
//!
//! One line per answer in one file, on the disk before the answer is given. Refusals are not
//! kept: they changed nothing, and may well succeed the next time.

use std::{
    collections::{HashMap, VecDeque},
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// How many answers are remembered; the oldest go first.
const REMEMBERED: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    message: String,
}

/// Remembered answers.
pub(crate) struct Answers {
    path: PathBuf,
    file: File,
    known: HashMap<String, String>,
    order: VecDeque<String>,
}

impl Answers {
    /// The answers remembered at `path`. A torn last line is one that was never given.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut lines = Vec::new();
        if let Ok(file) = File::open(path) {
            let read = BufReader::new(file).lines().map_while(Result::ok);
            lines.extend(read.filter_map(|line| serde_json::from_str::<Line>(&line).ok()));
        }
        let keep = lines.len().saturating_sub(REMEMBERED);
        let mut answers = Self {
            path: path.to_owned(),
            file: rewrite(path, &lines[keep..])?,
            known: HashMap::new(),
            order: VecDeque::new(),
        };
        for Line { key, message } in lines.drain(keep..) {
            answers.remember(key, message);
        }
        Ok(answers)
    }

    /// The answer given before under this key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.known.get(key).map(String::as_str)
    }

    /// Keeps an answer, on the disk when this returns.
    pub(crate) fn keep(&mut self, key: String, message: String) -> io::Result<()> {
        let line = Line { key, message };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.remember(line.key, line.message);
        if self.order.len() > 2 * REMEMBERED {
            self.forget_old()?;
        }
        Ok(())
    }

    /// Forgets all of them.
    pub(crate) fn forget_all(&mut self) -> io::Result<()> {
        self.known.clear();
        self.order.clear();
        self.file = rewrite(&self.path, &[])?;
        Ok(())
    }

    fn remember(&mut self, key: String, message: String) {
        if self.known.insert(key.clone(), message).is_none() {
            self.order.push_back(key);
        }
    }

    fn forget_old(&mut self) -> io::Result<()> {
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        let line = |key: &String| Line {
            key: key.clone(),
            message: self.known.get(key).cloned().unwrap_or_default(),
        };
        let lines: Vec<Line> = self.order.iter().map(line).collect();
        self.file = rewrite(&self.path, &lines)?;
        Ok(())
    }
}

/// Writes these lines anew, whole or not at all, and returns the file to append to.
fn rewrite(path: &Path, lines: &[Line]) -> io::Result<File> {
    let unfinished = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    for line in lines {
        serde_json::to_writer(&mut file, line)?;
        file.write_all(b"\n")?;
    }
    file.sync_data()?;
    std::fs::rename(&unfinished, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers");
        Answers::open(&path)
            .unwrap()
            .keep("a".into(), "updated x".into())
            .unwrap();
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"key\":\"to")
            .unwrap();
        let mut answers = Answers::open(&path).unwrap();
        assert_eq!(
            (answers.get("a"), answers.get("torn")),
            (Some("updated x"), None)
        );
        answers.keep("b".into(), "updated y".into()).unwrap();
        assert_eq!(Answers::open(&path).unwrap().get("b"), Some("updated y"));
    }

    #[test]
    fn only_so_many_answers_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut answers = Answers::open(&dir.path().join("answers")).unwrap();
        for number in 0..2 * REMEMBERED {
            answers.remember(number.to_string(), String::new());
        }
        answers.keep("last".into(), String::new()).unwrap();
        assert_eq!(answers.known.len(), REMEMBERED);
        assert!(answers.get("last").is_some() && answers.get("0").is_none());
    }
}
