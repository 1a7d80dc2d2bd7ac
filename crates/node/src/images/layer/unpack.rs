//! From an archive to a folder. Archives come from strangers: every entry is checked, and
//! nothing they can say makes us write outside, fill the disk or the memory.

use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::meter::{HEADERS, Metered, Rationed, unpacked};
use super::tree::{Facts, Tree, free, words};
use super::{LayerError, Limits, Rights};
use crate::images::reference::Digest;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names of this kind are an older file system's own records.
const RESERVED: &[u8] = b".wh..wh.";
const ATTRIBUTE: &str = "SCHILY.xattr.";
/// The disk is looked at after so many bytes.
pub(crate) const BETWEEN_LOOKS: u64 = 64 << 20;
/// Names of folders are kept until the end: so many bytes of them.
const MOST_NAMES: usize = 64 << 20;

/// What a layer is to be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// How long it is as it comes.
    pub(crate) size: u64,
    /// What it hashes to as it comes, if that is known.
    pub(crate) digest: Option<Digest>,
    /// What it hashes to when it is unpacked, if that is known.
    pub(crate) diff: Option<Digest>,
}

/// What came out of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// What the archive hashes to when it is unpacked.
    pub(crate) diff: Digest,
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// Devices that it asked for and did not get.
    pub(crate) devices: u64,
}

/// Unpacks a layer into an empty folder, checking all the way. What is there after a failure
/// is to be thrown away.
pub(crate) fn unpack(
    packed: impl Read,
    into: &Path,
    wanted: &Wanted,
    limits: &Limits,
    rights: Rights,
) -> Result<Unpacked, LayerError> {
    let (packed, outer) = Metered::new(packed, wanted.size, LayerError::WrongSize);
    let most = limits.most_bytes(wanted.size);
    let plain = unpacked(packed).map_err(LayerError::from_reading)?;
    // Headers come on top of what files may hold.
    let with_headers = most.saturating_add(limits.files.saturating_mul(2048));
    let (plain, inner) = Metered::new(plain, with_headers, LayerError::TooBig);
    let (plain, ration) = Rationed::new(plain);
    let mut unpacking = Unpacking {
        tree: Tree::open(into, rights).map_err(|error| in_file("/", error))?,
        folder: into.to_owned(),
        limits: *limits,
        most,
        bytes: 0,
        files: 0,
        devices: 0,
        looked_at: 0,
        folders: BTreeMap::new(),
        names: 0,
    };
    unpacking.look_at_disk()?;
    let mut archive = tar::Archive::new(plain);
    let entries = archive.entries().map_err(LayerError::from_reading)?;
    for entry in entries {
        let mut entry = entry.map_err(LayerError::from_reading)?;
        ration.set(u64::MAX);
        unpacking.take(&mut entry)?;
        // What is left of this entry is skipped before the next one's headers.
        io::copy(&mut entry, &mut io::sink()).map_err(LayerError::from_reading)?;
        ration.set(HEADERS);
    }
    unpacking.finish()?;
    // What follows the end belongs to the digests.
    ration.set(u64::MAX);
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(LayerError::from_reading)?;
    let diff = inner.borrow().digest();
    check(&wanted.digest, &outer.borrow().digest())?;
    check(&wanted.diff, &diff)?;
    Ok(Unpacked {
        diff,
        bytes: unpacking.bytes,
        devices: unpacking.devices,
    })
}

fn check(wanted: &Option<Digest>, sent: &Digest) -> Result<(), LayerError> {
    match wanted {
        Some(wanted) if wanted != sent => Err(LayerError::WrongDigest {
            wanted: wanted.to_string(),
            sent: sent.to_string(),
        }),
        _ => Ok(()),
    }
}

fn in_file(path: &str, error: io::Error) -> LayerError {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => LayerError::Full { free: 0 },
        _ => LayerError::File {
            path: path.to_owned(),
            error,
        },
    }
}

struct Unpacking {
    tree: Tree,
    folder: PathBuf,
    limits: Limits,
    most: u64,
    bytes: u64,
    files: u64,
    devices: u64,
    looked_at: u64,
    /// Folders get their modes and times when nothing more comes into them.
    folders: BTreeMap<PathBuf, Facts>,
    names: usize,
}

