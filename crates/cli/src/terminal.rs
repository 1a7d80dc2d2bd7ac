//! The terminal that we run in.

use std::{io, os::fd::BorrowedFd};

use anyhow::{Context, Result};
use nix::sys::termios::{self, SetArg, Termios};

/// A terminal that passes every key on as it is, until dropped.
pub(crate) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Switches the terminal of our standard input.
    pub(crate) fn enter() -> Result<RawTerminal> {
        let before = termios::tcgetattr(input()).context("standard input is no terminal")?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(input(), SetArg::TCSANOW, &raw)?;
        Ok(RawTerminal { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(input(), SetArg::TCSANOW, &self.before);
    }
}

fn input() -> BorrowedFd<'static> {
    // SAFETY: descriptor 0 is open for as long as the process lives; nothing here closes it.
    unsafe { BorrowedFd::borrow_raw(0) }
}

/// Columns and lines of the terminal, where there is one.
pub(crate) fn size() -> Option<(u16, u16)> {
    use std::os::fd::AsRawFd;
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request fills exactly one winsize, which outlives the call.
    let done = unsafe { libc::ioctl(io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    (done == 0 && size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}
