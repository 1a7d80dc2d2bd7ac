//! What a program says of itself when it is asked, if it says so in time.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// No program needs longer to list its commands.
const PATIENCE: Duration = Duration::from_secs(2);

/// Nobody reads further than this.
const LONGEST: usize = 64 << 10;

/// The program's `--help`; what came before its time was up, if it does not end.
pub(super) fn commands_of(program: &Path) -> String {
    let asked = Command::new(program)
        .arg("--help")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = asked else {
        return String::new();
    };
    let said = listen(&mut child, Instant::now() + PATIENCE);
    // It has said what it had to say, or had its time.
    let _ = child.kill();
    let _ = child.wait();
    String::from_utf8_lossy(&said).into_owned()
}

fn listen(child: &mut Child, deadline: Instant) -> Vec<u8> {
    let mut said = Vec::new();
    let Some(mut output) = child.stdout.take() else {
        return said;
    };
    let mut buffer = [0u8; 4096];
    while said.len() < LONGEST {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut waiting = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut waiting, left), Ok(1..)) {
            break;
        }
        match output.read(&mut buffer) {
            Ok(length @ 1..) => said.extend_from_slice(&buffer[..length]),
            _ => break,
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    fn program(folder: &tempfile::TempDir, script: &str) -> PathBuf {
        let path = folder.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn what_a_program_says_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let said = commands_of(&program(&folder, "echo you said \"$1\""));
        assert_eq!(said, "you said --help\n");
    }

    #[test]
    fn a_program_that_does_not_end_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let said = commands_of(&program(&folder, "echo create; exec sleep 1000"));
        assert_eq!(said, "create\n");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_program_that_talks_for_ever_is_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let said = commands_of(&program(&folder, "exec yes create"));
        assert!(said.len() <= LONGEST + 4096);
    }
}
