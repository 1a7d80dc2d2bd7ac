//! From code in a language to a command. Pure.

use std::{ffi::OsString, path::Path};

use bytes::Bytes;

/// Calls a Python handler and hands on what it returns.
const PYTHON: &str = include_str!("python.py");
/// The same in JavaScript.
const JAVASCRIPT: &str = include_str!("javascript.js");
/// A longer argument is refused by the kernel.
const LONGEST_ARGUMENT: usize = 120 << 10;

/// The languages that code may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Python,
    JavaScript,
    Shell,
}

/// What is started for some code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) argv: Vec<OsString>,
    pub(super) input: Option<Bytes>,
}

impl Language {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "python" => Some(Self::Python),
            "javascript" => Some(Self::JavaScript),
            "shell" => Some(Self::Shell),
            _ => None,
        }
    }

    /// The command that runs `code` with `event` and puts what it returns at `result`.
    pub(super) fn program(self, code: &str, event: &str, result: &Path) -> Program {
        match self {
            Self::Python => driven("python3", "-c", PYTHON, code, event, result),
            Self::JavaScript => driven("node", "-e", JAVASCRIPT, code, event, result),
            Self::Shell => shell(code),
        }
    }
}

/// A Python interpreter that waits for its code: it first reads, on a line of its own, where its
/// result goes and where it works.
pub(super) fn waiting() -> Vec<OsString> {
    ["python3", "-c", PYTHON, "-"].map(OsString::from).to_vec()
}

/// What a waiting interpreter is sent.
pub(super) fn sent(code: &str, event: &str, result: &Path, directory: &Path) -> Vec<u8> {
    let places = [result, directory].map(|place| place.to_string_lossy().into_owned());
    // Two texts always have JSON.
    let first = serde_json::json!(places);
    format!("{first}\n{}\n{code}{event}", code.len()).into_bytes()
}

/// The driver reads the code's length, the code and the event.
fn driven(
    interpreter: &str,
    flag: &str,
    driver: &str,
    code: &str,
    event: &str,
    result: &Path,
) -> Program {
    let input = format!("{}\n{code}{event}", code.len());
    Program {
        argv: vec![
            interpreter.into(),
            flag.into(),
            driver.into(),
            result.into(),
        ],
        input: Some(input.into()),
    }
}

/// bash where there is one. A script too long for an argument is read from the input.
fn shell(code: &str) -> Program {
    const CHOOSE: &str =
        "if command -v bash >/dev/null 2>&1; then exec bash \"$@\"; else exec sh \"$@\"; fi";
    let bash = ["/bin/bash", "/usr/bin/bash"];
    let found = bash.into_iter().find(|path| Path::new(path).exists());
    let mut argv: Vec<OsString> = match found {
        Some(bash) => vec![bash.into()],
        None => ["/bin/sh", "-c", CHOOSE, "sh"].map(OsString::from).to_vec(),
    };
    if code.len() <= LONGEST_ARGUMENT {
        argv.extend(["-c".into(), code.into()]);
        return Program { argv, input: None };
    }
    argv.push("-s".into());
    Program {
        argv,
        input: Some(code.to_owned().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_gets_its_code_and_event_on_its_input() {
        let program = Language::Python.program("ä = 1", r#"{"a":1}"#, Path::new("/r"));
        assert_eq!(program.input.unwrap(), "6\nä = 1{\"a\":1}".as_bytes());
        assert_eq!(program.argv.last().unwrap(), "/r");
    }

    #[test]
    fn a_script_too_long_for_an_argument_is_read_from_the_input() {
        let short = Language::Shell.program("echo hi", "", Path::new("/r"));
        assert_eq!(
            (short.argv.last().unwrap(), &short.input),
            (&"echo hi".into(), &None)
        );
        let long = "#".repeat(LONGEST_ARGUMENT + 1);
        let program = Language::Shell.program(&long, "", Path::new("/r"));
        assert_eq!(program.input.unwrap().len(), long.len());
    }
}
