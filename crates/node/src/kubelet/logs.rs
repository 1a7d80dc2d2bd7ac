//! Reading container logs: the present file and the one before it, in the format the
//! keeper writes (see [`crate::keeper`]).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use sandlot_cluster::kubelet::LogOptions;
use tokio::sync::mpsc;

use crate::keeper::older_log;

/// Chunks made ready before the reader takes them.
const MOST_AHEAD: usize = 8;
const CHUNK: usize = 64 * 1024;
/// No line of the file is longer: the keeper cuts them.
const LONGEST_LINE: u64 = 64 * 1024;
/// How often a followed log is looked at when nothing says that it has grown.
const LOOK_AGAIN: Duration = Duration::from_millis(40);

/// One line of the file: its time, and what was written.
struct Line<'a> {
    time: &'a [u8],
    whole: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, _stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Line {
        time,
        whole: tag == b"F",
        text: parts.next()?,
    })
}

/// Streams a log as asked; `still_runs` says whether following is worth while.
pub(super) fn read(
    path: PathBuf,
    options: LogOptions,
    still_runs: impl Fn() -> Option<bool> + Send + 'static,
) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
    let (outbox, inbox) = mpsc::channel(MOST_AHEAD);
    // Files are read on a thread that may wait.
    tokio::task::spawn_blocking(move || {
        let mut reader = Reader {
            left: options.limit_bytes.unwrap_or(u64::MAX),
            in_line: false,
            options,
            outbox,
            chunk: Vec::new(),
        };
        if let Err(error) = reader.all(&path, &still_runs) {
            let _ = reader.outbox.blocking_send(Err(error));
        }
    });
    Ok(Box::pin(tokio_stream::wrappers::ReceiverStream::new(inbox)))
}

struct Reader {
    options: LogOptions,
    outbox: mpsc::Sender<io::Result<Bytes>>,
    /// Bytes the client still wants.
    left: u64,
    /// The last line given was only a part.
    in_line: bool,
    chunk: Vec<u8>,
}

impl Reader {
    fn all(&mut self, path: &Path, still_runs: &dyn Fn() -> Option<bool>) -> io::Result<()> {
        let mut files: Vec<File> = [older_log(path), path.to_owned()]
            .iter()
            .filter_map(|path| File::open(path).ok())
            .collect();
        if let Some(lines) = self.options.tail_lines {
            seek_tail(&mut files, lines)?;
        }
        let last = files.pop();
        for file in files {
            self.copy(&mut BufReader::new(file))?;
        }
        let mut current = last.map(BufReader::new);
        loop {
            // Asked before reading, so that what was written last is read.
            let runs = still_runs();
            if let Some(reader) = &mut current {
                self.copy(reader)?;
            }
            self.flush();
            if !self.options.follow
                || runs != Some(true)
                || self.left == 0
                || self.outbox.is_closed()
            {
                return Ok(());
            }
            std::thread::sleep(LOOK_AGAIN);
            if let Some(newer) = turned_over(path, current.as_ref()) {
                // What was written to the old one just before it was turned over.
                if let Some(old) = &mut current {
                    self.copy(old)?;
                }
                current = Some(BufReader::new(newer));
            }
        }
    }

    /// Gives all whole lines that are there.
    fn copy(&mut self, reader: &mut BufReader<File>) -> io::Result<()> {
        let mut line = Vec::new();
        while self.left > 0 && !self.outbox.is_closed() {
            line.clear();
            let length = reader
                .by_ref()
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line)?;
            if line.pop() != Some(b'\n') {
                // Half a line: it is read again when it is whole.
                reader.seek_relative(-i64::try_from(length).unwrap_or(0))?;
                return Ok(());
            }
            if let Some(parsed) = parse(&line) {
                self.give(&parsed);
            }
        }
        Ok(())
    }

    fn give(&mut self, line: &Line<'_>) {
        if let Some(since) = self.options.since {
            let time = std::str::from_utf8(line.time)
                .ok()
                .and_then(|text| text.parse::<jiff::Timestamp>().ok());
            if time.is_some_and(|time| time < since) {
                return;
            }
        }
        if self.options.timestamps && !self.in_line {
            self.put(line.time);
            self.put(b" ");
        }
        self.put(line.text);
        if line.whole {
            self.put(b"\n");
        }
        self.in_line = !line.whole;
        if self.chunk.len() >= CHUNK {
            self.flush();
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        let taken = bytes
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.chunk.extend_from_slice(&bytes[..taken]);
        self.left -= taken as u64;
    }

    fn flush(&mut self) {
        if !self.chunk.is_empty() {
            let chunk = std::mem::take(&mut self.chunk);
            let _ = self.outbox.blocking_send(Ok(chunk.into()));
        }
    }
}

