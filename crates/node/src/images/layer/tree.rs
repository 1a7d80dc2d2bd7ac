//! A layer's folder, into which nothing is written but what belongs there.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, makedev, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{
    Gid, LinkatFlags, Uid, UnlinkatFlags, fchownat, linkat, mkfifoat, symlinkat, unlinkat,
};
use xattr::FileExt as _;

use super::{LayerError, Rights};
use crate::keeper::{Within, open_within};

/// Attributes that a layer may set. Others steer the overlay or label files for this machine.
const CAPABILITY: &str = "security.capability";

/// The folder a layer is unpacked into.
pub(super) struct Tree {
    root: OwnedFd,
    rights: Rights,
}

/// What a file's header says about it, besides its content.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) modified: i64,
    pub(super) attributes: Vec<(String, Vec<u8>)>,
}

/// A place in the tree: the folder it is in, which is open, and its name there.
pub(super) struct Place {
    folder: OwnedFd,
    name: OsString,
}

impl Tree {
    pub(super) fn open(path: &Path, rights: Rights) -> io::Result<Tree> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(path, flags, Mode::empty())?;
        Ok(Tree { root, rights })
    }

    /// A path of an archive without its empty steps; `None` for the root itself.
    pub(super) fn clean(path: &[u8]) -> Result<Option<PathBuf>, LayerError> {
        let mut clean = PathBuf::new();
        for step in path.split(|b| *b == b'/') {
            match step {
                b"" | b"." => {}
                b".." => return Err(LayerError::Escapes(words(path))),
                step if step.contains(&0) => return Err(LayerError::Escapes(words(path))),
                step => clean.push(OsStr::from_bytes(step)),
            }
        }
        Ok((!clean.as_os_str().is_empty()).then_some(clean))
    }

    /// Finds a path's folder, making folders that the archive does not name. Links on the way
    /// lead where they would in a container: inside.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let name = path.file_name().unwrap_or_default().to_owned();
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        let above = above.unwrap_or(Path::new("."));
        let folder = match self.open_folder(above) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.make_folders(above)?,
            other => other?,
        };
        Ok(Place { folder, name })
    }

    fn open_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        open_within(
            self.root.as_fd(),
            path,
            libc::O_PATH | libc::O_DIRECTORY,
            Within::Root,
        )
    }

    fn make_folders(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut walked = PathBuf::new();
        let mut here = self.open_folder(Path::new("."))?;
        for step in path {
            walked.push(step);
            here = match self.open_folder(&walked) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    let mode = Mode::from_bits_retain(0o755);
                    mkdirat(&here, step, mode)?;
                    // Whatever our own user masks: the image's users are to get in.
                    fchmodat(&here, step, mode, FchmodatFlags::FollowSymlink)?;
                    self.open_folder(&walked)?
                }
                other => other?,
            };
        }
        Ok(here)
    }

    /// A folder; one that is there already stays, with what is in it.
    pub(super) fn folder(&self, at: &Place) -> io::Result<()> {
        let hid = match at.kind()? {
            Some(SFlag::S_IFDIR) => return Ok(()),
            Some(_) => {
                let hid = at.is_whiteout()?;
                at.remove()?;
                hid
            }
            None => false,
        };
        // Its owner must get in while it is filled; its own mode comes at the end.
        mkdirat(
            &at.folder,
            at.name.as_os_str(),
            Mode::from_bits_retain(0o700),
        )?;
        // Taken away and made anew: what was in the one below does not come back.
        if hid { self.hide_below(at) } else { Ok(()) }
    }

    /// An empty file to write into.
    pub(super) fn file(&self, at: &Place) -> io::Result<File> {
        at.remove()?;
        let flags =
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(
            &at.folder,
            at.name.as_os_str(),
            flags,
            Mode::from_bits_retain(0o600),
        )?
        .into())
    }

    pub(super) fn symlink(&self, at: &Place, target: &[u8]) -> io::Result<()> {
        at.remove()?;
        Ok(symlinkat(
            OsStr::from_bytes(target),
            &at.folder,
            at.name.as_os_str(),
        )?)
    }

    /// Another name of a file that the layer holds.
    pub(super) fn link(&self, at: &Place, to: &Path) -> Result<(), LayerError> {
        let missing = || LayerError::Link(to.display().to_string());
        let above = to
            .parent()
            .filter(|above| !above.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let folder = self.open_folder(above).map_err(|_| missing())?;
        let target = Place {
            folder,
            name: to.file_name().unwrap_or_default().to_owned(),
        };
        let in_file = |error: io::Error| LayerError::File {
            path: at.words(),
            error,
        };
        match target.kind().map_err(in_file)? {
            None | Some(SFlag::S_IFDIR) => return Err(missing()),
            // A link to itself is there already.
            Some(_) if target.same_as(at).map_err(in_file)? => return Ok(()),
            Some(_) => {}
        }
        at.remove().map_err(in_file)?;
        linkat(
            &target.folder,
            target.name.as_os_str(),
            &at.folder,
            at.name.as_os_str(),
            LinkatFlags::empty(),
        )
        .map_err(|error| in_file(error.into()))
    }

    pub(super) fn fifo(&self, at: &Place) -> io::Result<()> {
        at.remove()?;
        Ok(mkfifoat(
            &at.folder,
            at.name.as_os_str(),
            Mode::from_bits_retain(0o600),
        )?)
    }

    /// Takes away what lies below under this name. What this layer itself holds stays.
    pub(super) fn whiteout(&self, at: &Place) -> io::Result<()> {
        match at.kind()? {
            Some(SFlag::S_IFDIR) => self.hide_below(at),
            Some(_) => Ok(()),
            None => Ok(mknodat(
                &at.folder,
                at.name.as_os_str(),
                SFlag::S_IFCHR,
                Mode::empty(),
                makedev(0, 0),
            )?),
        }
    }

    /// Marks a folder as one that hides the one below it.
    pub(super) fn hide_below(&self, at: &Place) -> io::Result<()> {
        at.open_folder()?.set_xattr(self.rights.opaque(), b"y")
    }

    /// Marks the folder a place is in, which is the root for one without a name.
    pub(super) fn hide_below_folder(&self, at: &Place) -> io::Result<()> {
        let folder: File = openat(
            &at.folder,
            ".",
            OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?
        .into();
        folder.set_xattr(self.rights.opaque(), b"y")
    }

    /// Gives a file its owner, mode and attributes; the order matters, for a new owner takes away
    /// the others.
    pub(super) fn describe_file(&self, at: &Place, file: &File, facts: &Facts) -> io::Result<()> {
        self.own(at, facts)?;
        fchmod(file, Mode::from_bits_retain(facts.mode & 0o7777))?;
        self.attributes(file, facts)?;
        at.touch(facts.modified)
    }

    /// The same for what can only be named.
    pub(super) fn describe(&self, at: &Place, facts: &Facts) -> io::Result<()> {
        self.own(at, facts)?;
        at.touch(facts.modified)
    }

    /// The same for a folder, once all is in it. One that a later entry replaced is left alone.
    pub(super) fn describe_folder(&self, path: &Path, facts: &Facts) -> io::Result<()> {
        let folder: File = if path.as_os_str().is_empty() {
            openat(
                &self.root,
                ".",
                OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?
            .into()
        } else {
            let at = self.place(path)?;
            if at.kind()? != Some(SFlag::S_IFDIR) {
                return Ok(());
            }
            at.open_folder()?
        };
        if self.rights == Rights::Root {
            let (uid, gid) = ids(facts)?;
            nix::unistd::fchown(&folder, Some(uid), Some(gid))?;
        }
        self.attributes(&folder, facts)?;
        fchmod(&folder, Mode::from_bits_retain(facts.mode & 0o7777))?;
        let time = TimeSpec::new(facts.modified, 0);
        Ok(nix::sys::stat::futimens(&folder, &time, &time)?)
    }

    fn own(&self, at: &Place, facts: &Facts) -> io::Result<()> {
        if self.rights == Rights::User {
            return Ok(());
        }
        let (uid, gid) = ids(facts)?;
        Ok(fchownat(
            &at.folder,
            at.name.as_os_str(),
            Some(uid),
            Some(gid),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )?)
    }

    fn attributes(&self, file: &File, facts: &Facts) -> io::Result<()> {
        for (name, value) in &facts.attributes {
            let users = name.starts_with("user.") && !name.starts_with("user.overlay.");
            let powers = name == CAPABILITY && self.rights == Rights::Root;
            if !users && !powers {
                continue;
            }
            match file.set_xattr(name, value) {
                // A file system without them: containers see files without them, as on it.
                Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => {
                    tracing::debug!(name, "the disk of the images keeps no attributes");
                }
                other => other?,
            }
        }
        Ok(())
    }
}

fn ids(facts: &Facts) -> io::Result<(Uid, Gid)> {
    let id = |id: u64| {
        // The largest number means nobody to the kernel.
        u32::try_from(id)
            .ok()
            .filter(|id| *id != u32::MAX)
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{id} is no number of a user"),
                )
            })
    };
    Ok((Uid::from_raw(id(facts.uid)?), Gid::from_raw(id(facts.gid)?)))
}

