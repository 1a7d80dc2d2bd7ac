//! Layers: archives of what one step of an image's making added, changed and took away.
//!
//! On disk a layer is a folder as the overlay file system wants it: what a layer takes away
//! is a character device with the number 0/0, which also a user without rights may make, and
//! a folder that hides the one below it carries a mark. Owners are kept as the image has
//! them; a pod's users are mapped when the layer is mounted.

mod meter;
mod pack;
mod tree;
mod unpack;

pub(crate) use meter::{HEADERS, plain};
pub(crate) use pack::pack;
pub(crate) use unpack::{BETWEEN_LOOKS, Wanted, room, unpack};

/// What this process may do to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Give files to anybody.
    Root,
    /// Only own them: everything in a layer is then its root's.
    User,
}

impl Rights {
    /// Ours. Root in a user namespace of its own counts as a user.
    pub(crate) fn here() -> Rights {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
        if nix::unistd::geteuid().is_root() && whole {
            Rights::Root
        } else {
            Rights::User
        }
    }

    /// The mark of a folder that hides the one below it.
    fn opaque(self) -> &'static str {
        match self {
            Rights::Root => "trusted.overlay.opaque",
            Rights::User => "user.overlay.opaque",
        }
    }
}

/// How much a layer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of files.
    pub(crate) bytes: u64,
    /// Files, folders and links.
    pub(crate) files: u64,
    /// So many times its packed size may a layer that is larger than `small` be.
    pub(crate) ratio: u64,
    /// A layer that is no larger may have any ratio.
    pub(crate) small: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bytes: 64 << 30,
            files: 2_000_000,
            // Text packs to a tenth, sparse disk images to a hundredth; a bomb to a thousandth.
            ratio: 200,
            small: 100 << 20,
        }
    }
}

impl Limits {
    /// How many bytes may come out of so many packed ones.
    fn most_bytes(&self, packed: u64) -> u64 {
        self.bytes
            .min(packed.saturating_mul(self.ratio).max(self.small))
    }
}

/// Why a layer cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    #[error("a layer holds the path {0:?}, which leads out of the image; the image is refused")]
    Escapes(String),
    #[error("a layer unpacks to more than {0} bytes; the image is refused")]
    TooBig(u64),
    #[error("a layer holds more than {0} files; the image is refused")]
    TooMany(u64),
    #[error("a layer's file headers are larger than {0} bytes; the image is refused")]
    Headers(u64),
    #[error(
        "no space left on device: the disk of the images has only {free} bytes free; `sandlot image prune` removes images that no pod uses"
    )]
    Full { free: u64 },
    #[error(
        "a layer hashes to {sent} instead of {wanted}: it was changed on the way or the registry lies"
    )]
    WrongDigest { wanted: String, sent: String },
    #[error("a layer is longer than the {0} bytes its manifest says")]
    WrongSize(u64),
    #[error("a layer is no readable archive: {0}")]
    Archive(std::io::Error),
    #[error("a layer's {path:?} cannot be unpacked: {error}")]
    File { path: String, error: std::io::Error },
    #[error("a layer holds a link to {0:?}, which is not in it")]
    Link(String),
    #[error("the layer did not come: {0}")]
    Source(String),
}

/// A failure that travels through readers as an I/O error.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Carried(LayerError);

impl LayerError {
    /// Wraps it for a reader's result.
    pub(crate) fn carried(self) -> std::io::Error {
        std::io::Error::other(Carried(self))
    }

    /// What was meant by a reader's failure. The tar reader wraps what its source says.
    fn from_reading(error: std::io::Error) -> LayerError {
        let mut source: Option<&(dyn std::error::Error + 'static)> =
            error.get_ref().map(|inner| inner as _);
        let mut carried = false;
        while let Some(inner) = source {
            carried |= inner.is::<Carried>();
            source = inner.source();
        }
        let innermost = |error: std::io::Error| -> Result<Carried, std::io::Error> {
            error.downcast::<Carried>()
        };
        match innermost(error) {
            Ok(Carried(meant)) => meant,
            Err(error) if carried => LayerError::Source(error.to_string()),
            Err(error) => LayerError::Archive(error),
        }
    }
}
