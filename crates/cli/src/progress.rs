//! What is being waited for, told to people and kept from scripts.

use std::io::{IsTerminal, Write};

/// One line on the terminal that changes in place and goes when the wait is over.
pub(crate) struct Progress {
    shown: String,
    enabled: bool,
}

impl Progress {
    /// Shows nothing yet; and never anything where nobody watches.
    pub(crate) fn new() -> Progress {
        Progress {
            shown: String::new(),
            enabled: std::io::stderr().is_terminal(),
        }
    }

    /// Shows this instead of what was shown before.
    pub(crate) fn say(&mut self, words: &str) {
        if !self.enabled || self.shown == words {
            return;
        }
        // What a pod or an image is called ends up here, and must not steer the terminal.
        let plain: String = words.chars().filter(|c| !c.is_control()).collect();
        eprint!("\r\x1b[K{plain}");
        let _ = std::io::stderr().flush();
        self.shown = words.to_owned();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if !self.shown.is_empty() {
            eprint!("\r\x1b[K");
        }
    }
}
