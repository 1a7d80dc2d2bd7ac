//! Files of the workspace, streamed in and out; never beyond it, whatever links lie there.

use std::{
    io::{self, ErrorKind, Read, Write},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions, OpenOptionsExt},
};
use futures::{StreamExt, stream::BoxStream};
use sandlot_api::executor::{FileChunk, FilePart, ReadRequest, Written};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::files::Grounds;

/// How much of a file is sent at once.
const CHUNK: usize = 256 << 10;
/// How many pieces are on their way.
const AHEAD: usize = 4;

/// Streams a file out.
pub(super) async fn read(
    grounds: &Grounds,
    request: ReadRequest,
) -> Result<BoxStream<'static, Result<FileChunk, Status>>, Status> {
    let path = relative(&request.path)?.to_owned();
    let workspace = grounds.workspace.clone();
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let told = open(&workspace, &path).and_then(|file| pour(file, &sender));
        if let Err(error) = told {
            let _ = sender.blocking_send(Err(refused(&path, &error)));
        }
    });
    Ok(ReceiverStream::new(receiver).boxed())
}

/// Opens a regular file, and nothing that would keep us waiting.
fn open(workspace: &std::path::Path, path: &str) -> io::Result<cap_std::fs::File> {
    let folder = Dir::open_ambient_dir(workspace, ambient_authority())?;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = folder.open_with(path, &options)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

fn pour(
    mut file: cap_std::fs::File,
    to: &mpsc::Sender<Result<FileChunk, Status>>,
) -> io::Result<()> {
    loop {
        let mut piece = vec![0; CHUNK];
        let length = file.read(&mut piece)?;
        piece.truncate(length);
        let data = Bytes::from(piece);
        // Who stopped listening wants no more of it.
        if length == 0 || to.blocking_send(Ok(FileChunk { data })).is_err() {
            return Ok(());
        }
    }
}

/// Takes a file in: it is there whole, or not at all.
pub(super) async fn write(
    grounds: &Grounds,
    mut parts: Streaming<FilePart>,
) -> Result<Written, Status> {
    let first = parts
        .message()
        .await?
        .ok_or_else(|| Status::invalid_argument("no file was sent"))?;
    let path = relative(&first.path)?.to_owned();
    let workspace = grounds.workspace.clone();
    let (sender, receiver) = mpsc::channel(AHEAD);
    let writing = tokio::task::spawn_blocking({
        let path = path.clone();
        move || put(&workspace, &path, receiver)
    });
    let mut next = Some(first);
    while let Some(part) = next {
        // Who writes no more says below why.
        let _ = sender.send(Some(part.data)).await;
        if part.last {
            let _ = sender.send(None).await;
            break;
        }
        next = parts.message().await?;
    }
    drop(sender);
    let written = writing
        .await
        .map_err(|error| Status::internal(error.to_string()))?;
    let size = written.map_err(|error| refused(&path, &error))?;
    Ok(Written { size })
}

/// Writes beside the place, then moves there what is whole. What is not leaves nothing.
fn put(
    workspace: &std::path::Path,
    path: &str,
    parts: mpsc::Receiver<Option<Bytes>>,
) -> io::Result<u64> {
    let folder = Dir::open_ambient_dir(workspace, ambient_authority())?;
    let parent = path.rsplit_once('/').map(|(parent, _)| parent);
    if let Some(parent) = parent {
        folder.create_dir_all(parent)?;
    }
    let name = unfinished();
    let unfinished = parent.map_or(name.clone(), |parent| format!("{parent}/{name}"));
    let written = fill(&folder, &unfinished, parts)
        .and_then(|size| folder.rename(&unfinished, &folder, path).map(|()| size));
    if written.is_err() {
        // It may not even have come to be.
        let _ = folder.remove_file(&unfinished);
    }
    written
}

/// A name that no other file has that is being written, of whatever name that will be: one may
/// come twice at once, and a long name has no room for more.
fn unfinished() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(".sandlot-{}-{number}.part", std::process::id())
}

