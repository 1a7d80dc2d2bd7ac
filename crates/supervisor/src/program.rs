//! A command made ready for `execve`: every string and pointer laid out before the fork.

use std::{
    ffi::{CString, OsStr, OsString, c_char, c_int, c_void},
    io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
    ptr,
    sync::OnceLock,
};

use crate::{
    launch::{Inside, Launch},
    pages::Pages,
    supervisor::StartError,
};

/// Where programs are looked for when the environment does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// More than the few small frames between `clone` and `exec` need.
const STACK_BYTES: usize = 64 << 10;

/// A row of NUL-terminated strings as `execve` wants it: pointers, and one to nothing.
pub(crate) struct Row(*mut *const c_char);

impl Row {
    fn new(pages: &mut Pages, strings: &[*const c_char]) -> io::Result<Self> {
        let row = pages.put(strings)?;
        pages.put(&[ptr::null::<c_char>()])?;
        Ok(Self(row))
    }

    fn of(pages: &mut Pages, strings: &[CString]) -> io::Result<Self> {
        let placed: io::Result<Vec<_>> = strings.iter().map(|one| pages.string(one)).collect();
        Row::new(pages, &placed?)
    }

    pub(crate) fn as_ptr(&self) -> *const *const c_char {
        self.0
    }

    /// One of the strings; nothing behind the last.
    pub(crate) fn get(&self, index: usize) -> Option<*const c_char> {
        // SAFETY: the row ends with a pointer to nothing, and nobody asks beyond that.
        let string = unsafe { *self.0.add(index) };
        (!string.is_null()).then_some(string)
    }

    /// Replaces the second string, of two at least, by another that lives as long.
    pub(crate) fn set_second(&mut self, string: *const c_char) {
        // SAFETY: within the row.
        unsafe { *self.0.add(1) = string };
    }
}

/// All that the child needs to become the command, and that its keeper needs behind it: in memory
/// of its own, so that they can do without the supervisor's.
pub(crate) struct Program {
    pub(crate) argv: Row,
    /// `/bin/sh`, a place for the script's path, the arguments.
    pub(crate) shell_argv: Row,
    pub(crate) env: Row,
    /// Where the program may be, in the order of trying.
    pub(crate) candidates: Row,
    pub(crate) directory: Option<*const c_char>,
    pub(crate) identity: Option<Identity>,
    pub(crate) cell: Option<Cell>,
    /// The signals that this process takes no notice of, which the command is to notice.
    pub(crate) ignored: Signals,
    /// Where the keeper saves what nobody read of each output stream.
    pub(crate) rests: [*const c_char; 2],
    /// Where everything above points to, and what the command's process stands on until it execs.
    pages: Pages,
    /// Keeps the descriptor in `cell` open.
    _inside: Option<Inside>,
}

/// Whom the command runs as.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: *const u32,
    pub(crate) group_count: usize,
}

/// The container the command runs in.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) root: RawFd,
    pub(crate) capabilities: u64,
}

/// Some signals, a bit for each.
#[derive(Clone, Copy, Default)]
pub(crate) struct Signals(u128);

impl Signals {
    /// Their numbers.
    pub(crate) fn each(self) -> impl Iterator<Item = c_int> {
        (0..u128::BITS as c_int).filter(move |signal| self.0 & (1 << signal) != 0)
    }

