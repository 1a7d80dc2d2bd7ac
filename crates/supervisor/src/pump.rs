//! Moves a command's output from its pipe or terminal into the log.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::PathBuf,
    sync::Arc,
};

use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{descriptor::watched, log::Log};

/// The most that is moved before others get their turn.
const TURN: usize = 256 << 10;
/// What is taken of a terminal at once. The kernel has about a page of it ready, and makes the
/// next ready when that is taken.
const PIECE: usize = 16 << 10;
/// Whoever wrote so much to a terminal is writing more.
const FLOOD: usize = 4 << 10;
/// How often a turn waits for the kernel to make more of a flood ready.
const MOST_WAITS: usize = 64;
/// What a pipe holds at first, and what it holds for a command that once filled it: a flood then
/// wakes us a few times less often.
const USUAL_PIPE: usize = 64 << 10;
const WIDE_PIPE: usize = 512 << 10;

/// Where output comes from.
pub(crate) struct Source {
    from: AsyncFd<OwnedFd>,
    kind: Kind,
}

enum Kind {
    /// A pipe, whose bytes move without a detour through this process. What the keeper saved
    /// when nobody was reading lies in this file.
    Pipe { rest: PathBuf },
    /// The controlling side of a terminal.
    Terminal,
}

impl Source {
    /// A non-blocking reading end of a pipe, and where the keeper puts what nobody read.
    pub(crate) fn pipe(from: OwnedFd, rest: PathBuf) -> io::Result<Self> {
        Ok(Self {
            from: watched(from, Interest::READABLE)?,
            kind: Kind::Pipe { rest },
        })
    }

    /// A non-blocking controlling side of a terminal.
    pub(crate) fn terminal(from: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            from: watched(from, Interest::READABLE)?,
            kind: Kind::Terminal,
        })
    }

    /// Moves what is in the pipe into the file; nothing at the end of the stream.
    fn move_into(&self, file: &File, at: u64, room: usize) -> io::Result<usize> {
        let (room, mut offset) = (room.min(TURN), at.cast_signed());
        let (from, flags) = (self.from.as_fd(), SpliceFFlags::SPLICE_F_NONBLOCK);
        Ok(splice(from, None, file, Some(&mut offset), room, flags)?)
    }

    /// Takes what the terminal shows; nothing at the end of the stream. Of a flood as much as
    /// fits into a turn, piece by piece: readers are woken once for all of it.
    fn take_shown(&self, log: &Log) -> io::Result<usize> {
        let mut piece = [0; PIECE];
        let (mut moved, mut waits) = (0, 0);
        while moved < TURN {
            match self.read(&mut piece) {
                // The next turn meets the end again.
                Ok(0) => break,
                Ok(count) => {
                    store(log, &piece[..count]);
                    moved += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if moved == 0 => return Err(error),
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && moved >= FLOOD
                        && waits < MOST_WAITS =>
                {
                    waits += 1;
                    std::thread::yield_now();
                }
                Err(_) => break,
            }
        }
        Ok(moved)
    }

    fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match nix::unistd::read(self.from.as_fd(), bytes) {
            // A terminal whose last user is gone.
            Err(nix::errno::Errno::EIO) => Ok(0),
            other => Ok(other?),
        }
    }

    /// Lets a pipe hold more. Who has many wide ones already is refused, and stays as it is.
    fn widen(&self) {
        if matches!(self.kind, Kind::Pipe { .. }) {
            let size = libc::c_int::try_from(WIDE_PIPE).unwrap_or(libc::c_int::MAX);
            let _ = fcntl(self.from.as_fd(), FcntlArg::F_SETPIPE_SZ(size));
        }
    }

    /// Moves what is there into the log; nothing at the end of the stream.
    fn take(&self, log: &Log) -> io::Result<usize> {
        if matches!(self.kind, Kind::Terminal) {
            return self.take_shown(log);
        }
        if self.unread() > 0 {
            return log.append(|file, at, room| self.move_into(file, at, room));
        }
        // Most commands write to one stream only, so a file is made with the first byte.
        let mut first = [0];
        if self.read(&mut first)? == 0 {
            return Ok(0);
        }
        store(log, &first);
        Ok(1)
    }

    /// Bytes written by the command and not yet taken.
    pub(crate) fn unread(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: FIONREAD writes one integer.
        let done = unsafe { libc::ioctl(self.from.as_raw_fd(), libc::FIONREAD, &mut bytes) };
        if done == 0 {
            usize::try_from(bytes).unwrap_or(0)
        } else {
            0
        }
    }

    /// Moves one turn's worth, or throws it away when the disk does not take it.
    async fn turn(&self, log: &Log) -> io::Result<usize> {
        loop {
            let mut ready = self.from.readable().await?;
            match ready.try_io(|_| self.take(log)) {
                Ok(Err(error)) if is_disk_trouble(&error) => {
                    let mut scratch = vec![0; 64 << 10];
                    if let Ok(thrown_away) = ready.try_io(|_| self.read(&mut scratch)) {
                        log.skip(*thrown_away.as_ref().unwrap_or(&0) as u64);
                        return thrown_away;
                    }
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }
}

fn is_disk_trouble(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

/// Moves everything until the last writer is gone.
pub(crate) async fn pump(source: Arc<Source>, log: Arc<Log>) {
    // A pipe opened after its last writer went is at its end without ever becoming readable.
    let mut moved = source.take(&log);
    let mut widened = false;
    while !matches!(moved, Ok(0)) {
        if !widened && moved.as_ref().is_ok_and(|moved| *moved >= USUAL_PIPE) {
            source.widen();
            widened = true;
        }
        log.has_room().await;
        moved = source.turn(&log).await;
        if moved.is_err() {
            break;
        }
    }
    if let Kind::Pipe { rest } = &source.kind {
        append_rest(rest, &log);
    }
}

/// Appends what the keeper saved while no supervisor was there.
fn append_rest(rest: &std::path::Path, log: &Log) {
    let Ok(mut file) = File::open(rest) else {
        return;
    };
    let mut bytes = Vec::new();
    // At most what a pipe holds.
    if file.read_to_end(&mut bytes).is_err() || std::fs::remove_file(rest).is_err() {
        return;
    }
    store(log, &bytes);
}

/// Appends these bytes, or counts them when the disk does not take them.
fn store(log: &Log, mut left: &[u8]) {
    while !left.is_empty() {
        let stored = log.append(|file, at, room| {
            let part = &left[..left.len().min(room)];
            file.write_all_at(part, at)?;
            Ok(part.len())
        });
        let Ok(stored) = stored else {
            return log.skip(left.len() as u64);
        };
        left = &left[stored..];
    }
}
