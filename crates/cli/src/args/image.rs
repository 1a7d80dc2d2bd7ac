//! What `sandlot image` can be told.

use std::path::PathBuf;

use clap::Subcommand;

use super::Output;

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// List the images, their sizes and the pods that use them.
    List {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
        /// How to print it.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// Get images from their registries, with the logins of `docker login`.
    Pull {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
        /// The images.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Take in the images of an archive: an OCI layout, or what `docker save` writes.
    Import {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
        /// The archive, plain or packed; - reads it from the standard input.
        archive: PathBuf,
        /// A name for the image, if it brings none or another is wanted.
        #[arg(long)]
        name: Option<String>,
    },
    /// Give an image to a registry, with the logins of `docker login`.
    Push {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
        /// The image.
        name: String,
        /// Its name in the registry [default: the same]
        to: Option<String>,
    },
    /// Save what a container has written as an image.
    Commit {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
        /// The pod's namespace.
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// The container, where the pod has several.
        #[arg(short, long)]
        container: Option<String>,
        /// The pod.
        pod: String,
        /// The new image.
        name: String,
    },
    /// Remove images that no pod uses.
    Rm {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
        /// The images.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Remove every image that no pod uses.
    Prune {
        /// The data folder of the `sandlot up` that is meant [default: ~/.local/share/sandlot]
        #[arg(long = "data-dir", value_name = "DIR", env = "SANDLOT_DATA_DIR")]
        node: Option<PathBuf>,
    },
}