    /// The signals that this process takes no notice of. Rust sees to it that SIGPIPE is one, and
    /// who started the process may have added others; we add none, so they are asked for once.
    fn ignored() -> Self {
        static IGNORED: OnceLock<u128> = OnceLock::new();
        let is_ignored = |signal: &c_int| {
            // SAFETY: asks for the present disposition, plain data that the call fills.
            unsafe {
                let mut now: libc::sigaction = std::mem::zeroed();
                libc::sigaction(*signal, ptr::null(), &mut now) == 0
                    && now.sa_sigaction == libc::SIG_IGN
            }
        };
        let ask = || {
            (1..=libc::SIGRTMAX())
                .filter(is_ignored)
                .fold(0, |all, signal| all | 1 << signal)
        };
        Self(*IGNORED.get_or_init(ask))
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

/// A launch's strings as `execve` takes them.
struct Words {
    arguments: Vec<CString>,
    env: Vec<CString>,
    candidates: Vec<CString>,
    directory: Option<CString>,
}

impl Words {
    fn of(launch: &Launch) -> Result<Self, Unrunnable> {
        let name = launch
            .argv
            .first()
            .filter(|name| !name.is_empty())
            .ok_or(Unrunnable::Empty)?;
        let variables = launch.env.iter().map(|(name, value)| {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            pair
        });
        Ok(Self {
            arguments: strings(&launch.argv, "an argument")?,
            env: strings(&variables.collect::<Vec<_>>(), "an environment variable")?,
            candidates: strings(
                &candidates(name, launch.variable("PATH")),
                "the program's name",
            )?,
            directory: launch
                .cwd
                .as_deref()
                .map(|d| string(d.as_os_str(), "the working directory"))
                .transpose()?,
        })
    }

    /// Bytes that are enough to lay them out, the arguments' pointers twice.
    fn room(&self) -> usize {
        const POINTER: usize = size_of::<*const c_char>();
        let strings = [&self.arguments, &self.env, &self.candidates]
            .into_iter()
            .flatten()
            .chain(&self.directory);
        let bytes: usize = strings
            .map(|string| string.as_bytes_with_nul().len() + POINTER)
            .sum();
        // The second row of arguments, what ends each of four rows, and where each begins.
        bytes + (self.arguments.len() + 1 + 8) * POINTER
    }
}

impl Program {
    /// Lays out what is to run; `rests` is where the keeper saves output that nobody read.
    pub(crate) fn new(launch: &Launch, rests: [CString; 2]) -> Result<Self, StartError> {
        let words = Words::of(launch)?;
        let groups = launch.user.as_ref().map_or(&[][..], |user| &user.groups);
        let further = rests.iter().map(|rest| rest.as_bytes_with_nul().len());
        let room = words.room() + further.sum::<usize>() + (groups.len() + 2) * size_of::<u32>();
        Ok(Self::lay_out(
            launch,
            &words,
            &rests,
            Pages::new(room + STACK_BYTES)?,
        )?)
    }

    fn lay_out(
        launch: &Launch,
        words: &Words,
        [out, err]: &[CString; 2],
        mut pages: Pages,
    ) -> io::Result<Self> {
        let to = &mut pages;
        let argv = Row::of(to, &words.arguments)?;
        let arguments = (0..).map_while(|index| argv.get(index));
        let shell: Vec<_> = [c"/bin/sh".as_ptr()].into_iter().chain(arguments).collect();
        let directory = words.directory.as_deref().map(|d| to.string(d));
        let identity = launch.user.as_ref().map(|user| {
            io::Result::Ok(Identity {
                uid: user.uid,
                gid: user.gid,
                groups: to.put(&user.groups)?,
                group_count: user.groups.len(),
            })
        });
        Ok(Self {
            directory: directory.transpose()?,
            identity: identity.transpose()?,
            shell_argv: Row::new(to, &shell)?,
            env: Row::of(to, &words.env)?,
            candidates: Row::of(to, &words.candidates)?,
            argv,
            cell: launch.inside.as_ref().map(|inside| Cell {
                root: inside.root.as_raw_fd(),
                capabilities: inside.capabilities,
            }),
            ignored: Signals::ignored(),
            rests: [to.string(out)?, to.string(err)?],
            pages,
            _inside: launch.inside.clone(),
        })
    }

    /// Where the stack begins that the command's process stands on; aligned as every processor
    /// wants it.
    pub(crate) fn stack(&self) -> *mut c_void {
        self.pages.end()
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
    use std::ffi::CStr;

    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::launch::User;

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
            Words::of(&launch).err(),
            Some(Unrunnable::ZeroByte {
                what: "an argument"
            })
        );
        assert_eq!(Words::of(&Launch::new([""])).err(), Some(Unrunnable::Empty));
    }

    proptest! {
        #[test]
        fn whatever_is_launched_is_laid_out_whole(
            arguments in vec("[^\0]{1,40}", 1..9),
            env in vec(("[A-Z]{1,8}", "[^\0]{0,60}"), 0..9),
            groups in vec(any::<u32>(), 0..20),
            directory in option::of("/[^\0]{0,30}"),
        ) {
            let mut launch = Launch::new(&arguments);
            launch.env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
            launch.user = Some(User { uid: 1, gid: 2, groups: groups.clone() });
            launch.cwd = directory.clone().map(Into::into);
            let program = Program::new(&launch, [c"out".into(), c"err".into()]).unwrap();
            prop_assert_eq!(read(&program.argv), arguments.clone());
            let mut shell = vec!["/bin/sh".to_owned()];
            shell.extend(arguments);
            prop_assert_eq!(read(&program.shell_argv), shell);
            let pairs: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
            prop_assert_eq!(read(&program.env), pairs);
            prop_assert_eq!(program.directory.map(text), directory);
            prop_assert_eq!(program.rests.map(text), ["out", "err"]);
            let identity = program.identity.unwrap();
            // SAFETY: the pages are there as long as the program is.
            let laid = unsafe { std::slice::from_raw_parts(identity.groups, identity.group_count) };
            prop_assert_eq!(laid, groups);
        }
    }

    fn read(row: &Row) -> Vec<String> {
        (0..).map_while(|index| row.get(index)).map(text).collect()
    }

    fn text(string: *const c_char) -> String {
        // SAFETY: the program that laid it out is still there.
        unsafe { CStr::from_ptr(string) }
            .to_str()
            .unwrap()
            .to_owned()
    }
}
