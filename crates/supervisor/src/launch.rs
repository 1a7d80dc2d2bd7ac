//! What to run, and under which limits.

use std::{ffi::OsString, fmt, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The longest key, in bytes.
const LONGEST_KEY: usize = 512;

/// The name under which a run is asked for. The same key twice is the same run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// A key that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a run's key must have 1 to {LONGEST_KEY} bytes, this one has {0}")]
pub struct BadKey(usize);

impl Key {
    /// A key made of this text.
    pub fn new(text: impl Into<String>) -> Result<Self, BadKey> {
        let text = text.into();
        if text.is_empty() || text.len() > LONGEST_KEY {
            return Err(BadKey(text.len()));
        }
        Ok(Self(text))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = BadKey;
    fn try_from(text: String) -> Result<Self, BadKey> {
        Self::new(text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One command and the conditions it runs under.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program and its arguments; at least the program.
    pub argv: Vec<OsString>,
    /// The whole environment. Nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory, or the supervisor's own.
    pub cwd: Option<PathBuf>,
    /// Who runs it, or the supervisor's own user.
    pub user: Option<User>,
    /// The container whose files it finds, or the supervisor's own.
    pub inside: Option<Inside>,
    /// What it reads.
    pub input: Input,
    /// A terminal of this size instead of three pipes.
    pub terminal: Option<Size>,
    /// How long it may take; then its whole tree is stopped.
    pub timeout: Option<Duration>,
    /// How long a stopped tree has between TERM and KILL.
    pub grace: Duration,
    /// How much of its output is kept.
    pub keep: Keep,
    /// How long the run is remembered.
    pub memory: Memory,
}

impl Launch {
    /// A command with the defaults: no input, no timeout, 10 s of grace.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: None,
            user: None,
            inside: None,
            input: Input::Nothing,
            terminal: None,
            timeout: None,
            grace: Duration::from_secs(10),
            keep: Keep::default(),
            memory: Memory::Durable,
        }
    }

    /// The value of an environment variable.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsString> {
        self.env
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value)
    }
}

/// The identity a command runs under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// The other groups.
    pub groups: Vec<u32>,
}

/// Another container, as far as a command that runs there needs it.
#[derive(Clone, Debug)]
pub struct Inside {
    /// Its root folder, as `/proc/PID/root` of one of its processes leads to it.
    pub root: Arc<OwnedFd>,
    /// What its processes may ever be allowed, a bit for each capability: the command gets no more.
    pub capabilities: u64,
}

/// What a command reads from its standard input.
#[derive(Clone, Debug, Default)]
pub enum Input {
    /// The end of file at once.
    #[default]
    Nothing,
    /// These bytes, then the end of file.
    Bytes(Bytes),
    /// What is read from this descriptor, such as the reading end of a pipe.
    From(Arc<OwnedFd>),
}

/// How long a run is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Memory {
    /// Its record is on the disk before it starts, so that asking again never starts it twice,
    /// even after a crash of the machine.
    Durable,
    /// It is forgotten when it is over and nobody holds it: nobody can ask for it again. A
    /// supervisor that finds one still going ends it.
    Passing,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// How much of each output stream is kept once nobody is reading it.
///
/// The first bytes and the last bytes stay; the middle of a flood goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// Bytes from the beginning.
    pub head: u64,
    /// Bytes up to the end. What an attached reader has not read yet is kept too, up to this
    /// much; then the command waits for the reader.
    pub tail: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            head: 256 << 10,
            tail: 8 << 20,
        }
    }
}