/// A path for people.
pub(super) fn words(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).collect()
}

impl Place {
    fn words(&self) -> String {
        words(self.name.as_bytes())
    }

    fn stat(&self) -> io::Result<Option<nix::sys::stat::FileStat>> {
        match fstatat(
            &self.folder,
            self.name.as_os_str(),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        ) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn kind(&self) -> io::Result<Option<SFlag>> {
        Ok(self
            .stat()?
            .map(|found| SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT))
    }

    fn is_whiteout(&self) -> io::Result<bool> {
        let found = self.stat()?;
        Ok(found.is_some_and(|found| {
            found.st_mode & libc::S_IFMT == libc::S_IFCHR && found.st_rdev == 0
        }))
    }

    fn same_as(&self, other: &Place) -> io::Result<bool> {
        let both = self.stat()?.zip(other.stat()?);
        Ok(both
            .is_some_and(|(one, other)| (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)))
    }

    fn open_folder(&self) -> io::Result<File> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(&self.folder, self.name.as_os_str(), flags, Mode::empty())?.into())
    }

    /// Removes what an earlier entry put here.
    fn remove(&self) -> io::Result<()> {
        match self.kind()? {
            None => Ok(()),
            Some(SFlag::S_IFDIR) => {
                let folder = format!("/proc/self/fd/{}", self.folder.as_raw_fd());
                std::fs::remove_dir_all(Path::new(&folder).join(&self.name))
            }
            Some(_) => Ok(unlinkat(
                &self.folder,
                self.name.as_os_str(),
                UnlinkatFlags::NoRemoveDir,
            )?),
        }
    }

    fn touch(&self, modified: i64) -> io::Result<()> {
        let time = TimeSpec::new(modified, 0);
        Ok(utimensat(
            &self.folder,
            self.name.as_os_str(),
            &time,
            &time,
            UtimensatFlags::NoFollowSymlink,
        )?)
    }
}

/// How many bytes a file system has left, and how many it has.
pub(super) fn free(folder: &Path) -> io::Result<(u64, u64)> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let folder = openat(AT_FDCWD, folder, flags, Mode::empty())?;
    let found = nix::sys::statvfs::fstatvfs(&folder)?;
    Ok((
        found.fragment_size() * found.blocks_available(),
        found.fragment_size() * found.blocks(),
    ))
}
