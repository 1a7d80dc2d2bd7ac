//! Archives: unpacked into a session's workspace, entry by entry, however they lie about
//! themselves.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    sync::Arc,
};

use axum::http::StatusCode;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use zip::ZipArchive;

use crate::{
    gateway::Gateway,
    ledger::Session,
    refusal::{Fault, Refusal},
    workspaces::{Content, FileError, is_path},
};

/// How much of an entry is unpacked at once.
const PIECE: usize = 256 << 10;
/// How many pieces are on their way.
const AHEAD: usize = 4;

/// What came out of an archive.
#[derive(Default)]
pub(crate) struct Extracted {
    /// Below the session's workspace.
    pub(crate) paths: Vec<String>,
    /// Files that were there already and stayed.
    pub(crate) skipped: usize,
    /// In bytes, all together.
    pub(crate) size: u64,
}

/// Unpacks a ZIP archive below a folder of the workspace. All names, and the sizes that are said,
/// are checked before the first file is written; sizes are counted as they come, too. What came out
/// before something went wrong is in `extracted` all the same.
pub(crate) async fn extract(
    gateway: &Arc<Gateway>,
    session: &Session,
    below: &str,
    overwrite: bool,
    content: Content,
    extracted: &mut Extracted,
) -> Result<(), Refusal> {
    let file = spool(content, gateway.settings.largest_upload).await?;
    let (most_files, most_bytes) = gateway.settings.largest_archive;
    let below = below.to_owned();
    let opened = tokio::task::spawn_blocking(move || open(file, &below, most_files)).await;
    let (archive, entries) = opened.map_err(|error| Refusal::Broken(error.to_string()))??;
    let there: BTreeSet<String> = match overwrite {
        true => BTreeSet::new(),
        false => {
            let all = gateway.files.list(&session.id, "", usize::MAX).await?;
            all.into_iter().map(|entry| entry.path).collect()
        }
    };
    let (wanted, skipped): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|member| !there.contains(&member.path));
    extracted.skipped = skipped.len();
    let sizes = wanted.iter().map(|member| member.size);
    if sizes.fold(0, u64::saturating_add) > most_bytes {
        return Err(too_large(most_bytes));
    }
    let mut archive = Some(archive);
    for Member { index, path, .. } in wanted {
        let Some(opened) = archive.take() else {
            return Err(Refusal::Broken("unpacking an archive broke off".to_owned()));
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        let unpacking = tokio::task::spawn_blocking(move || unpack(opened, index, &sender));
        let content = ReceiverStream::new(receiver).boxed();
        let room = most_bytes - extracted.size;
        let kept = gateway.take_in(session, &path, content, room).await;
        archive = unpacking.await.ok();
        extracted.size += kept.map_err(|error| match error {
            FileError::TooLarge(_) => too_large(most_bytes),
            error => error.into(),
        })?;
        extracted.paths.push(path);
    }
    Ok(())
}

/// Puts an upload into a file without a name: an archive is read from its end.
async fn spool(mut content: Content, most: u64) -> Result<File, Refusal> {
    let broken = |error: std::io::Error| Refusal::Broken(error.to_string());
    let mut file = tempfile::tempfile().map_err(broken)?;
    let mut size = 0;
    while let Some(piece) = content.next().await {
        let piece = piece.map_err(|error| FileError::Broken(error.to_string()))?;
        size += piece.len() as u64;
        if size > most {
            return Err(FileError::TooLarge(most).into());
        }
        let writing = tokio::task::spawn_blocking(move || file.write_all(&piece).map(|()| file));
        let written = writing
            .await
            .map_err(|error| Refusal::Broken(error.to_string()))?;
        file = written.map_err(broken)?;
    }
    file.seek(SeekFrom::Start(0)).map_err(broken)?;
    Ok(file)
}

/// A file in an archive.
#[derive(Debug, PartialEq)]
struct Member {
    index: usize,
    /// Where it goes, below the session's workspace.
    path: String,
    /// As the archive says.
    size: u64,
}

type Opened = (ZipArchive<File>, Vec<Member>);

