//! The agent as a file: a small static program, built for the same machine as this one, to be
//! put into the containers that user code runs in.

/// The bytes of the `sandlot-agent` executable.
pub static AGENT: &[u8] = include_bytes!(env!("SANDLOT_AGENT_FILE"));

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::OpenOptionsExt, process::Command};

    #[test]
    fn the_agent_runs_alone_and_needs_no_library() {
        assert!(super::AGENT.starts_with(b"\x7fELF"));
        let interpreter = b"/lib64/ld-linux";
        assert!(
            !super::AGENT
                .windows(interpreter.len())
                .any(|part| part == interpreter)
        );
        let path = std::env::temp_dir().join(format!("sandlot-agent-{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o755);
        options
            .open(&path)
            .unwrap()
            .write_all(super::AGENT)
            .unwrap();
        let output = Command::new(&path).arg("--version").output().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(output.status.success() && output.stdout.starts_with(b"sandlot-agent "));
    }
}
