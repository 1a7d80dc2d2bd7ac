//! Images: what a container's root file system is made of.
//!
//! Three kinds: `host`, this machine's own programs; those that come with the program; and those
//! of the [`store`], which came from a registry, an archive or a saved container.

mod archive;
mod builtin;
mod commit;
pub(crate) mod door;
mod host;
mod kept;
mod layer;
mod manifest;
mod pull;
mod reference;
mod registry;
mod store;
mod words;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

pub(crate) use host::HostImage;
pub(crate) use registry::helpers::usual_folder as usual_docker_folder;
pub use registry::place::{Place, PlaceError};
pub use store::Removed;
pub(crate) use store::{note, noted};

use crate::node::{Shared, lock};
use commit::CommitError;
use layer::Limits;
use pull::{Progress, Puller};
pub(crate) use reference::Reference;
use registry::credentials::Keyring;
use store::{Hold, Record, Store, Uses};

/// Where missing images are replaced, a registry that did not answer is left alone for so long.
const LEFT_ALONE: Duration = Duration::from_secs(60);
/// A node's status names no more images than this, as Kubernetes has it.
const MOST_TOLD: usize = 50;

/// An image that is on this machine and ready to be used.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Image {
    /// Its full name.
    pub(crate) name: String,
    /// What identifies its content, as status reports it.
    pub(crate) id: String,
    pub(crate) config: ImageConfig,
    /// Folders that lie over each other: the root first.
    pub(crate) trees: Vec<Tree>,
    /// Keeps it on the disk until a container has noted that it uses it.
    #[serde(skip)]
    _hold: Option<Arc<Hold>>,
}

impl Image {
    /// What it runs by itself; other arguments take the place of its own.
    pub(crate) fn own_command(&self, with_other_arguments: bool) -> Vec<String> {
        if self.id == "host" {
            // The machine's shell would end at once; a machine rests until it is used.
            return ["sleep", "infinity"].map(str::to_owned).to_vec();
        }
        let mut words = self.config.entrypoint.clone();
        if !with_other_arguments {
            words.extend(self.config.cmd.iter().cloned());
        }
        words
    }
}

/// Layers that make one folder of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tree {
    /// Where in the container; `/` for the root.
    pub(crate) at: String,
    /// Highest first.
    pub(crate) layers: Vec<PathBuf>,
}

/// What an image says about how it is to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageConfig {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) user: String,
    pub(crate) working_dir: String,
    pub(crate) stop_signal: Option<String>,
    /// Folders that hold data; made where the image has none.
    #[serde(default)]
    pub(crate) volumes: Vec<String>,
}

/// What to do about an image that cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingImages {
    /// The container waits (`ErrImagePull`).
    #[default]
    Fail,
    /// The container runs with the image `host`, and an event says so.
    Host,
}

/// Why an image cannot be had, in Kubernetes' words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ImageError {
    /// `ErrImagePull`, `InvalidImageName`, `ErrImageNeverPull`.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Who wants an image.
#[derive(Clone, Copy)]
pub(crate) struct Wanting<'a> {
    pub(crate) pod: &'a Pod,
    /// The container, for events; none for a volume.
    pub(crate) container: Option<&'a str>,
}

/// The images of this node.
pub(crate) struct Images {
    host: HostImage,
    builtin: BTreeMap<String, Image>,
    missing: MissingImages,
    store: Arc<Store>,
    puller: Puller,
    /// Where the node's containers note what they use.
    sandboxes: PathBuf,
    /// The folder of docker's configuration.
    docker: Option<PathBuf>,
    /// What the names of images begin with that somebody else keeps track of.
    kept: Option<String>,
    /// Registries that did not answer, and when.
    silent: Mutex<HashMap<String, Instant>>,
}

