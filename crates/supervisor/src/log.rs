//! One output stream of one run, on disk: whole while it is small, its head and tail when it
//! is a flood, and readable by any number of readers from any offset.
//!
//! The stream is cut into segments, files named by the run and the offset they begin at. The lengths of
//! the files are the truth, so nothing that was read from the command is lost when the
//! supervisor dies: bytes move from pipe to file inside one system call.
//!
//! ```text
//! │ head │ gone … │ segment │ segment │ segment → │
//! 0    256K                                   written
//! ```
//!
//! A segment that an attached reader still needs is not dropped; then the command has to wait,
//! as it would for any slow reader of a pipe. A reader that makes no progress for
//! [`PATIENCE`] no longer holds the command back and will find a gap instead.

use std::{
    collections::{HashMap, VecDeque},
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, watch};

use crate::{launch::Keep, stock::Stock};

/// How long a reader may hold a command back without reading.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The most that is handed to a reader at once.
const CHUNK: u64 = 128 << 10;
const SMALLEST_SEGMENT: u64 = 64 << 10;
const LARGEST_SEGMENT: u64 = 1 << 20;

/// A stream's segments and who reads them.
pub(crate) struct Log {
    /// What its segments' names begin with.
    stem: PathBuf,
    keep: Keep,
    /// Where segments come from and go to.
    stock: Arc<Stock>,
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
    /// Told when a reader moves on.
    room: Notify,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    written: u64,
    /// Whether readers who have everything are done.
    over: bool,
}

#[derive(Default)]
struct State {
    segments: VecDeque<Segment>,
    current: Option<File>,
    written: u64,
    readers: HashMap<u64, Position>,
    next_reader: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    start: u64,
    length: u64,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.length
    }
}

struct Position {
    offset: u64,
    /// Let go: it did not read for too long.
    late: bool,
}

impl Log {
    /// The log at `stem`, with the segments that an earlier supervisor left there.
    pub(crate) fn open(
        stem: PathBuf,
        keep: Keep,
        starts: impl Iterator<Item = u64>,
        stock: Arc<Stock>,
    ) -> io::Result<Arc<Self>> {
        let segment = |start| {
            let length = segment_at(&stem, start).metadata()?.len();
            Ok(Segment { start, length })
        };
        let mut segments = starts.map(segment).collect::<io::Result<Vec<_>>>()?;
        segments.sort_by_key(|segment| segment.start);
        Ok(Self::with(stem, keep, segments, stock))
    }

    /// The log of a run that has just been made, for which nothing is there yet.
    pub(crate) fn fresh(stem: PathBuf, keep: Keep, stock: Arc<Stock>) -> Arc<Self> {
        Self::with(stem, keep, Vec::new(), stock)
    }

    fn with(stem: PathBuf, keep: Keep, segments: Vec<Segment>, stock: Arc<Stock>) -> Arc<Self> {
        let written = segments.last().map_or(0, Segment::end);
        let state = State {
            segments: segments.into(),
            written,
            ..State::default()
        };
        Arc::new(Self {
            stem,
            keep,
            stock,
            state: Mutex::new(state),
            progress: watch::Sender::new(Progress {
                written,
                over: false,
            }),
            room: Notify::new(),
        })
    }

