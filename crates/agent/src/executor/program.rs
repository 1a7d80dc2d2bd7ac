//! From code in a language to a command. Pure.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use bytes::Bytes;

use super::told::Environment;

/// Calls a Python handler and hands on what it returns.
const PYTHON: &str = include_str!("python.py");
/// What that needs for some code only, and is compiled then: every start would wait for it.
const PYTHON_RARELY: &str = include_str!("python_rarely.py");
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
            Self::Python => driven(&python(result), code, event),
            Self::JavaScript => {
                let node = ["node", "-e", JAVASCRIPT].map(OsStr::new);
                driven(&[&node[..], &[result.as_os_str()]].concat(), code, event)
            }
            Self::Shell => shell(code),
        }
    }
}

/// A Python interpreter that waits for its code: it first reads where its result goes and where
/// it works.
pub(super) fn waiting() -> Vec<OsString> {
    python(Path::new("-")).map(OsString::from).to_vec()
}

fn python(result: &Path) -> [&OsStr; 5] {
    let [program, flag, driver, rarely] = ["python3", "-c", PYTHON, PYTHON_RARELY].map(OsStr::new);
    [program, flag, driver, rarely, result.as_os_str()]
}

/// What a waiting interpreter is sent: the lengths of both paths and of what it is told of its
/// environment, these three, and what any interpreter is.
pub(super) fn sent(
    code: &str,
    event: &str,
    (result, directory): (&Path, &Path),
    told: &Environment,
) -> Vec<u8> {
    let told = told.iter().map(|(name, value)| {
        let pair = [name.as_bytes(), value.as_bytes()];
        pair.join(&b"="[..])
    });
    let told = told.collect::<Vec<_>>().join(&0);
    let parts = [
        result.as_os_str().as_bytes(),
        directory.as_os_str().as_bytes(),
        &told,
    ];
    // Of one length always: the interpreter reads no further than it must.
    let mut sent = parts
        .map(|part| format!("{:>10}", part.len()))
        .concat()
        .into_bytes();
    sent.extend(parts.concat());
    sent.extend(read_by_driver(code, event).into_bytes());
    sent
}

/// The driver reads the code's length, the code and the event.
fn read_by_driver(code: &str, event: &str) -> String {
    format!("{}\n{code}{event}", code.len())
}

fn driven(argv: &[&OsStr], code: &str, event: &str) -> Program {
    Program {
        argv: argv.iter().map(OsString::from).collect(),
        input: Some(read_by_driver(code, event).into()),
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
    fn a_waiting_interpreter_is_told_its_places_first() {
        let places = (Path::new("/r"), Path::new("/w s"));
        let told = vec![("A".into(), "b".into()), ("C".into(), "=".into())];
        assert_eq!(
            sent("c", "{}", places, &told),
            b"         2         4         7/r/w sA=b\0C==1\nc{}"
        );
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
