//! What a container writes, kept line by line in the format all Kubernetes tools know:
//! `time stream F|P text`, in a file that never grows past its limit twice.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::message::LogPlan;

/// Longer lines are cut into parts of this size, each marked `P` but the last.
const LONGEST_LINE: usize = 16 * 1024;

/// Which of its two streams a container wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// The log of one run of a container.
pub(super) struct Log {
    file: Option<File>,
    path: PathBuf,
    size: u64,
    turn_at: u64,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Log {
    pub(super) fn open(plan: &LogPlan) -> io::Result<Log> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&plan.path)?;
        let size = file.metadata()?.len();
        Ok(Log {
            file: Some(file),
            path: plan.path.clone(),
            size,
            turn_at: plan.turn_at.max(64 * 1024),
            out: Vec::new(),
            err: Vec::new(),
        })
    }

    /// Keeps what was just read from a stream.
    pub(super) fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        let now = jiff::Timestamp::now();
        let mut lines = Vec::with_capacity(bytes.len() + 64);
        let kept = match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        };
        while !bytes.is_empty() {
            let room = LONGEST_LINE - kept.len();
            let here = &bytes[..bytes.len().min(room)];
            match here.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    kept.extend_from_slice(&here[..end]);
                    put(&mut lines, now, stream, b'F', kept);
                    kept.clear();
                    bytes = &bytes[end + 1..];
                }
                None => {
                    kept.extend_from_slice(here);
                    bytes = &bytes[here.len()..];
                    if kept.len() == LONGEST_LINE {
                        put(&mut lines, now, stream, b'P', kept);
                        kept.clear();
                    }
                }
            }
        }
        self.append(&lines);
    }

    /// Keeps a last line that had no end.
    pub(super) fn finish(&mut self) {
        let now = jiff::Timestamp::now();
        let mut lines = Vec::new();
        for (stream, kept) in [(Stream::Out, &mut self.out), (Stream::Err, &mut self.err)] {
            if !kept.is_empty() {
                put(&mut lines, now, stream, b'P', kept);
                kept.clear();
            }
        }
        self.append(&lines);
    }

    /// A full disk must not stop the container: what cannot be kept is lost.
    fn append(&mut self, lines: &[u8]) {
        if self.size > 0 && self.size + lines.len() as u64 > self.turn_at {
            self.turn_over();
        }
        if let Some(file) = &mut self.file
            && file.write_all(lines).is_ok()
        {
            self.size += lines.len() as u64;
        }
    }

    fn turn_over(&mut self) {
        self.file = None;
        let _ = std::fs::rename(&self.path, older(&self.path));
        self.file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .ok();
        self.size = 0;
    }
}

/// The file that held the log before it was turned over.
pub(crate) fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

fn put(lines: &mut Vec<u8>, now: jiff::Timestamp, stream: Stream, tag: u8, text: &[u8]) {
    let name = match stream {
        Stream::Out => "stdout",
        Stream::Err => "stderr",
    };
    // Fixed width, so that a reader knows where the text begins.
    let _ = write!(lines, "{now:.9} {name} {} ", tag as char);
    lines.extend_from_slice(text);
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(turn_at: u64) -> (tempfile::TempDir, Log) {
        let dir = tempfile::tempdir().unwrap();
        let plan = LogPlan {
            path: dir.path().join("0.log"),
            turn_at,
        };
        let log = Log::open(&plan).unwrap();
        (dir, log)
    }

    #[test]
    fn lines_split_over_reads_are_kept_whole_and_streams_apart() {
        let (dir, mut log) = log(1 << 20);
        log.write(Stream::Out, b"hel");
        log.write(Stream::Err, b"oops\n");
        log.write(Stream::Out, b"lo\nlast");
        log.finish();
        let text = std::fs::read_to_string(dir.path().join("0.log")).unwrap();
        let ends: Vec<_> = text
            .lines()
            .map(|line| line.split_once(' ').unwrap().1)
            .collect();
        assert_eq!(ends, ["stderr F oops", "stdout F hello", "stdout P last"]);
        assert!(
            text.lines()
                .all(|line| line.split_once(' ').unwrap().0.len() == 30)
        );
    }

    #[test]
    fn a_flood_without_line_ends_stays_within_two_files() {
        let (dir, mut log) = log(64 * 1024);
        for _ in 0..100 {
            log.write(Stream::Out, &[b'x'; 10_000]);
        }
        let sizes: u64 = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        assert!(sizes <= 2 * 64 * 1024, "{sizes}");
    }
}
