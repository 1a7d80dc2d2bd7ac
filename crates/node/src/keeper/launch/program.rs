//! Finding and executing the program.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::super::message::{Failure, Plan, Stage};
use super::identity::{AsPodRoot, User};

pub(in super::super) const USUAL_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A working directory that is missing is made, as other runtimes do.
pub(super) fn make_folder(path: &str, root_id: u32) -> std::io::Result<()> {
    if std::path::Path::new(path).exists() {
        return Ok(());
    }
    let _root = AsPodRoot::become_it(root_id)?;
    std::fs::create_dir_all(path)
}

/// What the program finds in its environment: the plan's variables, and those that every
/// program expects.
pub(super) fn environment(plan: &Plan, user: &User) -> Vec<(String, String)> {
    let mut env = plan.env.clone();
    if !env.iter().any(|(key, _)| key == "HOME") {
        env.push(("HOME".to_owned(), user.home.clone()));
    }
    if !env.iter().any(|(key, _)| key == "PATH") {
        env.push(("PATH".to_owned(), USUAL_PATH.to_owned()));
    }
    if plan.terminal.is_some() && !env.iter().any(|(key, _)| key == "TERM") {
        env.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    env
}

/// Executes the plan's program; only returns why it could not.
pub(super) fn execute(plan: &Plan, user: &User) -> Failure {
    let Some(name) = plan.argv.first() else {
        return failure(
            127,
            "no command: neither the pod nor the image names one".to_owned(),
        );
    };
    let argv = match strings(plan.argv.iter().cloned()) {
        Ok(argv) => argv,
        Err(failure) => return failure,
    };
    let env = environment(plan, user);
    let path = env
        .iter()
        .find(|(key, _)| key == "PATH")
        .map_or("", |(_, value)| value)
        .to_owned();
    let env = match strings(env.into_iter().map(|(key, value)| format!("{key}={value}"))) {
        Ok(env) => env,
        Err(failure) => return failure,
    };
    let mut denied = None;
    for candidate in candidates(name, &path) {
        let Ok(file) = CString::new(candidate.as_os_str().as_bytes()) else {
            continue;
        };
        let Err(error) = nix::unistd::execve(&file, &argv, &env);
        match error {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // A folder or a file of somebody else on the path does not end the search.
            Errno::EACCES => denied = Some(error),
            other => {
                return failure(
                    126,
                    format!("exec: {name:?}: {}", other.desc().to_lowercase()),
                );
            }
        }
    }
    match denied {
        Some(_) => failure(126, format!("exec: {name:?}: permission denied")),
        None if name.contains('/') => failure(
            127,
            format!("exec: {name:?}: stat {name}: no such file or directory"),
        ),
        None => failure(
            127,
            format!("exec: {name:?}: executable file not found in $PATH"),
        ),
    }
}

fn candidates(name: &str, path: &str) -> Vec<PathBuf> {
    if name.contains('/') {
        return vec![PathBuf::from(name)];
    }
    path.split(':')
        .map(|folder| Path::new(OsStr::new(folder)).join(name))
        .collect()
}

fn strings(texts: impl Iterator<Item = String>) -> Result<Vec<CString>, Failure> {
    texts
        .map(|text| {
            CString::new(text)
                .map_err(|_| failure(126, "an argument or variable holds a NUL byte".to_owned()))
        })
        .collect()
}

fn failure(code: i32, message: String) -> Failure {
    Failure {
        stage: Stage::Start,
        message,
        code,
    }
}
