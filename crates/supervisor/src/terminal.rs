//! The controlling side of a run's terminal: typing and resizing.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

use crate::{descriptor::watched, launch::Size};

/// Writes to a command's terminal and changes its size.
pub struct Terminal(AsyncFd<OwnedFd>);

impl Terminal {
    pub(crate) fn new(master: OwnedFd) -> io::Result<Self> {
        Ok(Self(watched(master, Interest::WRITABLE)?))
    }

    /// Types these bytes. Waits while the command does not read. What no one will ever read
    /// because the command is gone is an error.
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| Ok(nix::unistd::write(fd.as_fd(), bytes)?)) {
                Ok(written) => bytes = &bytes[written?..],
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Tells the command that its window has another size.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        let size = libc::winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the descriptor is open and the size lives on this stack.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCSWINSZ, &size) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The process group in front, which a signal typed at the terminal goes to.
    pub fn foreground(&self) -> Option<i32> {
        nix::unistd::tcgetpgrp(self.0.get_ref())
            .ok()
            .map(nix::unistd::Pid::as_raw)
    }
}