impl Images {
    /// Opens the images of a folder, and makes those that need no registry.
    pub(crate) fn open(
        folder: &Path,
        sandboxes: &Path,
        builtin: &BTreeMap<String, BTreeMap<String, Vec<u8>>>,
        missing: MissingImages,
        docker: Option<PathBuf>,
        kept: Option<String>,
    ) -> io::Result<Images> {
        std::fs::create_dir_all(folder)?;
        let host = HostImage::generate(&folder.join("host"))?;
        let builtin = builtin::unpack_all(&folder.join("builtin"), builtin)?;
        let store = Store::open(folder, sandboxes, Limits::default())?;
        Ok(Images {
            host,
            builtin,
            missing,
            puller: Puller::new(store.clone()),
            store,
            sandboxes: sandboxes.to_owned(),
            docker,
            kept: kept.map(|kept| format!("{}/", kept.trim_end_matches('/'))),
            silent: Mutex::default(),
        })
    }

    /// Finds an image by the name a pod uses, pulling it when the policy says so.
    pub(crate) async fn get(
        &self,
        shared: &Shared,
        wanting: Wanting<'_>,
        name: &str,
        policy: Option<&str>,
    ) -> Result<Image, ImageError> {
        if name == "host" {
            return Ok(self.host.image(name));
        }
        if let Some(image) = self.builtin.get(name) {
            return Ok(image.clone());
        }
        let reference: Reference = match name.parse() {
            Ok(reference) => reference,
            Err(error) => {
                let message = words::bad_name(name, &error);
                shared
                    .events
                    .warning(wanting.pod, wanting.container, "InspectFailed", &message);
                return Err(ImageError {
                    reason: "InvalidImageName",
                    message,
                });
            }
        };
        if let Some(message) = self.is_others(wanting.pod, &reference) {
            return Err(ImageError {
                reason: "ErrImagePull",
                message,
            });
        }
        let policy = match policy {
            Some(policy) if !policy.is_empty() => policy,
            _ if reference.is_latest() => "Always",
            _ => "IfNotPresent",
        };
        let here = || self.store.find(&reference.to_string());
        if policy != "Always"
            && let Some((record, hold)) = here()
        {
            shared.events.normal(
                wanting.pod,
                wanting.container,
                "Pulled",
                &words::present(name),
            );
            return Ok(self.ready(record, hold));
        }
        if policy == "Never" {
            let message = words::never(name);
            shared.events.warning(
                wanting.pod,
                wanting.container,
                "ErrImageNeverPull",
                &message,
            );
            let error = ImageError {
                reason: "ErrImageNeverPull",
                message,
            };
            return self.instead(shared, wanting, name, error);
        }
        match self
            .pull_for(shared, wanting, name, &reference, policy)
            .await
        {
            Ok(image) => Ok(image),
            Err(error) => match here().filter(|_| self.missing == MissingImages::Host) {
                Some((record, hold)) => {
                    let message = format!("{error}; the copy that is on this node is used");
                    shared
                        .events
                        .warning(wanting.pod, wanting.container, "PullFailed", &message);
                    Ok(self.ready(record, hold))
                }
                None => self.instead(shared, wanting, name, error),
            },
        }
    }

    async fn pull_for(
        &self,
        shared: &Shared,
        wanting: Wanting<'_>,
        name: &str,
        reference: &Reference,
        policy: &str,
    ) -> Result<Image, ImageError> {
        let events = &shared.events;
        let (pod, container) = (wanting.pod, wanting.container);
        if self.is_silent(reference.registry()) {
            let message = format!(
                "the registry {} did not answer a moment ago",
                reference.registry()
            );
            return Err(ImageError {
                reason: "ErrImagePull",
                message,
            });
        }
        // Pods that want the same image at the same time: the first pulls, the others find it.
        let _turn = self.store.turn(&reference.to_string()).await;
        if policy != "Always"
            && let Some((record, hold)) = self.store.find(&reference.to_string())
        {
            events.normal(pod, container, "Pulled", &words::present(name));
            return Ok(self.ready(record, hold));
        }
        events.normal(
            pod,
            container,
            "Pulling",
            &format!("Pulling image \"{name}\""),
        );
        let (mut keyring, troubles) = registry::secrets::of_pod(&shared.client, pod).await;
        for trouble in troubles {
            let message = format!("Unable to use an image pull secret: {trouble}");
            events.warning(pod, container, "FailedToRetrieveImagePullSecret", &message);
        }
        self.add_own_logins(&mut keyring, reference).await;
        let logins = keyring.for_image(reference);
        match self
            .puller
            .pull(reference, logins, &Progress::default())
            .await
        {
            Ok(pulled) => {
                events.normal(pod, container, "Pulled", &words::pulled(name, &pulled));
                Ok(self.ready(pulled.record, pulled.hold))
            }
            Err(error) => {
                if error.is_unreachable() {
                    let mut silent = lock(&self.silent);
                    silent.retain(|_, since| since.elapsed() < LEFT_ALONE);
                    silent.insert(reference.registry().to_owned(), Instant::now());
                }
                let hint = words::hint(self.store.find(&reference.to_string()).is_some());
                let message = format!("failed to pull image {name:?}: {error}{hint}");
                Err(ImageError {
                    reason: "ErrImagePull",
                    message,
                })
            }
        }
    }

