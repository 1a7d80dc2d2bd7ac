//! Where artifacts come from.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use futures::{Stream, StreamExt};
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, aws::AmazonS3Builder};
use reqwest::{StatusCode, header};

use super::FetchError;

/// An artifact's address.
pub(super) enum Source {
    /// On a web server.
    Web(reqwest::Url),
    /// On this robot.
    File(PathBuf),
    /// In a bucket, with the login that the agent's environment names, or as anybody without one.
    Bucket(reqwest::Url),
}

impl Source {
    pub(super) fn read(text: &str) -> Result<Self, FetchError> {
        let url = reqwest::Url::parse(text).map_err(|_| FetchError::Address)?;
        match url.scheme() {
            "http" | "https" => Ok(Self::Web(url)),
            "s3" => Ok(Self::Bucket(url)),
            "file" => Ok(Self::File(
                url.to_file_path().map_err(|()| FetchError::Address)?,
            )),
            _ => Err(FetchError::Address),
        }
    }

    /// What the artifact is called.
    pub(super) fn file_name(&self) -> String {
        let last = match self {
            Self::Web(url) | Self::Bucket(url) => {
                url.path().rsplit('/').next().unwrap_or_default().to_owned()
            }
            Self::File(path) => path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        };
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let name: String = last.chars().filter(plain).take(128).collect();
        match name.trim_matches('.').is_empty() {
            true => "artifact".to_owned(),
            false => name,
        }
    }

    /// Appends what is missing of the artifact to a file.
    pub(super) async fn append_to(
        &self,
        client: &reqwest::Client,
        partial: &Path,
        most: u64,
    ) -> Result<(), FetchError> {
        let mut file = File::options().create(true).append(true).open(partial)?;
        let there = file.seek(SeekFrom::End(0))?;
        match self {
            Self::Web(url) => {
                let mut asked = client.get(url.clone());
                if there > 0 {
                    asked = asked.header(header::RANGE, format!("bytes={there}-"));
                }
                let answer = asked.send().await.map_err(io::Error::other)?;
                let there = match answer.status() {
                    StatusCode::PARTIAL_CONTENT => there,
                    // All of it was there already.
                    StatusCode::RANGE_NOT_SATISFIABLE if there > 0 => return Ok(()),
                    status if status.is_success() => {
                        file.set_len(0)?;
                        0
                    }
                    status => return Err(FetchError::Refused(status.to_string())),
                };
                let pieces = answer.bytes_stream();
                write(
                    file,
                    there,
                    pieces.map(|piece| piece.map_err(io::Error::other)),
                    most,
                )
                .await
            }
            Self::Bucket(url) => {
                let wrong = |error: object_store::Error| io::Error::other(error.to_string());
                // A robot is no machine of a cloud, which would be asked for a login otherwise.
                let login = ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"];
                let stranger = login.iter().all(|name| std::env::var_os(name).is_none());
                let store = AmazonS3Builder::from_env().with_url(url.as_str());
                let store = store.with_skip_signature(stranger).build().map_err(wrong)?;
                let path = object_store::path::Path::from_url_path(url.path());
                let path = path.map_err(|_| FetchError::Address)?;
                if there > 0 && store.head(&path).await.map_err(wrong)?.size == there {
                    return Ok(());
                }
                let range = (there > 0).then_some(GetRange::Offset(there));
                let options = GetOptions {
                    range,
                    ..GetOptions::default()
                };
                let answer = store.get_opts(&path, options).await.map_err(wrong)?;
                let pieces = answer.into_stream().map(move |piece| piece.map_err(wrong));
                write(file, there, pieces, most).await
            }
            Self::File(path) => {
                let (path, partial) = (path.clone(), partial.to_owned());
                let copying = tokio::task::spawn_blocking(move || -> Result<(), FetchError> {
                    if path.metadata()?.len() > most {
                        return Err(FetchError::TooLarge(most));
                    }
                    let mut to = File::create(partial)?;
                    io::copy(&mut File::open(path)?, &mut to)?;
                    Ok(())
                });
                copying.await.map_err(io::Error::other)?
            }
        }
    }
}

async fn write(
    mut file: File,
    mut size: u64,
    pieces: impl Stream<Item = io::Result<bytes::Bytes>>,
    most: u64,
) -> Result<(), FetchError> {
    let mut pieces = std::pin::pin!(pieces);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        size += piece.len() as u64;
        if size > most {
            return Err(FetchError::TooLarge(most));
        }
        file.write_all(&piece)?;
    }
    Ok(())
}
