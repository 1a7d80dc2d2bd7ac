//! Sessions' files, kept in a folder or in a bucket. A session sees what is below its own
//! prefix and nothing else; files are streamed, never held whole.

mod bucket;
mod bundles;
mod place;
mod settling;

use std::{future::ready, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use jiff::Timestamp;
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, WriteMultipart, local::LocalFileSystem,
    path::Path, signer::Signer,
};

pub(crate) use place::is_path;
use place::{entry, own, place};
use settling::Settling;

use crate::settings::Files;

/// A file's content, piece by piece.
pub(crate) type Content = BoxStream<'static, std::io::Result<Bytes>>;

/// What is sent to the store at once.
const PART: usize = 8 << 20;
/// How many parts are on their way to it.
const PARTS: usize = 2;

/// Where sessions' files are kept.
#[derive(Clone)]
pub(crate) struct Workspaces {
    store: Arc<dyn ObjectStore>,
    signer: Option<Arc<dyn Signer>>,
    bucket: String,
    settling: Settling,
}

/// Why a file is not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The path leads elsewhere, or nowhere.
    #[error(
        "{0:?} is no path of a file: use names separated by '/', none too long, without '.' and '..'"
    )]
    Path(String),
    /// A folder is there already, or a file where one would have to be.
    #[error("{0:?} cannot be there: it is a folder, or a part of it is a file")]
    InTheWay(String),
    /// There is no such file.
    #[error("File not found: {0}")]
    Missing(String),
    /// It was changed between two looks at it.
    #[error("{0} was changed just now: ask again")]
    Changed(String),
    /// There is more of it than is taken.
    #[error("the file is larger than the limit of {0} bytes")]
    TooLarge(u64),
    /// The request's body broke off, or is not what it says.
    #[error("the upload could not be read: {0}")]
    Broken(String),
    /// There is no bucket, and none can be made.
    #[error("the bucket {0} is not there and cannot be made: {1}; make it, or see S3_BUCKET")]
    Bucket(String, String),
    /// The store is away, or refused.
    #[error("the store of files: {0}")]
    Store(#[from] object_store::Error),
}

/// A file, without its content.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Below the session's workspace.
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) modified: Option<Timestamp>,
    pub(crate) etag: Option<String>,
}

impl Entry {
    /// What tells it from every other content, where the store has such.
    pub(crate) fn own_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| !etag.starts_with("W/"))
    }
}

impl Workspaces {
    /// Opens the store; a folder is made.
    pub(crate) fn open(files: &Files) -> Result<Self, FileError> {
        match files {
            Files::Folder(folder) => {
                let made = std::fs::create_dir_all(folder);
                made.map_err(|error| FileError::Broken(format!("{}: {error}", folder.display())))?;
                let store = LocalFileSystem::new_with_prefix(folder)?.with_automatic_cleanup(true);
                Ok(Self {
                    store: Arc::new(store),
                    signer: None,
                    bucket: "sandbox-workspace".to_owned(),
                    settling: Settling::default(),
                })
            }
            Files::Bucket(bucket) => Self::in_bucket(bucket),
        }
    }

    /// How a session's workspace is called.
    pub(crate) fn address(&self, session: &str) -> String {
        format!("s3://{}/sessions/{session}", self.bucket)
    }

    /// Takes a file in, of at most so many bytes; its size. It is there whole or not at all.
    pub(crate) async fn put(
        &self,
        session: &str,
        path: &str,
        content: Content,
        most: u64,
    ) -> Result<u64, FileError> {
        let place = place(session, path)?;
        if self.is_folder() && self.is_in_the_way(session, path, &place).await? {
            return Err(FileError::InTheWay(path.to_owned()));
        }
        self.put_at(&place, content, most, ready(Ok(()))).await
    }

    /// The same for a session that has no pod yet: a bucket would take a file and a folder of one
    /// name, which no pod could be given afterwards.
    pub(crate) async fn put_ahead(
        &self,
        session: &str,
        path: &str,
        content: Content,
        most: u64,
    ) -> Result<u64, FileError> {
        if self.is_folder() {
            return self.put(session, path, content, most).await;
        }
        let place = place(session, path)?;
        let settled = async {
            let held = self.settling.turn(session).await;
            match self.clashes(&place).await? {
                true => Err(FileError::InTheWay(path.to_owned())),
                false => Ok(held),
            }
        };
        self.put_at(&place, content, most, settled).await
    }

