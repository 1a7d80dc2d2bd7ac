//! Starting a command: folder, record, pipes, fork; and finding the pipes again later.
//!
//! Everything here may wait for the disk, so it runs where waiting is allowed.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStringExt,
    },
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl},
    pty::openpty,
    sys::{
        memfd::{MFdFlags, memfd_create},
        wait::waitpid,
    },
    unistd::{Pid, pipe2},
};

use crate::{
    keeper::{self, Descriptors},
    launch::{Input, Launch, Size},
    ledger::Ledger,
    program::Program,
    record::Record,
    sheet::{Name, Sheet},
    stock::{PIPES, Stock, open_reading, open_writing},
    supervisor::StartError,
};

/// The pipe that a keeper rings.
const BELL: &str = PIPES[0];
/// The names of the two output streams, in order, and of their pipes.
pub(crate) const STREAMS: [&str; 2] = [PIPES[1], PIPES[2]];

/// What a supervisor holds of a run that goes.
pub(crate) struct Ends {
    pub(crate) bell: OwnedFd,
    pub(crate) outputs: Outputs,
}

/// Where the output comes from.
pub(crate) enum Outputs {
    Pipes([OwnedFd; 2]),
    Terminal(OwnedFd),
    /// A terminal that an earlier supervisor took with it.
    Gone,
}

/// Records the run and lays out what it speaks through, both ends. Nothing of it runs yet.
pub(crate) fn lay_out(
    sheet: &Sheet,
    record: &Record,
    stock: &Stock,
    launch: &Launch,
) -> io::Result<(Ends, Descriptors)> {
    sheet.create(record, stock)?;
    let note = held_by_all_copies(sheet.lock()?);
    let path = record.pipes.path(sheet.runs(), BELL);
    let bell = open_reading(&path)?;
    let keepers_bell = open_writing(&path, true)?;
    let input = input(&launch.input)?;
    let (outputs, descriptors) = match launch.terminal {
        None => {
            let [(out, to_out, held_out), (err, to_err, held_err)] = [
                ends(sheet, record, STREAMS[0])?,
                ends(sheet, record, STREAMS[1])?,
            ];
            let held = Some([held_out, held_err]);
            let descriptors = Descriptors {
                note,
                bell: keepers_bell,
                input,
                outputs: [to_out, to_err],
                word: None,
                held,
            };
            (Outputs::Pipes([out, err]), descriptors)
        }
        Some(size) => {
            let (master, slave) = terminal(size)?;
            let outputs = [slave.try_clone()?, slave.try_clone()?];
            (
                Outputs::Terminal(master),
                Descriptors {
                    note,
                    bell: keepers_bell,
                    input: slave,
                    outputs,
                    word: None,
                    held: None,
                },
            )
        }
    };
    Ok((Ends { bell, outputs }, descriptors))
}

/// Forks the keeper of a run that nobody will ask for again; says its process id.
pub(crate) fn fork(program: &mut Program, descriptors: &Descriptors) -> io::Result<i32> {
    keeper::fork(program, descriptors)
}

/// Forks the keeper of a run that is to begin once, and puts the run down in the ledger meanwhile:
/// the command waits for the word that it stands there for good.
pub(crate) fn fork_once(
    program: &mut Program,
    mut descriptors: Descriptors,
    ledger: &Ledger,
    name: Name,
) -> io::Result<i32> {
    let (word, giving) = pipe2(OFlag::O_CLOEXEC)?;
    descriptors.word = Some(word);
    let place = ledger.write(name)?;
    let keeper = match keeper::fork(program, &descriptors) {
        Ok(keeper) => keeper,
        Err(error) => {
            // Or else the next supervisor takes it for one that was lost.
            place.strike()?;
            return Err(error);
        }
    };
    let given = place
        .settle()
        .and_then(|()| File::from(giving).write_all(&[1]));
    if let Err(error) = given {
        // Without the word the keeper ends, and nothing has begun.
        let _ = (place.strike(), waitpid(Pid::from_raw(keeper), None));
        return Err(error);
    }
    Ok(keeper)
}