/// The file under this name, when it is another one than the one being read.
fn turned_over(path: &Path, current: Option<&BufReader<File>>) -> Option<File> {
    use std::os::unix::fs::MetadataExt as _;
    let now = File::open(path).ok()?;
    let identity = |file: &File| file.metadata().ok().map(|found| found.ino());
    let same = current.is_some_and(|reader| identity(reader.get_ref()) == identity(&now));
    (!same).then_some(now)
}

/// Moves each file to where the last `wanted` lines of all begin.
fn seek_tail(files: &mut [File], mut wanted: u64) -> io::Result<()> {
    for file in files.iter_mut().rev() {
        let (start, found) = tail_start(file, wanted)?;
        file.seek(SeekFrom::Start(start))?;
        wanted -= found;
    }
    Ok(())
}

/// Where the last `wanted` lines of a file begin, and how many there are.
fn tail_start(file: &mut File, wanted: u64) -> io::Result<(u64, u64)> {
    let mut at = file.seek(SeekFrom::End(0))?;
    if wanted == 0 {
        return Ok((at, 0));
    }
    let (mut ends, mut buffer) = (0, vec![0u8; CHUNK]);
    while at > 0 {
        let length = at.min(CHUNK as u64);
        at -= length;
        file.seek(SeekFrom::Start(at))?;
        let piece = &mut buffer[..length as usize];
        file.read_exact(piece)?;
        for (place, _) in piece
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n')
        {
            ends += 1;
            if ends > wanted {
                return Ok((at + place as u64 + 1, wanted));
            }
        }
    }
    Ok((0, ends))
}

/// The end of a log, as text, for status.
pub(crate) fn last_words(path: &Path, most: usize) -> String {
    let Ok(mut file) = File::open(path) else {
        return String::new();
    };
    let Ok(size) = file.seek(SeekFrom::End(0)) else {
        return String::new();
    };
    let start = size.saturating_sub(4 * most as u64);
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(start)).is_err()
        || file.take(4 * most as u64).read_to_end(&mut bytes).is_err()
    {
        return String::new();
    }
    let mut text = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').filter_map(parse) {
        text.extend_from_slice(line.text);
        if line.whole {
            text.push(b'\n');
        }
    }
    String::from_utf8_lossy(&text[text.len().saturating_sub(most)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    fn write(path: &Path, from: usize, to: usize) {
        let lines: String = (from..to)
            .map(|n| format!("2026-01-01T00:00:{n:02}.000000000Z stdout F line {n}\n"))
            .collect();
        std::fs::write(path, lines).unwrap();
    }

    async fn text(path: &Path, options: LogOptions) -> String {
        let chunks: Vec<_> = read(path.to_owned(), options, || Some(false))
            .unwrap()
            .collect()
            .await;
        chunks
            .into_iter()
            .map(|chunk| String::from_utf8(chunk.unwrap().to_vec()).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn tails_reach_into_the_file_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        write(&older_log(&path), 0, 5);
        write(&path, 5, 8);
        for (tail, expected) in [
            (0, ""),
            (1, "line 7\n"),
            (4, "line 4\nline 5\nline 6\nline 7\n"),
        ] {
            let options = LogOptions {
                tail_lines: Some(tail),
                ..LogOptions::default()
            };
            assert_eq!(text(&path, options).await, expected, "{tail}");
        }
        assert_eq!(
            text(
                &path,
                LogOptions {
                    tail_lines: Some(99),
                    ..LogOptions::default()
                }
            )
            .await
            .lines()
            .count(),
            8
        );
    }

    #[tokio::test]
    async fn times_limits_and_beginnings_are_honoured() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        write(&path, 0, 3);
        let since = Some("2026-01-01T00:00:02Z".parse().unwrap());
        assert_eq!(
            text(
                &path,
                LogOptions {
                    since,
                    ..LogOptions::default()
                }
            )
            .await,
            "line 2\n"
        );
        assert_eq!(
            text(
                &path,
                LogOptions {
                    limit_bytes: Some(4),
                    ..LogOptions::default()
                }
            )
            .await,
            "line"
        );
        let timed = text(
            &path,
            LogOptions {
                timestamps: true,
                tail_lines: Some(1),
                ..LogOptions::default()
            },
        )
        .await;
        assert_eq!(timed, "2026-01-01T00:00:02.000000000Z line 2\n");
    }
}