/// Writes a file to its end; its size.
fn fill(folder: &Dir, path: &str, mut parts: mpsc::Receiver<Option<Bytes>>) -> io::Result<u64> {
    let mut file = folder.create(path)?;
    let mut size = 0;
    loop {
        match parts.blocking_recv() {
            Some(Some(data)) => {
                file.write_all(&data)?;
                size += data.len() as u64;
            }
            Some(None) => return Ok(size),
            None => return Err(ErrorKind::ConnectionAborted.into()),
        }
    }
}

/// A path below the workspace, or a refusal.
fn relative(path: &str) -> Result<&str, Status> {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !path.is_empty() && path.split('/').all(is_plain) {
        return Ok(path);
    }
    Err(Status::invalid_argument(format!(
        "{path:?} is no path below the workspace"
    )))
}

/// Why there is no such file. A precondition is what asking again does not change.
fn refused(path: &str, error: &io::Error) -> Status {
    let message = format!("{path}: {error}");
    match error.kind() {
        ErrorKind::NotFound => Status::not_found(message),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Status::resource_exhausted(message),
        ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::AlreadyExists
        | ErrorKind::InvalidFilename
        | ErrorKind::PermissionDenied => Status::failed_precondition(message),
        _ => Status::internal(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_pipes_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("/etc/passwd", at("out")).unwrap();
        std::os::unix::fs::symlink("/etc", at("folder")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in ["out", "folder/passwd", "pipe", "missing"] {
            assert!(open(folder.path(), path).is_err(), "{path}");
        }
        let (sender, receiver) = mpsc::channel(AHEAD);
        drop(sender);
        assert!(put(folder.path(), "folder/x", receiver).is_err());
        for path in ["", "/etc/passwd", "../x", "a//b", "a/../b", "./a"] {
            assert!(relative(path).is_err(), "{path:?}");
        }
    }

    fn sent(text: &'static str) -> mpsc::Receiver<Option<Bytes>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        sender.try_send(Some(text.into())).unwrap();
        sender.try_send(None).unwrap();
        receiver
    }

    #[test]
    fn what_cannot_be_there_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(255);
        for path in ["a/b", &long] {
            assert_eq!(put(folder.path(), path, sent("text")).unwrap(), 4);
        }
        for path in ["a", "a/b/c", &format!("{long}x")] {
            let error = put(folder.path(), path, sent("text")).unwrap_err();
            let code = refused(path, &error).code();
            assert_eq!(code, tonic::Code::FailedPrecondition, "{path}: {error}");
        }
        let left = |path: &str| std::fs::read_dir(folder.path().join(path)).unwrap().count();
        assert_eq!((left("."), left("a")), (2, 1));
    }

    #[test]
    fn two_that_write_one_file_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let (slow, late) = mpsc::channel(AHEAD);
        let path = folder.path().to_owned();
        let writing = std::thread::spawn(move || put(&path, "a", late));
        slow.blocking_send(Some(Bytes::from_static(b"slow ")))
            .unwrap();
        assert_eq!(put(folder.path(), "a", sent("quick")).unwrap(), 5);
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"quick");
        slow.blocking_send(Some(Bytes::from_static(b"but whole")))
            .unwrap();
        slow.blocking_send(None).unwrap();
        writing.join().unwrap().unwrap();
        let whole = std::fs::read(folder.path().join("a")).unwrap();
        assert_eq!(whole, b"slow but whole");
    }

    #[test]
    fn a_file_whose_end_never_comes_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let (sender, receiver) = mpsc::channel(AHEAD);
        sender.try_send(Some(Bytes::from_static(b"half"))).unwrap();
        drop(sender);
        assert!(put(folder.path(), "a/b.txt", receiver).is_err());
        assert_eq!(
            std::fs::read_dir(folder.path().join("a")).unwrap().count(),
            0
        );
    }
}
