//! Images: what a container's root file system is made of.

mod builtin;
mod host;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

pub(crate) use host::HostImage;

use crate::node::Shared;

/// An image that is on this machine and ready to be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Image {
    /// The name it was found by.
    pub(crate) name: String,
    /// What identifies its content, as status reports it.
    pub(crate) id: String,
    pub(crate) config: ImageConfig,
    /// Folders that lie over each other: the root first.
    pub(crate) trees: Vec<Tree>,
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

/// The images of this node.
pub(crate) struct Images {
    host: HostImage,
    builtin: BTreeMap<String, Image>,
    missing: MissingImages,
}

impl Images {
    /// Makes the images that need no registry.
    pub(crate) fn open(
        folder: &Path,
        builtin: &BTreeMap<String, BTreeMap<String, Vec<u8>>>,
        missing: MissingImages,
    ) -> io::Result<Images> {
        std::fs::create_dir_all(folder)?;
        let host = HostImage::generate(&folder.join("host"))?;
        let builtin = builtin::unpack_all(&folder.join("builtin"), builtin)?;
        Ok(Images {
            host,
            builtin,
            missing,
        })
    }

    /// Finds an image by the name a pod uses.
    pub(crate) async fn get(
        &self,
        shared: &Shared,
        pod: &Pod,
        name: &str,
        _policy: Option<&str>,
    ) -> Result<Image, ImageError> {
        if name == "host" {
            return Ok(self.host.image(name));
        }
        if let Some(image) = self.builtin.get(name) {
            return Ok(image.clone());
        }
        let failed = ImageError {
            reason: "ErrImagePull",
            message: format!("the image {name:?} is not on this node"),
        };
        match self.missing {
            MissingImages::Fail => Err(failed),
            MissingImages::Host => {
                let python = if self.host.has_python {
                    ""
                } else {
                    "; it has no python"
                };
                let message =
                    format!("{failed}; the machine's own programs are used instead{python}");
                shared
                    .events
                    .warning(pod, None, "MissingImageReplaced", &message);
                Ok(self.host.image(name))
            }
        }
    }
}