    async fn add_own_logins(&self, keyring: &mut Keyring, reference: &Reference) {
        if let Some(folder) = &self.docker {
            registry::helpers::add_users(keyring, folder, reference).await;
        }
    }

    /// Only where there is something to run instead is not asking better than asking in vain.
    fn is_silent(&self, registry: &str) -> bool {
        self.missing == MissingImages::Host
            && lock(&self.silent)
                .get(registry)
                .is_some_and(|since| since.elapsed() < LEFT_ALONE)
    }

    /// The image `host`, if that is wanted where one is missing.
    fn instead(
        &self,
        shared: &Shared,
        wanting: Wanting<'_>,
        name: &str,
        error: ImageError,
    ) -> Result<Image, ImageError> {
        // Somebody's files are not the machine's.
        if self.missing == MissingImages::Fail || self.is_kept(name) {
            return Err(error);
        }
        let python = if self.host.has_python {
            ""
        } else {
            "; it has no python"
        };
        let message = format!("{error}; the machine's own programs are used instead{python}");
        shared.events.warning(
            wanting.pod,
            wanting.container,
            "MissingImageReplaced",
            &message,
        );
        Ok(self.host.image(name))
    }

    /// What a container is made of.
    fn ready(&self, record: Record, hold: Arc<Hold>) -> Image {
        let mut trees = if record.over_host {
            self.host.image("host").trees
        } else {
            Vec::new()
        };
        for part in &record.parts {
            let layers = part
                .layers
                .iter()
                .rev()
                .map(|layer| self.store.tree(&layer.diff));
            match trees.iter_mut().find(|tree| tree.at == part.at) {
                Some(tree) => {
                    tree.layers.splice(0..0, layers);
                }
                None => trees.push(Tree {
                    at: part.at.clone(),
                    layers: layers.collect(),
                }),
            }
        }
        for tree in &mut trees {
            if tree.layers.is_empty() {
                tree.layers.push(self.store.empty());
            }
        }
        Image {
            id: record.image_id(),
            name: record.name,
            config: record.config,
            trees,
            _hold: Some(hold),
        }
    }

    /// How often the images have changed.
    pub(crate) fn changes(&self) -> u64 {
        self.store.changes()
    }

    /// `status.images` of the node: the biggest first.
    pub(crate) fn status(&self) -> serde_json::Value {
        let mut images = self.store.list();
        // Whom those belong to and what they are called is nobody else's business.
        images.retain(|record| !self.is_kept(&record.name));
        images.sort_by_key(|record| std::cmp::Reverse(record.bytes()));
        let told = images.iter().take(MOST_TOLD).map(|record| {
            let names = [
                record.manifest.as_ref().map(|_| record.image_id()),
                Some(record.name.clone()),
            ];
            let names: Vec<String> = names.into_iter().flatten().collect();
            serde_json::json!({"names": names, "sizeBytes": record.bytes()})
        });
        told.collect()
    }

    /// Saves what a container has written as an image; `container` is the folder of its run.
    pub(crate) fn commit(&self, container: &Path, name: &Reference) -> Result<Record, CommitError> {
        let base = noted(container).ok_or(CommitError::NoNote)?;
        let written = base
            .trees
            .iter()
            .enumerate()
            .map(|(number, tree)| commit::Written {
                at: tree.at.clone(),
                upper: crate::worker::writes(container, number).join("upper"),
            });
        let written: Vec<_> = written.collect();
        commit::commit(&self.store, &written, &base, name)
    }

    fn uses(&self) -> Uses {
        Uses::read(&self.sandboxes)
    }
}
