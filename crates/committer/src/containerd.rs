//! Containerd, as its socket answers.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use prost::Message;
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::wire::{
    Compare, Compared, Container, Containers, ContentInfo, Empty, Filters, ImageAnswer, MakeLease,
    Mounts, Named, Part, Piece, Process, SnapshotKey, SnapshotStat, SnapshotView, Task,
};

/// How long containerd may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);
/// How long it may take to answer what is no work for it.
const ANSWER: Duration = Duration::from_secs(30);
/// How long it may take to pack what a container has written.
const PACK: Duration = Duration::from_secs(30 * 60);
/// No index, manifest or configuration is longer.
const LONGEST_DOCUMENT: usize = 4 << 20;
/// What is made here is swept away by then, even if nobody comes to do it.
const LEASE: SignedDuration = SignedDuration::from_hours(1);
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What containerd did not do.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// It is not there.
    #[error("containerd cannot be reached at {path}: {error}", path = path.display())]
    Unreachable {
        /// Its socket.
        path: PathBuf,
        /// What came of it.
        error: tonic::transport::Error,
    },
    /// It refused.
    #[error("containerd could not {what}: {said}")]
    Refused {
        /// What it was asked.
        what: &'static str,
        /// Why, as a code.
        code: Code,
        /// What it said.
        said: String,
    },
    /// What it answered cannot be used.
    #[error("containerd's answer makes no sense: {0}")]
    Nonsense(String),
}

/// A way to containerd.
#[derive(Clone)]
pub(crate) struct Containerd {
    channel: Channel,
    namespace: AsciiMetadataValue,
    /// What is made in its name is kept until the lease ends.
    lease: Option<AsciiMetadataValue>,
}

impl Containerd {
    /// Connects to its socket.
    pub(crate) async fn connect(socket: &Path, namespace: &str) -> Result<Self, ContainerdError> {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is not looked at: the connector knows the way.
        let endpoint = Endpoint::from_static("http://containerd").connect_timeout(CONNECT);
        let channel = endpoint.connect_with_connector(connector).await;
        Ok(Self {
            channel: channel.map_err(|error| ContainerdError::Unreachable {
                path: socket.to_owned(),
                error,
            })?,
            namespace: header(namespace)?,
            lease: None,
        })
    }

    /// The same, with a lease that keeps what is made from being swept away meanwhile.
    pub(crate) async fn with_lease(&self, id: &str) -> Result<Self, ContainerdError> {
        let ends = Timestamp::now() + LEASE;
        let lease = MakeLease {
            id: id.to_owned(),
            labels: HashMap::from([("containerd.io/gc.expire".to_owned(), ends.to_string())]),
        };
        let path = "/containerd.services.leases.v1.Leases/Create";
        let _: Empty = self.ask(path, "give a lease", lease).await?;
        Ok(Self {
            lease: Some(header(id)?),
            ..self.clone()
        })
    }

    /// Ends a lease: what it kept may go.
    pub(crate) async fn end_lease(&self, id: &str) -> Result<(), ContainerdError> {
        let path = "/containerd.services.leases.v1.Leases/Delete";
        let lease = Named {
            name: id.to_owned(),
        };
        let _: Empty = self.ask(path, "end a lease", lease).await?;
        Ok(())
    }

    /// The containers with all these labels.
    pub(crate) async fn containers(
        &self,
        labels: &[(&str, &str)],
    ) -> Result<Vec<Container>, ContainerdError> {
        let wanted = labels
            .iter()
            .map(|(label, value)| format!("labels.{label:?}=={value:?}"));
        let filters = Filters {
            filters: vec![wanted.collect::<Vec<_>>().join(",")],
        };
        let path = "/containerd.services.containers.v1.Containers/List";
        let found: Containers = self.ask(path, "list its containers", filters).await?;
        Ok(found.containers)
    }