/// Opens what a run that an earlier supervisor began has left to hear and read.
pub(crate) fn resume(sheet: &Sheet, record: &Record) -> io::Result<Ends> {
    let path = |which| record.pipes.path(sheet.runs(), which);
    let bell = open_reading(&path(BELL))?;
    // The keeper saves the output's rest under this lock when it hears nobody.
    let bell =
        Flock::lock(File::from(bell), FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let bell = bell.unlock().map_err(|(_, error)| error)?;
    let outputs = if record.terminal {
        Outputs::Gone
    } else {
        Outputs::Pipes([
            open_reading(&path(STREAMS[0]))?,
            open_reading(&path(STREAMS[1]))?,
        ])
    };
    Ok(Ends {
        bell: bell.into(),
        outputs,
    })
}

/// What is left of a run whose keeper is gone: nothing but what the keeper saved. Its pipes may be
/// another's by now.
pub(crate) fn silent(record: &Record) -> io::Result<Ends> {
    let ended = || pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map(|(reading, _)| reading);
    let outputs = match record.terminal {
        true => Outputs::Gone,
        false => Outputs::Pipes([ended()?, ended()?]),
    };
    Ok(Ends {
        bell: ended()?,
        outputs,
    })
}

/// A lock that goes with the last copy of its descriptor, not with this value: the keeper's
/// copy must go on holding it when this one is closed.
fn held_by_all_copies(lock: Flock<File>) -> OwnedFd {
    let fd = lock.as_raw_fd();
    // The guard would unlock for all copies.
    std::mem::forget(lock);
    // SAFETY: the descriptor is open, and its only other owner was just forgotten.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The two ends of an output pipe, and the keeper's hold on it.
fn ends(sheet: &Sheet, record: &Record, stream: &str) -> io::Result<(OwnedFd, OwnedFd, RawFd)> {
    let path = record.pipes.path(sheet.runs(), stream);
    let reading = open_reading(&path)?;
    let writing = open_writing(&path, false)?;
    let held = reading.as_raw_fd();
    Ok((reading, writing, held))
}

/// The command of a launch, ready for the keeper of this run.
pub(crate) fn make_ready(launch: &Launch, sheet: &Sheet) -> Result<Program, StartError> {
    let [out, err] =
        STREAMS.map(|stream| CString::new(rest(sheet, stream).into_os_string().into_vec()));
    Program::new(
        launch,
        [
            out.map_err(io::Error::other)?,
            err.map_err(io::Error::other)?,
        ],
    )
}

/// Where a keeper saves what nobody read of a stream.
pub(crate) fn rest(sheet: &Sheet, stream: &str) -> std::path::PathBuf {
    sheet.beside(&format!("{stream}.rest"))
}

fn input(input: &Input) -> io::Result<OwnedFd> {
    match input {
        Input::Nothing => Ok(File::open("/dev/null")?.into()),
        Input::From(descriptor) => descriptor.try_clone(),
        Input::Bytes(bytes) => {
            let mut file = File::from(memfd_create("input", MFdFlags::MFD_CLOEXEC)?);
            file.write_all(bytes)?;
            io::Seek::rewind(&mut file)?;
            Ok(file.into())
        }
    }
}

fn terminal(size: Size) -> Result<(OwnedFd, OwnedFd), Errno> {
    let size = nix::pty::Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pair = openpty(&size, None)?;
    for fd in [&pair.master, &pair.slave] {
        fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    }
    fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((pair.master, pair.slave))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{launch::Key, record::Record, sheet::Standing, stock::Owner};

    /// A supervisor that is killed between the fork and its word.
    #[test]
    fn a_command_whose_supervisor_goes_without_a_word_never_begins() {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join("trace");
        let launch = Launch::new(["/usr/bin/touch", trace.to_str().unwrap()]);
        let stock = Stock::new(dir.path(), Owner::One);
        let key = Key::new("run").unwrap();
        let sheet = Sheet::of(dir.path(), &key);
        let mut record = Record::new(key, &launch).unwrap();
        record.pipes = stock.pipes().unwrap();
        let (_ends, mut descriptors) = lay_out(&sheet, &record, &stock, &launch).unwrap();
        let (word, giving) = pipe2(OFlag::O_CLOEXEC).unwrap();
        descriptors.word = Some(word);
        drop(giving);
        let keeper = keeper::fork(&mut make_ready(&launch, &sheet).unwrap(), &descriptors).unwrap();
        drop(descriptors);
        waitpid(Pid::from_raw(keeper), None).unwrap();
        assert!(matches!(sheet.standing(&record), Standing::NeverBegan));
        assert!(!trace.exists());
    }
}