/// The files in an archive.
fn open(file: File, below: &str, most: usize) -> Result<Opened, Refusal> {
    let mut archive = ZipArchive::new(file).map_err(|_| wrong("the file is no ZIP archive"))?;
    if archive.len() > most {
        return Err(Refusal::Plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the archive has more than {most} entries"),
        ));
    }
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let entry = archive
            .by_index_raw(index)
            .map_err(|error| wrong(format!("the archive is damaged: {error}")))?;
        let name = match entry.name() {
            Ok(name) => name.into_owned(),
            Err(_) => return Err(wrong("the archive has a name that is not text")),
        };
        let kind = entry.unix_mode().unwrap_or(0) & 0o170_000;
        if !matches!(kind, 0 | 0o100_000 | 0o040_000) {
            return Err(wrong(format!("{name:?} is a link or a device, not a file")));
        }
        if entry.encrypted() {
            return Err(wrong(format!("{name:?} is encrypted")));
        }
        let plain = name.trim_end_matches('/');
        if !is_path(plain) {
            return Err(wrong(format!("{name:?} leads out of the workspace")));
        }
        if entry.is_dir() {
            continue;
        }
        let path = match below {
            "" => plain.to_owned(),
            below => format!("{below}/{plain}"),
        };
        let size = entry.size();
        entries.push(Member { index, path, size });
    }
    Ok((archive, entries))
}

/// Unpacks one entry piece by piece; gives the archive back for the next.
fn unpack(
    mut archive: ZipArchive<File>,
    index: usize,
    to: &mpsc::Sender<std::io::Result<Bytes>>,
) -> ZipArchive<File> {
    let told = archive
        .by_index(index)
        .map_err(std::io::Error::other)
        .and_then(|mut entry| {
            loop {
                let mut piece = vec![0; PIECE];
                let length = entry.read(&mut piece)?;
                piece.truncate(length);
                // Who has had enough of it hangs up.
                if length == 0 || to.blocking_send(Ok(piece.into())).is_err() {
                    return Ok(());
                }
            }
        });
    if let Err(error) = told {
        let _ = to.blocking_send(Err(error));
    }
    archive
}

fn too_large(most: u64) -> Refusal {
    Refusal::Plain(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the archive unpacks to more than {most} bytes"),
    )
}

/// An archive that is not taken.
fn wrong(message: impl Into<String>) -> Refusal {
    Refusal::Schema(vec![Fault {
        kind: "value_error",
        at: vec!["body".into(), "file".into()],
        message: format!("Value error, {}", message.into()),
        input: serde_json::Value::Null,
    }])
}

#[cfg(test)]
mod tests {
    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    fn archive(fill: impl FnOnce(&mut ZipWriter<File>)) -> File {
        let mut writer = ZipWriter::new(tempfile::tempfile().unwrap());
        fill(&mut writer);
        let mut file = writer.finish().unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file
    }

    fn plain() -> SimpleFileOptions {
        SimpleFileOptions::default()
    }

    #[test]
    fn files_go_below_their_folder() {
        let file = archive(|zip| {
            zip.add_directory("src", plain()).unwrap();
            zip.start_file("src/a.py", plain()).unwrap();
            zip.write_all(b"print()").unwrap();
        });
        let Ok((_, entries)) = open(file, "job", 10) else {
            panic!("opens")
        };
        let (path, size) = ("job/src/a.py".to_owned(), 7);
        let index = 1;
        assert_eq!(entries, [Member { index, path, size }]);
    }

    #[test]
    fn what_leads_out_is_refused_as_a_whole() {
        let link = archive(|zip| zip.add_symlink("l", "/etc/passwd", plain()).unwrap());
        assert!(open(link, "", 10).is_err());
        for name in ["../x", "/etc/x", "a/../../x", "a\\..\\x"] {
            let file = archive(|zip| {
                zip.start_file("fine", plain()).unwrap();
                zip.start_file(name, plain()).unwrap();
            });
            assert!(open(file, "", 10).is_err(), "{name}");
        }
        let many = archive(|zip| {
            for index in 0..3 {
                zip.start_file(index.to_string(), plain()).unwrap();
            }
        });
        assert!(open(many, "", 2).is_err());
    }
}