    /// Whether what is kept are files in folders, and not just names.
    fn is_folder(&self) -> bool {
        self.signer.is_none()
    }

    /// Whether a file cannot be here, because there is a folder, or no folder above it.
    async fn is_in_the_way(&self, session: &str, path: &str, at: &Path) -> Result<bool, FileError> {
        if self.store.list(Some(at)).next().await.is_some() {
            // A file is listed too, as itself.
            return Ok(self.store.head(at).await.is_err());
        }
        for (end, _) in path.match_indices('/') {
            if self
                .store
                .head(&place(session, &path[..end])?)
                .await
                .is_ok()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `settled` is waited for once all has come, and what it gives is held until the file is there.
    async fn put_at<Held>(
        &self,
        place: &Path,
        mut content: Content,
        most: u64,
        settled: impl Future<Output = Result<Held, FileError>>,
    ) -> Result<u64, FileError> {
        let upload = self.store.put_multipart(place).await?;
        let mut writing = WriteMultipart::new_with_chunk_size(upload, PART);
        let mut size = 0;
        let taken = loop {
            match content.next().await {
                None => break Ok(()),
                Some(Err(error)) => break Err(FileError::Broken(error.to_string())),
                Some(Ok(piece)) => {
                    size += piece.len() as u64;
                    if size > most {
                        break Err(FileError::TooLarge(most));
                    }
                    if let Err(error) = writing.wait_for_capacity(PARTS).await {
                        break Err(error.into());
                    }
                    writing.put(piece);
                }
            }
        };
        let settled = match taken {
            Ok(()) => settled.await,
            Err(error) => Err(error),
        };
        match settled {
            Ok(_held) => {
                writing.finish().await?;
                Ok(size)
            }
            Err(error) => {
                // What was sent goes; where that fails the store's own housekeeping takes it.
                let _ = writing.abort().await;
                Err(error)
            }
        }
    }

    /// What is known of a file.
    pub(crate) async fn find(&self, session: &str, path: &str) -> Result<Entry, FileError> {
        let place = place(session, path)?;
        let found = self.store.head(&place).await;
        let found = found.map_err(|error| missing(path, error))?;
        entry(session, &found).ok_or_else(|| FileError::Missing(path.to_owned()))
    }

    /// A file's content.
    pub(crate) async fn get(&self, session: &str, path: &str) -> Result<Content, FileError> {
        self.get_with(session, path, GetOptions::default()).await
    }

    /// The content of a file that was found, or a part of it; of no other that came in its place.
    pub(crate) async fn get_found(
        &self,
        session: &str,
        found: &Entry,
        range: Option<Range<u64>>,
    ) -> Result<Content, FileError> {
        let options = GetOptions {
            range: range.map(GetRange::Bounded),
            if_match: found.own_etag().map(ToOwned::to_owned),
            ..GetOptions::default()
        };
        self.get_with(session, &found.path, options).await
    }

    async fn get_with(
        &self,
        session: &str,
        path: &str,
        options: GetOptions,
    ) -> Result<Content, FileError> {
        let got = self.store.get_opts(&place(session, path)?, options).await;
        let got = got.map_err(|error| match error {
            object_store::Error::Precondition { .. } => FileError::Changed(path.to_owned()),
            error => missing(path, error),
        })?;
        Ok(got.into_stream().map_err(std::io::Error::other).boxed())
    }

    /// The session's files below a folder, by name, at most so many.
    pub(crate) async fn list(
        &self,
        session: &str,
        below: &str,
        most: usize,
    ) -> Result<Vec<Entry>, FileError> {
        let below = below.trim_end_matches('/');
        let prefix = match below {
            "" => own(session),
            below => place(session, below)?,
        };
        let mut listed = self.store.list(Some(&prefix)).take(most);
        let mut entries = Vec::new();
        while let Some(found) = listed.try_next().await? {
            entries.extend(entry(session, &found));
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Removes one file; it may be gone already.
    pub(crate) async fn remove(&self, session: &str, path: &str) -> Result<(), FileError> {
        match self.store.delete(&place(session, path)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes all files of a session.
    pub(crate) async fn clear(&self, session: &str) -> Result<(), FileError> {
        let own = own(session);
        let found = self.store.list(Some(&own)).map_ok(|found| found.location);
        let mut removed = self.store.delete_stream(found.boxed());
        while let Some(one) = removed.next().await {
            match one {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn missing(path: &str, error: object_store::Error) -> FileError {
    match error {
        object_store::Error::NotFound { .. } => FileError::Missing(path.to_owned()),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &'static str) -> Content {
        futures::stream::iter([Ok(Bytes::from_static(text.as_bytes()))]).boxed()
    }

    async fn text(content: Content) -> String {
        let pieces: Vec<Bytes> = content.try_collect().await.unwrap();
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[tokio::test]
    async fn a_session_sees_its_own_files_and_no_namesakes() {
        let folder = tempfile::tempdir().unwrap();
        let files = Workspaces::open(&Files::Folder(folder.path().join("w"))).unwrap();
        files.answers().await.unwrap();
        for (session, path) in [("a1", "x.txt"), ("a1", "deep/y ä%.txt"), ("a10", "z.txt")] {
            files
                .put(session, path, content("hello"), 100)
                .await
                .unwrap();
        }
        let names = |list: Vec<Entry>| list.into_iter().map(|entry| entry.path).collect::<Vec<_>>();
        assert_eq!(
            names(files.list("a1", "", 10).await.unwrap()),
            ["deep/y ä%.txt", "x.txt"]
        );
        assert_eq!(
            names(files.list("a1", "deep/", 10).await.unwrap()),
            ["deep/y ä%.txt"]
        );
        files.clear("a1").await.unwrap();
        assert!(files.list("a1", "", 10).await.unwrap().is_empty());
        assert_eq!(names(files.list("a10", "", 10).await.unwrap()), ["z.txt"]);
    }

    #[tokio::test]
    async fn what_cannot_be_there_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = Workspaces::open(&Files::Folder(folder.path().into())).unwrap();
        for path in ["a/b", &"x".repeat(250)] {
            for _ in 0..2 {
                files.put("s", path, content("1"), 1).await.unwrap();
            }
        }
        for path in ["a", "a/b/c", "a/b/c/d"] {
            let refused = files.put("s", path, content("1"), 1).await;
            assert!(matches!(refused, Err(FileError::InTheWay(_))), "{path}");
        }
        let session = folder.path().join("sessions/s");
        let left = |path| std::fs::read_dir(session.join(path)).unwrap().count();
        assert_eq!((left(""), left("a")), (2, 1));
    }

    /// A store that knows nothing but names, as buckets do.
    fn bucket() -> Workspaces {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let signer = object_store::aws::AmazonS3Builder::new()
            .with_bucket_name("b")
            .with_access_key_id("k")
            .with_secret_access_key("s");
        Workspaces {
            store: Arc::new(object_store::memory::InMemory::new()),
            signer: Some(Arc::new(signer.build().unwrap())),
            bucket: "b".to_owned(),
            settling: Settling::default(),
        }
    }

    #[tokio::test]
    async fn a_bucket_takes_no_file_and_folder_of_one_name_for_a_pod_to_come() {
        let files = bucket();
        let put = |path: &'static str| files.put_ahead("s", path, content("1"), 1);
        for path in ["a/b", "ab", "a/b"] {
            put(path).await.unwrap();
        }
        for path in ["a", "a/b/c", "a/b/c/d"] {
            assert!(matches!(put(path).await, Err(FileError::InTheWay(_))));
        }
        // Of two at once one is there.
        let (one, other) = tokio::join!(put("c"), put("c/d"));
        assert!(one.is_ok() != other.is_ok());
        assert_eq!(files.list("s", "", 10).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn parts_are_given_and_what_is_too_large_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = Workspaces::open(&Files::Folder(folder.path().into())).unwrap();
        files
            .put("s", "a", content("0123456789"), 10)
            .await
            .unwrap();
        let found = files.find("s", "a").await.unwrap();
        let part = || files.get_found("s", &found, Some(2..5));
        assert_eq!(text(part().await.unwrap()).await, "234");
        let refused = files.put("s", "b", content("0123456789"), 9).await;
        assert!(matches!(refused, Err(FileError::TooLarge(9))));
        assert!(matches!(
            files.find("s", "b").await,
            Err(FileError::Missing(_))
        ));
        files.put("s", "a", content("another"), 10).await.unwrap();
        assert!(matches!(part().await, Err(FileError::Changed(_))));
        assert_eq!(text(files.get("s", "a").await.unwrap()).await, "another");
    }
}
