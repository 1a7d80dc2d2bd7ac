//! The node's side of the door.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{Ask, ImageInfo, SOCKET, Tell, with_short_path};
use crate::images::pull::{Came, Progress, Source};
use crate::images::reference::Reference;
use crate::images::registry::credentials::{Credentials, Keyring};
use crate::images::store::{Origin, Record, Removed};
use crate::images::{Images, archive, commit};
use crate::node::Shared;

/// So many are served at a time; more wait at the door.
const MOST_GUESTS: usize = 16;
const LONGEST_QUESTION: u64 = 64 << 10;
/// A guest says what it wants within this time, and an archive does not pause for longer.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How often a guest hears how far its work is.
const BETWEEN_NEWS: Duration = Duration::from_millis(200);

/// Lets guests in until the node stops.
pub(crate) async fn serve(shared: Arc<Shared>, listener: UnixListener) {
    let stop = shared.stopped().clone();
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = guests.join_next() => {}
            accepted = listener.accept(), if guests.len() < MOST_GUESTS => match accepted {
                Ok((stream, _)) => {
                    guests.spawn(attend(shared.clone(), stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "a guest could not be let in");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Opens the door of the node that keeps its things in this folder.
pub(crate) fn listen(folder: &Path) -> io::Result<UnixListener> {
    let path = folder.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = with_short_path(folder, |path| std::os::unix::net::UnixListener::bind(path))?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn attend(shared: Arc<Shared>, stream: UnixStream) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let told = match question(&mut reader).await {
        Ok(ask) => answer(&shared, ask, reader, &mut writer).await,
        Err(message) => Err(message),
    };
    let told = told.unwrap_or_else(|message| Tell::Failed { message });
    // A guest that has left does not hear it.
    let _ = tell(&mut writer, &told).await;
}

async fn question(reader: &mut BufReader<OwnedReadHalf>) -> Result<Ask, String> {
    let mut line = Vec::new();
    let mut limited = reader.take(LONGEST_QUESTION);
    let read = tokio::time::timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await;
    read.map_err(|_| "nothing was asked".to_owned())?
        .map_err(|error| error.to_string())?;
    serde_json::from_slice(&line)
        .map_err(|error| format!("this node does not understand what it is asked ({error}); are both of the same version?"))
}

async fn tell(writer: &mut OwnedWriteHalf, told: &Tell) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    tokio::time::timeout(PATIENCE, writer.write_all(&line)).await?
}

async fn answer(
    shared: &Arc<Shared>,
    ask: Ask,
    reader: BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> Result<Tell, String> {
    let images = &shared.images;
    match ask {
        Ask::List {} => Ok(Tell::Images {
            images: images.infos(),
        }),
        Ask::Prune {} => {
            let shared = shared.clone();
            let pruned = tokio::task::spawn_blocking(move || shared.images.prune()).await;
            pruned
                .map_err(|error| error.to_string())?
                .map(|removed| Tell::Removed { removed })
        }
        Ask::Remove { name } => {
            let shared = shared.clone();
            let removed = tokio::task::spawn_blocking(move || shared.images.remove(&name)).await;
            removed
                .map_err(|error| error.to_string())?
                .map(|removed| Tell::Removed { removed })
        }
        Ask::Commit {
            namespace,
            pod,
            container,
            name,
        } => {
            let shared = shared.clone();
            let saving = move || saved(&shared, &namespace, &pod, container.as_deref(), &name);
            let saved = tokio::task::spawn_blocking(saving).await;
            let saved = saved.map_err(|error| error.to_string())??;
            Ok(Tell::Images {
                images: vec![saved],
            })
        }
        Ask::Pull { name } => {
            let progress = Progress::default();
            with_news(writer, &progress, images.pull_by_hand(&name, &progress)).await
        }
        Ask::Push { name, to } => {
            let progress = Progress::default();
            with_news(writer, &progress, images.push(&name, &to, &progress)).await
        }
        Ask::Import { name } => {
            let progress = Progress::default();
            with_news(writer, &progress, images.import(reader, name, &progress)).await
        }
    }
}

/// Saves a container of a pod that is on this node.
fn saved(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    container: Option<&str>,
    name: &str,
) -> Result<ImageInfo, String> {
    let view = shared.view_of(namespace, pod);
    let view = view.ok_or_else(|| format!("there is no pod {namespace}/{pod} on this node"))?;
    let run = match (
        container,
        view.containers.iter().next(),
        view.containers.len(),
    ) {
        (Some(name), ..) => view.containers.get(name),
        (None, Some((_, only)), 1) => Some(only),
        (None, ..) => {
            let names: Vec<&str> = view.containers.keys().map(String::as_str).collect();
            return Err(format!(
                "name one of the pod's containers: {}",
                names.join(", ")
            ));
        }
    };
    let run =
        run.ok_or_else(|| format!("the pod {namespace}/{pod} has no such container that has run"))?;
    let sandbox = view
        .sandbox
        .as_ref()
        .ok_or("the pod has no sandbox any more")?;
    let record = shared
        .images
        .commit(&sandbox.container_dir(&run.id), &named(name)?);
    record
        .map(|record| info(&record))
        .map_err(|error| error.to_string())
}

/// Tells how far the work is until it is done; a guest that leaves ends it.
async fn with_news(
    writer: &mut OwnedWriteHalf,
    progress: &Progress,
    work: impl Future<Output = Result<Tell, String>>,
) -> Result<Tell, String> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(BETWEEN_NEWS) => {
                let news = Tell::Progress {
                    done: progress.done.load(Ordering::Relaxed),
                    all: progress.all.load(Ordering::Relaxed),
                };
                tell(writer, &news).await.map_err(|error| error.to_string())?;
            }
        }
    }
}

impl Images {
    fn infos(&self) -> Vec<ImageInfo> {
        let uses = self.uses();
        let mut all = vec![ImageInfo {
            name: "host".to_owned(),
            id: "host".to_owned(),
            origin: "machine".to_owned(),
            ..ImageInfo::default()
        }];
        all.extend(self.builtin.values().map(|image| ImageInfo {
            name: image.name.clone(),
            id: image.id.clone(),
            origin: "built-in".to_owned(),
            ..ImageInfo::default()
        }));
        all.extend(self.store.list().iter().map(|record| ImageInfo {
            used_by: self.store.users(record, &uses),
            ..info(record)
        }));
        all
    }

    fn prune(&self) -> Result<Removed, String> {
        self.store
            .prune(&self.uses(), |name| self.is_kept(name))
            .map_err(|error| error.to_string())
    }

    fn remove(&self, name: &str) -> Result<Removed, String> {
        if name == "host" || self.builtin.contains_key(name) {
            return Err(format!(
                "the image {name:?} comes with the program and stays"
            ));
        }
        let reference = named(name)?;
        self.store
            .remove(&reference.to_string(), &self.uses())
            .map_err(|error| error.to_string())
    }

    async fn logins(&self, reference: &Reference) -> Vec<Credentials> {
        let mut keyring = Keyring::default();
        self.add_own_logins(&mut keyring, reference).await;
        keyring.for_image(reference)
    }

    async fn pull_by_hand(&self, name: &str, progress: &Progress) -> Result<Tell, String> {
        let reference = named(name)?;
        let logins = self.logins(&reference).await;
        let pulled = self.puller.pull(&reference, logins, progress).await;
        let pulled = pulled.map_err(|error| format!("cannot pull {reference}: {error}"))?;
        Ok(Tell::Images {
            images: vec![info(&pulled.record)],
        })
    }

    async fn push(&self, name: &str, to: &str, progress: &Progress) -> Result<Tell, String> {
        let (image, to) = (named(name)?, named(to)?);
        let login = self.logins(&to).await.into_iter().next();
        let (registries, full) = (self.puller.registries(), image.to_string());
        let pushed = commit::push(&self.store, registries, &full, &to, login, progress).await;
        let digest = pushed.map_err(|error| format!("cannot push {image} to {to}: {error}"))?;
        Ok(Tell::Pushed {
            digest: digest.to_string(),
        })
    }

    async fn import(
        &self,
        mut archive: impl AsyncRead + Unpin,
        name: Option<String>,
        progress: &Progress,
    ) -> Result<Tell, String> {
        let (parts, source) = Source::new();
        let store = self.store.clone();
        let importing =
            tokio::task::spawn_blocking(move || archive::import(&store, source, name.as_deref()));
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = tokio::time::timeout(PATIENCE, archive.read(&mut buffer)).await;
            let count = read
                .map_err(|_| "the archive does not go on".to_owned())?
                .map_err(|error| error.to_string())?;
            let part = match count {
                0 => Came::End,
                count => Came::Bytes(Bytes::copy_from_slice(&buffer[..count])),
            };
            // One that has seen enough says why below.
            if parts.send(part).await.is_err() || count == 0 {
                break;
            }
            progress.done.fetch_add(count as u64, Ordering::Relaxed);
        }
        drop(parts);
        let records = importing.await.map_err(|error| error.to_string())?;
        let records = records.map_err(|error| error.to_string())?;
        Ok(Tell::Images {
            images: records.iter().map(info).collect(),
        })
    }
}

fn named(name: &str) -> Result<Reference, String> {
    name.parse()
        .map_err(|error| format!("{name:?} is no image's name: {error}"))
}

fn info(record: &Record) -> ImageInfo {
    let origin = match record.origin {
        Origin::Registry => "registry",
        Origin::Archive => "archive",
        Origin::Container => "container",
    };
    ImageInfo {
        name: record.name.clone(),
        id: record.image_id(),
        size_bytes: record.bytes(),
        origin: origin.to_owned(),
        since: Some(record.since.to_string()),
        used_by: Vec::new(),
    }
}