    /// Gives everything up that is kept.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.current = None;
        for segment in std::mem::take(&mut state.segments) {
            // Left behind at worst: the next supervisor clears it away.
            let _ = self.stock.give_back(&self.path(segment.start));
        }
    }

    /// How many bytes were written since the beginning.
    pub(crate) fn written(&self) -> u64 {
        self.lock().written
    }

    /// Appends what `move_into` moves into the given file at the given offset, at most so many
    /// bytes. Returns what it returned; nothing for the end of the stream.
    pub(crate) fn append(
        &self,
        move_into: impl FnOnce(&File, u64, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut state = self.lock();
        let (start, room) = self.open_segment(&mut state)?;
        let at = state.written - start;
        let Some(file) = &state.current else {
            return Err(io::Error::other("no segment is open"));
        };
        let moved = move_into(file, at, usize::try_from(room).unwrap_or(usize::MAX))?;
        self.advance(&mut state, moved as u64, true);
        Ok(moved)
    }

    /// Counts bytes that could not be stored: readers find a gap.
    pub(crate) fn skip(&self, bytes: u64) {
        let mut state = self.lock();
        state.current = None;
        self.advance(&mut state, bytes, false);
    }

    fn advance(&self, state: &mut State, bytes: u64, stored: bool) {
        state.written += bytes;
        if stored && let Some(last) = state.segments.back_mut() {
            last.length += bytes;
        }
        self.drop_old(state);
        let written = state.written;
        self.progress
            .send_modify(|progress| progress.written = written);
    }

    /// The segment to write to: its start and how much fits.
    fn open_segment(&self, state: &mut State) -> io::Result<(u64, u64)> {
        if state.current.is_some()
            && let Some(last) = state.segments.back()
            && last.length < self.capacity(last)
        {
            return Ok((last.start, self.capacity(last) - last.length));
        }
        // After a restart the last segment may have room, if nothing was skipped behind it.
        let continued = state.segments.back().copied().filter(|last| {
            state.current.is_none()
                && last.end() == state.written
                && last.length < self.capacity(last)
        });
        let segment = continued.unwrap_or(Segment {
            start: state.written,
            length: 0,
        });
        let path = self.path(segment.start);
        let file = match continued {
            Some(_) => OpenOptions::new().read(true).write(true).open(path)?,
            None => self.stock.file(&path)?,
        };
        state.current = Some(file);
        if continued.is_none() {
            state.segments.push_back(segment);
        }
        Ok((segment.start, self.capacity(&segment) - segment.length))
    }

    fn capacity(&self, segment: &Segment) -> u64 {
        if segment.start < self.keep.head {
            self.keep.head - segment.start
        } else {
            (self.keep.tail / 8).clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT)
        }
    }

    /// Drops the oldest segments behind the head while enough is left without them.
    fn drop_old(&self, state: &mut State) {
        let needed = state
            .readers
            .values()
            .filter(|r| !r.late)
            .map(|r| r.offset)
            .min()
            .unwrap_or(u64::MAX);
        while let Some(index) = state
            .segments
            .iter()
            .position(|segment| segment.start >= self.keep.head)
        {
            let oldest = state.segments[index];
            let is_last = index + 1 == state.segments.len();
            if is_last || state.written - oldest.end() < self.keep.tail || needed < oldest.end() {
                return;
            }
            state.segments.remove(index);
            // A file that is already gone is as good as removed.
            let _ = self.stock.give_back(&self.path(oldest.start));
        }
    }

    /// Waits until a reader that holds the stream back has moved on or has lost its right to.
    pub(crate) async fn has_room(&self) {
        loop {
            let room = self.room.notified();
            if !self.is_full() {
                return;
            }
            if tokio::time::timeout(PATIENCE, room).await.is_err() {
                self.let_go();
            }
        }
    }

    fn is_full(&self) -> bool {
        let state = self.lock();
        let oldest = state
            .readers
            .values()
            .filter(|r| !r.late)
            .map(|r| r.offset)
            .min()
            .unwrap_or(u64::MAX);
        // What the head holds stays anyway.
        let oldest = oldest.max(self.keep.head);
        state.written.saturating_sub(oldest) > self.keep.tail + LARGEST_SEGMENT
    }

    fn let_go(&self) {
        let mut state = self.lock();
        let written = state.written;
        let limit = self.keep.tail + LARGEST_SEGMENT;
        for reader in state.readers.values_mut() {
            reader.late |= written.saturating_sub(reader.offset.max(self.keep.head)) > limit;
        }
        self.drop_old(&mut state);
    }

    /// Lets readers end once they have everything written so far.
    pub(crate) fn end(&self) {
        self.progress.send_modify(|progress| progress.over = true);
    }

    /// A reader that begins at `offset`.
    pub(crate) fn reader(self: &Arc<Self>, offset: u64) -> Reader {
        let mut state = self.lock();
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(
            id,
            Position {
                offset,
                late: false,
            },
        );
        Reader {
            log: self.clone(),
            id,
            offset,
            open: None,
            progress: self.progress.subscribe(),
            buffer: BytesMut::new(),
        }
    }

    fn path(&self, start: u64) -> PathBuf {
        segment_at(&self.stem, start)
    }

    /// Whether a segment that begins here is kept.
    fn keeps(&self, start: u64) -> bool {
        let state = self.lock();
        state
            .segments
            .binary_search_by_key(&start, |segment| segment.start)
            .is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn segment_at(stem: &Path, start: u64) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(format!(".{start}"));
    path.into()
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes as the command wrote them.
    Bytes(Bytes),
    /// So many bytes are no longer kept.
    Missing(u64),
}

