//! A notebook: the last of what was noted under keys, one line each in one file, so that an agent
//! that comes later knows it too. To append to a file that is there costs nothing beside making
//! one.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::PathBuf,
};

use serde::{Serialize, de::DeserializeOwned};

/// What is noted in one line.
pub(crate) trait Line: Serialize + DeserializeOwned {
    /// What it is noted under.
    fn key(&self) -> &str;
}

/// What a line outlasts as soon as it is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlasts {
    /// The agent.
    TheAgent,
    /// A power cut.
    APowerCut,
}

/// The last lines that were noted.
pub(crate) struct Notebook<L> {
    path: PathBuf,
    /// So many are kept at least, and at most twice as many.
    kept: usize,
    outlasts: Outlasts,
    /// Appended to; nothing before this life's first note, which begins the file anew.
    file: Option<File>,
    known: HashMap<String, L>,
    order: VecDeque<String>,
}

impl<L: Line> Notebook<L> {
    /// The notebook at `path`. A torn line was never noted.
    pub(crate) fn open(path: PathBuf, kept: usize, outlasts: Outlasts) -> Self {
        let mut notebook = Self {
            kept,
            outlasts,
            file: None,
            known: HashMap::new(),
            order: VecDeque::new(),
            path,
        };
        if let Ok(file) = File::open(&notebook.path) {
            let lines = BufReader::new(file).lines().map_while(Result::ok);
            lines
                .filter_map(|line| serde_json::from_str(&line).ok())
                .for_each(|line| notebook.remember(line));
        }
        notebook
    }

    /// What was noted under this key.
    pub(crate) fn get(&self, key: &str) -> Option<&L> {
        self.known.get(key)
    }

    /// Notes a line; the oldest go. What could not be written is not noted.
    pub(crate) fn keep(&mut self, line: L) -> io::Result<()> {
        let has_room = self.order.len() < 2 * self.kept;
        // One that is torn, or that somebody has removed, is not appended to.
        let file = self.file.take().filter(|file| has_room && is_there(file));
        let Some(mut file) = file else {
            return self.begin(Some(line));
        };
        file.write_all(&written(&line)?)?;
        if self.outlasts == Outlasts::APowerCut {
            file.sync_data()?;
        }
        self.file = Some(file);
        self.remember(line);
        Ok(())
    }

    /// Begins the file anew with what is known, for the first note not to wait for that.
    pub(crate) fn begin_anew(&mut self) -> io::Result<()> {
        self.begin(None)
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&mut self) -> io::Result<()> {
        self.known.clear();
        self.order.clear();
        self.begin(None)
    }

    fn remember(&mut self, line: L) {
        let key = line.key().to_owned();
        if self.known.insert(key.clone(), line).is_none() {
            self.order.push_back(key);
        }
    }

    /// Begins the file anew with the last lines and this one, whole or not at all.
    fn begin(&mut self, last: Option<L>) -> io::Result<()> {
        let many = self.order.len() + usize::from(last.is_some());
        let surplus = many.saturating_sub(self.kept);
        let mut all = Vec::new();
        let lines = self.order.iter().skip(surplus);
        for line in lines.filter_map(|key| self.known.get(key)).chain(&last) {
            all.extend(written(line)?);
        }
        let file = self.write_anew(&all)?;
        for oldest in self.order.drain(..surplus) {
            self.known.remove(&oldest);
        }
        if let Some(last) = last {
            self.remember(last);
        }
        self.file = Some(file);
        Ok(())
    }

    fn write_anew(&self, all: &[u8]) -> io::Result<File> {
        let unfinished = self.path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(all)?;
        let must_last = self.outlasts == Outlasts::APowerCut;
        if must_last {
            file.sync_data()?;
        }
        fs::rename(&unfinished, &self.path)?;
        if must_last && let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(file)
    }
}

fn is_there(file: &File) -> bool {
    file.metadata().is_ok_and(|file| file.nlink() > 0)
}

fn written(line: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Deserialize;

    use super::*;

    const KEPT: usize = 10;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Word {
        key: String,
        word: String,
    }

    impl Line for Word {
        fn key(&self) -> &str {
            &self.key
        }
    }

    fn word(key: impl ToString) -> Word {
        let key = key.to_string();
        let word = format!("word {key}");
        Word { key, word }
    }

    fn open(path: &Path) -> Notebook<Word> {
        Notebook::open(path.to_owned(), KEPT, Outlasts::APowerCut)
    }

    #[test]
    fn the_next_agent_knows_all_but_the_oldest_and_the_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        let mut notebook = open(&path);
        for number in 0..KEPT * 3 {
            notebook.keep(word(number)).unwrap();
        }
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"{\"key\":\"torn"))
            .unwrap();
        let mut next = open(&path);
        assert_eq!((next.get("0"), next.get("torn")), (None, None));
        let last = word(KEPT * 3 - 1);
        assert_eq!(next.get(last.key()), Some(&last));
        next.keep(word("after")).unwrap();
        let third = open(&path);
        assert_eq!(third.get("after"), Some(&word("after")));
        assert!(third.order.len() <= 2 * KEPT, "{}", third.order.len());
    }

    #[test]
    fn what_could_not_be_written_is_not_noted() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let mut notebook = open(&missing.join("notes"));
        notebook.keep(word("a")).unwrap_err();
        assert_eq!(notebook.get("a"), None);
        fs::create_dir(&missing).unwrap();
        notebook.keep(word("a")).unwrap();
        assert_eq!(notebook.get("a"), Some(&word("a")));
    }

    #[test]
    fn a_file_that_was_removed_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        let mut notebook = open(&path);
        notebook.keep(word("a")).unwrap();
        fs::remove_file(&path).unwrap();
        notebook.keep(word("b")).unwrap();
        let next = open(&path);
        assert!(next.get("a").is_some() && next.get("b").is_some());
    }

    #[test]
    fn what_was_forgotten_is_not_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        let mut notebook = open(&path);
        notebook.keep(word("a")).unwrap();
        notebook.forget_all().unwrap();
        assert_eq!((notebook.get("a"), open(&path).get("a")), (None, None));
    }
}
