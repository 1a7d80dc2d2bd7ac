//! How `sandlot image` talks to the node: the node alone writes its images, so whatever else
//! goes on at the time, nothing is pulled from under a pod that starts.
//!
//! A socket in the node's folder, which only its owner may enter. A line of JSON asks; lines of
//! JSON answer, the last of which is the result. An archive follows its question as it is.

mod serve;

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::store::Removed;
pub(crate) use serve::{listen, serve};

const SOCKET: &str = "images.sock";

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// All images.
    List {},
    /// Get an image from its registry, whether it is here or not.
    Pull {
        /// The image.
        name: String,
    },
    /// Take in the images of the archive that follows.
    Import {
        /// A name for it, if it brings none or another is wanted.
        name: Option<String>,
    },
    /// Give an image to a registry.
    Push {
        /// The image.
        name: String,
        /// Its name there.
        to: String,
    },
    /// Save what a container has written as an image.
    Commit {
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The container; the only one if none is named.
        container: Option<String>,
        /// The new image.
        name: String,
    },
    /// Remove an image.
    Remove {
        /// The image.
        name: String,
    },
    /// Remove all images that no pod uses.
    Prune {},
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tell {
    /// It goes on; bytes done and to be done, 0 while that is not known.
    Progress {
        /// Bytes done.
        done: u64,
        /// Bytes to be done.
        all: u64,
    },
    /// The images asked for, or those that were taken in.
    Images {
        /// One for each name.
        images: Vec<ImageInfo>,
    },
    /// What was removed.
    Removed {
        /// What was removed.
        removed: Removed,
    },
    /// The registry has it.
    Pushed {
        /// The manifest's digest.
        digest: String,
    },
    /// It could not be done.
    Failed {
        /// Why, and what to do about it.
        message: String,
    },
}

/// An image as people see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageInfo {
    /// Its full name.
    pub name: String,
    /// What identifies its content.
    pub id: String,
    /// Bytes of its files; layers that others share count for each.
    pub size_bytes: u64,
    /// How it came here: `registry`, `archive`, `container`, `built-in` or `machine`.
    pub origin: String,
    /// Since when it is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The pods that use it, as `namespace/name`.
    pub used_by: Vec<String>,
}

/// Sockets' paths may only be short; a folder's may be long.
fn with_short_path<T>(folder: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let folder = std::fs::File::open(folder)?;
    act(&Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join(SOCKET))
}

/// A conversation with a node.
pub struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Client {
    /// Finds the node that keeps its things in this folder.
    pub async fn connect(folder: &Path) -> io::Result<Client> {
        let stream = with_short_path(folder, |path| std::os::unix::net::UnixStream::connect(path))?;
        stream.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(stream)?.into_split();
        Ok(Client {
            reader: BufReader::new(reader),
            writer,
        })
    }

    /// Asks, sends the archive if there is one, and waits for the result; `news` hears of the
    /// progress until then.
    pub async fn ask(
        self,
        ask: &Ask,
        archive: Option<impl AsyncRead + Unpin>,
        mut news: impl FnMut(u64, u64),
    ) -> io::Result<Tell> {
        let Client {
            mut reader,
            mut writer,
        } = self;
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        writer.write_all(&line).await?;
        let send = async move {
            if let Some(mut archive) = archive {
                // A node that has seen enough closes its end and says why.
                let _ = tokio::io::copy(&mut archive, &mut writer).await;
            }
            let _ = writer.shutdown().await;
            // Kept open: a guest that has closed everything has left.
            writer
        };
        let hear = async {
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).await? == 0 {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the node has stopped",
                    ));
                }
                match serde_json::from_str(&line)? {
                    Tell::Progress { done, all } => news(done, all),
                    told => return Ok(told),
                }
            }
        };
        let (mut send, mut hear) = (std::pin::pin!(send), std::pin::pin!(hear));
        tokio::select! {
            told = &mut hear => told,
            _writer = &mut send => hear.await,
        }
    }
}
