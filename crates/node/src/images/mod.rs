//! Images: what a container's root file system is made of.

mod host;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use host::HostImage;

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
