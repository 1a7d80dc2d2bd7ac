//! From a folder back to an archive: a container's writable layer, or a layer to push.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::Rights;

const CAPABILITY: &str = "security.capability";

/// Writes the archive of a layer's folder. The same folder always gives the same bytes.
pub(crate) fn pack(folder: &Path, to: impl Write, rights: Rights) -> io::Result<()> {
    let mut packing = Packing {
        archive: Builder::new(to),
        names: HashMap::new(),
        rights,
    };
    packing.folder(folder, Path::new(""))?;
    packing.archive.finish()
}

struct Packing<W: Write> {
    archive: Builder<W>,
    /// The first name of each file that has several.
    names: HashMap<(u64, u64), PathBuf>,
    rights: Rights,
}

impl<W: Write> Packing<W> {
    /// A folder's own entry, then what is in it, by name.
    fn folder(&mut self, on_disk: &Path, path: &Path) -> io::Result<()> {
        let found = fs::symlink_metadata(on_disk)?;
        let name = if path.as_os_str().is_empty() {
            Path::new("./")
        } else {
            path
        };
        self.attributes(on_disk)?;
        let mut header = self.header(&found, EntryType::Directory);
        self.archive.append_data(&mut header, name, io::empty())?;
        if xattr::get(on_disk, self.rights.opaque())?.is_some_and(|mark| mark == b"y") {
            self.mark(&path.join(".wh..wh..opq"))?;
        }
        let mut entries: Vec<_> = fs::read_dir(on_disk)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (on_disk, path) = (entry.path(), path.join(entry.file_name()));
            let found = entry.metadata()?;
            let kind = found.file_type();
            if kind.is_dir() {
                self.folder(&on_disk, &path)?;
            } else if kind.is_char_device() && found.rdev() == 0 {
                let mut hidden = b".wh.".to_vec();
                hidden.extend_from_slice(entry.file_name().as_bytes());
                self.mark(&path.with_file_name(std::ffi::OsStr::from_bytes(&hidden)))?;
            } else {
                self.entry(&on_disk, &path, &found)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, on_disk: &Path, path: &Path, found: &Metadata) -> io::Result<()> {
        if found.nlink() > 1 {
            let key = (found.dev(), found.ino());
            if let Some(first) = self.names.get(&key) {
                let mut header = self.header(found, EntryType::Link);
                return self.archive.append_link(&mut header, path, first);
            }
            self.names.insert(key, path.to_owned());
        }
        let kind = found.file_type();
        if kind.is_symlink() {
            let mut header = self.header(found, EntryType::Symlink);
            self.archive
                .append_link(&mut header, path, fs::read_link(on_disk)?)
        } else if kind.is_file() {
            self.attributes(on_disk)?;
            let mut header = self.header(found, EntryType::Regular);
            header.set_size(found.len());
            // A file that grows or shrinks meanwhile keeps the length it was found with.
            let content = io::Read::chain(fs::File::open(on_disk)?, io::repeat(0));
            self.archive
                .append_data(&mut header, path, io::Read::take(content, found.len()))
        } else if kind.is_fifo() {
            let mut header = self.header(found, EntryType::Fifo);
            self.archive.append_data(&mut header, path, io::empty())
        } else {
            // Sockets die with who made them, and devices are the node's to give.
            Ok(())
        }
    }

    /// An empty file with a name that means something.
    fn mark(&mut self, path: &Path) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(0);
        header.set_mode(0o600);
        // A field that is left out is no number to those who read it.
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        self.archive.append_data(&mut header, path, io::empty())
    }

    fn header(&self, found: &Metadata, kind: EntryType) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(found.mode() & 0o7777);
        header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
        let (uid, gid) = match self.rights {
            Rights::Root => (found.uid(), found.gid()),
            // The one user there is, is the image's root.
            Rights::User => (0, 0),
        };
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header
    }

    /// Attributes that layers may have, in a header of their own before the file's.
    fn attributes(&mut self, on_disk: &Path) -> io::Result<()> {
        let names = match xattr::list(on_disk) {
            Ok(names) => names,
            Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut kept = Vec::new();
        for name in names {
            let Some(text) = name.to_str() else { continue };
            let users = text.starts_with("user.") && !text.starts_with("user.overlay.");
            if !users && text != CAPABILITY {
                continue;
            }
            if let Some(value) = xattr::get(on_disk, &name)? {
                kept.push((format!("SCHILY.xattr.{text}"), value));
            }
        }
        kept.sort();
        self.archive.append_pax_extensions(
            kept.iter()
                .map(|(name, value)| (name.as_str(), value.as_slice())),
        )
    }
}
