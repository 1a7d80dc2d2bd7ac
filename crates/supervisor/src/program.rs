//! A command made ready for `execve`: every string and pointer laid out before the fork.

use std::{
    ffi::{CString, OsStr, OsString, c_char, c_int, c_void},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
    ptr,
    sync::OnceLock,
};

use crate::launch::{Inside, Launch, User};

/// Where programs are looked for when the environment does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// More than the few small frames between `clone` and `exec` need.
const STACK_BYTES: usize = 64 << 10;

/// A row of NUL-terminated strings with the pointers `execve` wants.
pub(crate) struct Row {
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Row {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([ptr::null()])
            .collect();
        Self {
            _strings: strings,
            pointers,
        }
    }

    pub(crate) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }

    /// Replaces one string by another that lives as long. Allocates nothing.
    pub(crate) fn set(&mut self, index: usize, string: *const c_char) {
        if let Some(place) = self.pointers.get_mut(index) {
            *place = string;
        }
    }
}

/// All that the child needs to become the command.
pub(crate) struct Program {
    pub(crate) argv: Row,
    /// `/bin/sh`, a place for the script's path, the arguments.
    pub(crate) shell_argv: Row,
    pub(crate) env: Row,
    /// Where the program may be, in the order of trying.
    pub(crate) candidates: Vec<CString>,
    pub(crate) directory: Option<CString>,
    pub(crate) user: Option<User>,
    pub(crate) inside: Option<Inside>,
    /// The signals that this process takes no notice of, which the command is to notice.
    pub(crate) ignored: &'static [c_int],
    /// What the command's process stands on until it execs.
    pub(crate) stack: Stack,
}

/// The signals that this process takes no notice of. Rust sees to it that SIGPIPE is one, and who
/// started the process may have added others; we add none, so they are asked for once.
fn ignored() -> &'static [c_int] {
    static IGNORED: OnceLock<Vec<c_int>> = OnceLock::new();
    IGNORED.get_or_init(|| {
        let is_ignored = |signal: &c_int| {
            // SAFETY: asks for the present disposition, plain data that the call fills.
            unsafe {
                let mut now: libc::sigaction = std::mem::zeroed();
                libc::sigaction(*signal, ptr::null(), &mut now) == 0
                    && now.sa_sigaction == libc::SIG_IGN
            }
        };
        (1..=libc::SIGRTMAX()).filter(is_ignored).collect()
    })
}

/// Memory for one small stack. Pages that are never touched cost nothing.
pub(crate) struct Stack(Vec<u128>);

impl Stack {
    fn new() -> Self {
        Self(Vec::with_capacity(STACK_BYTES / size_of::<u128>()))
    }

    /// Its upper end, where it begins; aligned as every processor wants it.
    pub(crate) fn top(&mut self) -> *mut c_void {
        let room = self.0.capacity();
        // SAFETY: one past the end of the allocation.
        unsafe { self.0.as_mut_ptr().add(room) }.cast()
    }
}

/// A launch that no system could run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unrunnable {
    /// There is no program to run.
    #[error("the command is empty: give at least a program")]
    Empty,
    /// A string has a zero byte in it.
    #[error("{what} contains a zero byte, which no program can be given")]
    ZeroByte {
        /// Which part of the launch.
        what: &'static str,
    },
}

impl Program {
    pub(crate) fn new(launch: &Launch) -> Result<Self, Unrunnable> {
        let name = launch
            .argv
            .first()
            .filter(|name| !name.is_empty())
            .ok_or(Unrunnable::Empty)?;
        let arguments = strings(&launch.argv, "an argument")?;
        let shell = [c"/bin/sh".to_owned()]
            .into_iter()
            .chain(arguments.iter().cloned())
            .collect();
        let variables = launch.env.iter().map(|(name, value)| {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            pair
        });
        Ok(Self {
            shell_argv: Row::new(shell),
            argv: Row::new(arguments),
            env: Row::new(strings(
                &variables.collect::<Vec<_>>(),
                "an environment variable",
            )?),
            candidates: strings(
                &candidates(name, launch.variable("PATH")),
                "the program's name",
            )?,
            directory: launch
                .cwd
                .as_deref()
                .map(|d| string(d.as_os_str(), "the working directory"))
                .transpose()?,
            user: launch.user.clone(),
            inside: launch.inside.clone(),
            ignored: ignored(),
            stack: Stack::new(),
        })
    }
}

/// Where a program of this name may be: as a shell would look.
fn candidates(name: &OsStr, path: Option<&OsString>) -> Vec<OsString> {
    if name.as_bytes().contains(&b'/') {
        return vec![name.to_owned()];
    }
    let path = path.map_or(OsStr::new(DEFAULT_PATH), OsString::as_os_str);
    let folders = path.as_bytes().split(|b| *b == b':');
    folders
        .map(|folder| {
            if folder.is_empty() {
                Path::new(".")
            } else {
                Path::new(OsStr::from_bytes(folder))
            }
        })
        .map(|folder| folder.join(name).into_os_string())
        .collect()
}

fn strings(values: &[OsString], what: &'static str) -> Result<Vec<CString>, Unrunnable> {
    values.iter().map(|value| string(value, what)).collect()
}

fn string(value: &OsStr, what: &'static str) -> Result<CString, Unrunnable> {
    CString::new(value.to_owned().into_vec()).map_err(|_| Unrunnable::ZeroByte { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_along_the_path_and_a_path_is_taken_as_it_is() {
        let path = OsString::from("/a::/b");
        let found = candidates(OsStr::new("tool"), Some(&path));
        assert_eq!(found, ["/a/tool", "./tool", "/b/tool"]);
        assert_eq!(candidates(OsStr::new("./tool"), Some(&path)), ["./tool"]);
    }

    #[test]
    fn a_command_with_a_zero_byte_is_refused_with_its_place() {
        let launch = Launch::new(["echo", "a\0b"]);
        assert_eq!(
            Program::new(&launch).err(),
            Some(Unrunnable::ZeroByte {
                what: "an argument"
            })
        );
        assert_eq!(
            Program::new(&Launch::new([""])).err(),
            Some(Unrunnable::Empty)
        );
    }
}