    /// How a container's process is, if it has one.
    pub(crate) async fn process(
        &self,
        container: &str,
    ) -> Result<Option<Process>, ContainerdError> {
        let named = Named {
            name: container.to_owned(),
        };
        let path = "/containerd.services.tasks.v1.Tasks/Get";
        match self
            .ask::<_, Task>(path, "tell of a container", named)
            .await
        {
            Ok(task) => Ok(task.process),
            Err(ContainerdError::Refused {
                code: Code::NotFound,
                ..
            }) => Ok(None),
            // Not to know is not to have none: it may be frozen.
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn pause(&self, container: &str) -> Result<(), ContainerdError> {
        let named = Named {
            name: container.to_owned(),
        };
        let path = "/containerd.services.tasks.v1.Tasks/Pause";
        let _: Empty = self.ask(path, "make a container rest", named).await?;
        Ok(())
    }

    pub(crate) async fn resume(&self, container: &str) -> Result<(), ContainerdError> {
        let named = Named {
            name: container.to_owned(),
        };
        let path = "/containerd.services.tasks.v1.Tasks/Resume";
        let _: Empty = self.ask(path, "let a container go on", named).await?;
        Ok(())
    }

    /// What a container has written, as a layer in containerd's store, and its digest before it
    /// was packed.
    pub(crate) async fn pack(
        &self,
        container: &Container,
        name: &str,
    ) -> Result<(Part, String), ContainerdError> {
        let own = SnapshotKey {
            snapshotter: container.snapshotter.clone(),
            key: container.snapshot_key.clone(),
        };
        let path = "/containerd.services.snapshots.v1.Snapshots/Stat";
        let stat: SnapshotStat = self
            .ask(path, "find a container's files", own.clone())
            .await?;
        let below = SnapshotView {
            snapshotter: own.snapshotter.clone(),
            key: name.to_owned(),
            parent: stat.info.unwrap_or_default().parent,
        };
        let path = "/containerd.services.snapshots.v1.Snapshots/Mounts";
        let right: Mounts = self
            .ask(path, "show a container's files", own.clone())
            .await?;
        let path = "/containerd.services.snapshots.v1.Snapshots/View";
        let left: Mounts = self
            .ask(path, "show an image's files", below.clone())
            .await?;
        let compare = Compare {
            left: left.mounts,
            right: right.mounts,
            media_type: GZIP.to_owned(),
            reference: name.to_owned(),
        };
        let path = "/containerd.services.diff.v1.Diff/Diff";
        let packed: Result<Compared, _> = self
            .ask_for(PACK, path, "pack what a container has written", compare)
            .await;
        let path = "/containerd.services.snapshots.v1.Snapshots/Remove";
        let view = SnapshotKey {
            key: below.key,
            ..own
        };
        let removed: Result<Empty, _> = self.ask(path, "put a view away", view).await;
        let layer = packed?.diff;
        removed?;
        let layer = layer.ok_or_else(|| ContainerdError::Nonsense("no layer".to_owned()))?;
        let unpacked = self.unpacked_digest(&layer.digest).await?;
        Ok((layer, unpacked))
    }

    async fn unpacked_digest(&self, digest: &str) -> Result<String, ContainerdError> {
        let named = Named {
            name: digest.to_owned(),
        };
        let path = "/containerd.services.content.v1.Content/Info";
        let known: ContentInfo = self.ask(path, "tell of a layer", named).await?;
        let mut labels = known.info.unwrap_or_default().labels;
        let digest = labels.remove("containerd.io/uncompressed");
        digest.ok_or_else(|| ContainerdError::Nonsense("a layer of unknown content".to_owned()))
    }

    /// Where an image begins: its index or its manifest.
    pub(crate) async fn image(&self, name: &str) -> Result<Part, ContainerdError> {
        let named = Named {
            name: name.to_owned(),
        };
        let path = "/containerd.services.images.v1.Images/Get";
        let found: ImageAnswer = self.ask(path, "find a container's image", named).await?;
        let target = found.image.and_then(|image| image.target);
        target.ok_or_else(|| ContainerdError::Nonsense(format!("no content of image {name:?}")))
    }

    /// A whole document of its store.
    pub(crate) async fn document(&self, digest: &str) -> Result<Bytes, ContainerdError> {
        let mut pieces = std::pin::pin!(self.read(digest).await?);
        let mut whole = Vec::new();
        while let Some(piece) = pieces.try_next().await.map_err(nonsense)? {
            if whole.len() + piece.len() > LONGEST_DOCUMENT {
                return Err(ContainerdError::Nonsense(format!("{digest} is too long")));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.into())
    }

    /// Something of its store, piece by piece.
    pub(crate) async fn read(
        &self,
        digest: &str,
    ) -> Result<impl Stream<Item = std::io::Result<Bytes>> + Send + use<>, ContainerdError> {
        let named = Named {
            name: digest.to_owned(),
        };
        let mut grpc = self.ready("read its store").await?;
        let path = PathAndQuery::from_static("/containerd.services.content.v1.Content/Read");
        let codec = ProstCodec::<Named, Piece>::default();
        let answer = grpc.server_streaming(self.sign(named), path, codec).await;
        let answer = answer.map_err(|status| refused("read its store", &status))?;
        let pieces = answer.into_inner();
        Ok(pieces.map(|piece| piece.map(|piece| piece.data).map_err(std::io::Error::other)))
    }

    async fn ask<Q, A>(
        &self,
        path: &'static str,
        what: &'static str,
        question: Q,
    ) -> Result<A, ContainerdError>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.ask_for(ANSWER, path, what, question).await
    }

    /// Asks, and waits no longer than so.
    async fn ask_for<Q, A>(
        &self,
        limit: Duration,
        path: &'static str,
        what: &'static str,
        question: Q,
    ) -> Result<A, ContainerdError>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.ready(what).await?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.unary(self.sign(question), path, codec);
        let answer = tokio::time::timeout(limit, answer).await;
        let answer = answer.unwrap_or_else(|_| {
            let said = format!("no answer within {} s", limit.as_secs());
            Err(Status::deadline_exceeded(said))
        });
        let answer = answer.map_err(|status| refused(what, &status))?;
        Ok(answer.into_inner())
    }

    async fn ready(&self, what: &'static str) -> Result<Grpc<Channel>, ContainerdError> {
        let mut grpc = Grpc::new(self.channel.clone());
        let ready = grpc.ready().await;
        ready.map_err(|error| ContainerdError::Refused {
            what,
            code: Code::Unavailable,
            said: error.to_string(),
        })?;
        Ok(grpc)
    }

    fn sign<Q>(&self, question: Q) -> Request<Q> {
        let mut request = Request::new(question);
        let notes = request.metadata_mut();
        notes.insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = &self.lease {
            notes.insert("containerd-lease", lease.clone());
        }
        request
    }
}

fn header(text: &str) -> Result<AsciiMetadataValue, ContainerdError> {
    let value = text.parse();
    value.map_err(|_| ContainerdError::Nonsense(format!("{text:?} is no name for a namespace")))
}

fn refused(what: &'static str, status: &Status) -> ContainerdError {
    ContainerdError::Refused {
        what,
        code: status.code(),
        said: status.message().to_owned(),
    }
}

fn nonsense(error: std::io::Error) -> ContainerdError {
    ContainerdError::Nonsense(error.to_string())
}