/// Reads one output stream of a run from an offset on, following it while the run goes.
pub struct Reader {
    log: Arc<Log>,
    id: u64,
    offset: u64,
    open: Option<(u64, File)>,
    progress: watch::Receiver<Progress>,
    buffer: BytesMut,
}

enum Found {
    Piece { start: u64, length: u64 },
    Gap(u64),
    Nothing,
}

impl Reader {
    /// Where the next piece begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next piece; nothing when the run is over and all was read. Cancel safe.
    pub async fn next(&mut self) -> io::Result<Option<Chunk>> {
        loop {
            let progress = *self.progress.borrow_and_update();
            if let Some(chunk) = self.read()? {
                return Ok(Some(chunk));
            }
            if progress.over && self.offset >= progress.written {
                return Ok(None);
            }
            // The log outlives its readers, so the sender is there.
            if self.progress.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// What can be read without waiting.
    pub fn read(&mut self) -> io::Result<Option<Chunk>> {
        loop {
            match self.find() {
                Found::Nothing => return Ok(None),
                Found::Gap(bytes) => {
                    self.advance(bytes);
                    return Ok(Some(Chunk::Missing(bytes)));
                }
                Found::Piece { start, length } => match self.read_segment(start, length) {
                    Ok(bytes) => {
                        self.advance(bytes.len() as u64);
                        return Ok(Some(Chunk::Bytes(bytes)));
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        if self.log.keeps(start) {
                            // Its run was forgotten, with all its files.
                            self.advance(length);
                            return Ok(Some(Chunk::Missing(length)));
                        }
                        // Dropped since it was found: look again, there is a gap now.
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }

    fn find(&self) -> Found {
        let state = self.log.lock();
        let after = state
            .segments
            .partition_point(|segment| segment.start <= self.offset);
        if let Some(segment) = after
            .checked_sub(1)
            .and_then(|index| state.segments.get(index))
            && self.offset < segment.end()
        {
            let length = (segment.end() - self.offset).min(CHUNK);
            return Found::Piece {
                start: segment.start,
                length,
            };
        }
        let next = state
            .segments
            .get(after)
            .map_or(state.written, |segment| segment.start);
        if next > self.offset {
            Found::Gap(next - self.offset)
        } else {
            Found::Nothing
        }
    }

    fn read_segment(&mut self, start: u64, length: u64) -> io::Result<Bytes> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != start) {
            self.open = Some((start, File::open(self.log.path(start))?));
        }
        let Some((_, file)) = &self.open else {
            return Err(io::ErrorKind::NotFound.into());
        };
        // A piece is at most CHUNK long.
        self.buffer.resize(length as usize, 0);
        let read = file.read_exact_at(&mut self.buffer, self.offset - start);
        if !self.log.keeps(start) {
            // Given up meanwhile, and perhaps another's already.
            self.open = None;
            return Err(io::ErrorKind::NotFound.into());
        }
        read?;
        Ok(self.buffer.split().freeze())
    }

    fn advance(&mut self, bytes: u64) {
        self.offset += bytes;
        let mut state = self.log.lock();
        if let Some(position) = state.readers.get_mut(&self.id) {
            position.offset = self.offset;
        }
        drop(state);
        self.log.room.notify_one();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.log.lock();
        state.readers.remove(&self.id);
        self.log.drop_old(&mut state);
        drop(state);
        self.log.room.notify_one();
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
