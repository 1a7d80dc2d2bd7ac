//! What a command has to say, on standard output. Whoever reads it may have read enough.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

/// Nobody reads our output any more, as behind `| head`.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub(crate) struct Unread;

impl Unread {
    /// What a shell reports of a command that wrote on all the same.
    pub(crate) const CODE: i32 = 128 + libc::SIGPIPE;

    /// A failure to write to standard output, told from others.
    pub(crate) fn or(error: io::Error) -> anyhow::Error {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Unread.into(),
            _ => error.into(),
        }
    }
}

/// Text as it is.
pub(crate) fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Unread::or)
}

/// One line for people.
pub(crate) fn line(words: &str) -> Result<()> {
    text(&format!("{words}\n"))
}

/// Something for scripts.
pub(crate) fn json<T: Serialize + ?Sized>(what: &T) -> Result<()> {
    line(&serde_json::to_string_pretty(what)?)
}
