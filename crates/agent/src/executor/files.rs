//! Files of the workspace, streamed in and out; never beyond it, whatever links lie there.

use std::io::{Read, Write};

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
fn open(workspace: &std::path::Path, path: &str) -> std::io::Result<cap_std::fs::File> {
    let folder = Dir::open_ambient_dir(workspace, ambient_authority())?;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = folder.open_with(path, &options)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

fn pour(
    mut file: cap_std::fs::File,
    to: &mpsc::Sender<Result<FileChunk, Status>>,
) -> std::io::Result<()> {
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

/// Writes beside the place, then moves there what is whole.
fn put(
    workspace: &std::path::Path,
    path: &str,
    mut parts: mpsc::Receiver<Option<Bytes>>,
) -> std::io::Result<u64> {
    let folder = Dir::open_ambient_dir(workspace, ambient_authority())?;
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if !parent.is_empty() {
        folder.create_dir_all(parent)?;
    }
    let unfinished = match parent {
        "" => format!(".{name}.part"),
        parent => format!("{parent}/.{name}.part"),
    };
    let mut file = folder.create(&unfinished)?;
    let mut size = 0;
    loop {
        match parts.blocking_recv() {
            Some(Some(data)) => {
                file.write_all(&data)?;
                size += data.len() as u64;
            }
            Some(None) => break,
            None => {
                folder.remove_file(&unfinished)?;
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
    folder.rename(&unfinished, &folder, path)?;
    Ok(size)
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

fn refused(path: &str, error: &std::io::Error) -> Status {
    let message = format!("{path}: {error}");
    match error.kind() {
        std::io::ErrorKind::NotFound => Status::not_found(message),
        std::io::ErrorKind::StorageFull => Status::resource_exhausted(message),
        _ => Status::failed_precondition(message),
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