impl Unpacking {
    fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), LayerError> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        self.files += 1;
        if self.files > self.limits.files {
            return Err(LayerError::TooMany(self.limits.files));
        }
        let raw = entry.path_bytes().into_owned();
        let path = Tree::clean(&raw)?;
        let facts = facts(entry)?;
        let Some(path) = path else {
            // The root's own entry.
            return self.keep_folder(PathBuf::new(), facts);
        };
        let failed = |error| in_file(&words(&raw), error);
        let name = path
            .file_name()
            .map(|name| name.as_bytes().to_owned())
            .unwrap_or_default();
        if name.starts_with(WHITEOUT) {
            return self.take_away(&path, &name).map_err(failed);
        }
        let at = self.tree.place(&path).map_err(failed)?;
        match kind {
            EntryType::Directory => {
                self.tree.folder(&at).map_err(failed)?;
                self.keep_folder(path, facts)
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.make_room_for(entry.size())?;
                let mut file = self.tree.file(&at).map_err(failed)?;
                self.fill(entry, &mut file, &words(&raw))?;
                self.tree.describe_file(&at, &file, &facts).map_err(failed)
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                self.tree.symlink(&at, &target).map_err(failed)?;
                self.tree.describe(&at, &facts).map_err(failed)
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target =
                    Tree::clean(&target)?.ok_or_else(|| LayerError::Link(words(&target)))?;
                self.tree.link(&at, &target)
            }
            EntryType::Fifo => {
                self.tree.fifo(&at).map_err(failed)?;
                self.tree.describe(&at, &facts).map_err(failed)
            }
            // A container's devices are given to it by the node, never by an image.
            EntryType::Char | EntryType::Block => {
                self.devices += 1;
                Ok(())
            }
            other => Err(failed(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("an entry of the unknown kind {:?}", other.as_byte() as char),
            ))),
        }
    }

    fn take_away(&mut self, path: &Path, name: &[u8]) -> io::Result<()> {
        if name == OPAQUE {
            return self.tree.hide_below_folder(&self.tree.place(path)?);
        }
        if name.starts_with(RESERVED) {
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it takes away nothing that has a name",
            ));
        }
        let hidden = path.with_file_name(std::ffi::OsStr::from_bytes(hidden));
        self.tree.whiteout(&self.tree.place(&hidden)?)
    }

    fn keep_folder(&mut self, path: PathBuf, facts: Facts) -> Result<(), LayerError> {
        self.names += path.as_os_str().len();
        self.names += facts
            .attributes
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>();
        if self.names > MOST_NAMES {
            return Err(LayerError::Headers(MOST_NAMES as u64));
        }
        self.folders.insert(path, facts);
        Ok(())
    }

    /// Refuses a file that is too big before a byte of it is written.
    fn make_room_for(&self, size: u64) -> Result<(), LayerError> {
        if self.bytes.saturating_add(size) > self.most {
            return Err(LayerError::TooBig(self.most));
        }
        Ok(())
    }

    fn fill(
        &mut self,
        from: &mut impl Read,
        to: &mut std::fs::File,
        path: &str,
    ) -> Result<(), LayerError> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = from.read(&mut buffer).map_err(LayerError::from_reading)?;
            if count == 0 {
                return Ok(());
            }
            self.make_room_for(count as u64)?;
            self.bytes += count as u64;
            to.write_all(&buffer[..count])
                .map_err(|error| in_file(path, error))?;
            if self.bytes - self.looked_at >= BETWEEN_LOOKS {
                self.look_at_disk()?;
            }
        }
    }

    /// Stops while there is still room for everybody else.
    fn look_at_disk(&mut self) -> Result<(), LayerError> {
        self.looked_at = self.bytes;
        room(&self.folder)
    }

    /// Innermost folders first: one that may not be entered is described after what is in it.
    fn finish(&mut self) -> Result<(), LayerError> {
        for (path, facts) in std::mem::take(&mut self.folders).into_iter().rev() {
            let described = self.tree.describe_folder(&path, &facts);
            described.map_err(|error| in_file(&format!("/{}", path.display()), error))?;
        }
        Ok(())
    }
}

/// Whether a disk has enough left for those who need it more than we do.
pub(crate) fn room(folder: &Path) -> Result<(), LayerError> {
    let (free, all) = free(folder).map_err(|error| in_file("/", error))?;
    if free < (all / 50).min(512 << 20) {
        return Err(LayerError::Full { free });
    }
    Ok(())
}

fn facts(entry: &mut tar::Entry<'_, impl Read>) -> Result<Facts, LayerError> {
    let header = entry.header();
    let mut facts = Facts {
        mode: header.mode().map_err(LayerError::Archive)?,
        uid: header.uid().map_err(LayerError::Archive)?,
        gid: header.gid().map_err(LayerError::Archive)?,
        modified: i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0),
        attributes: Vec::new(),
    };
    let extensions = entry.pax_extensions().map_err(LayerError::from_reading)?;
    for extension in extensions.into_iter().flatten() {
        let extension = extension.map_err(LayerError::from_reading)?;
        if let Some(name) = extension
            .key()
            .ok()
            .and_then(|key| key.strip_prefix(ATTRIBUTE))
        {
            facts
                .attributes
                .push((name.to_owned(), extension.value_bytes().to_owned()));
        }
    }
    Ok(facts)
}
