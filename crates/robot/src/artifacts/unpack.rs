//! Archives, unpacked below a folder however they lie about themselves.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use cap_std::fs::Dir;

use super::{FetchError, here, set_mode, within};

/// The most entries of an archive.
const ENTRIES: usize = 200_000;

/// A kind of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tar,
    TarGz,
    TarZst,
    Zip,
}

/// What kind of archive a name is of.
pub(super) fn kind(name: &str) -> Option<Kind> {
    let name = name.to_ascii_lowercase();
    let ends = |suffix: &str| name.ends_with(suffix);
    match () {
        () if ends(".tar") => Some(Kind::Tar),
        () if ends(".tar.gz") || ends(".tgz") => Some(Kind::TarGz),
        () if ends(".tar.zst") => Some(Kind::TarZst),
        () if ends(".zip") => Some(Kind::Zip),
        () => None,
    }
}

/// Unpacks an archive below a folder.
pub(super) fn unpack(file: File, kind: Kind, target: &Dir, most: u64) -> Result<(), FetchError> {
    let file = BufReader::new(file);
    match kind {
        Kind::Tar => tar(file, target, most),
        Kind::TarGz => tar(flate2::read::MultiGzDecoder::new(file), target, most),
        Kind::TarZst => tar(zstd::Decoder::with_buffer(file)?, target, most),
        Kind::Zip => zip(file, target, most),
    }
}

fn broken(error: impl std::fmt::Display) -> FetchError {
    FetchError::Archive(error.to_string())
}

fn tar(from: impl Read, target: &Dir, most: u64) -> Result<(), FetchError> {
    let mut room = most;
    let mut archive = tar::Archive::new(from);
    for (count, entry) in archive.entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        if count >= ENTRIES {
            return Err(broken(format!("it has more than {ENTRIES} entries")));
        }
        let path = entry.path().map_err(broken)?;
        let path = within(&path.to_string_lossy())?;
        let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            target.create_dir_all(here(&path))?;
        } else if kind.is_file() {
            write(target, &path, &mut entry, mode, &mut room, most)?;
        } else if kind.is_symlink() {
            let link = entry.link_name().map_err(broken)?.unwrap_or_default();
            let leads_out = within(&link.to_string_lossy()).is_err();
            if leads_out {
                return Err(FetchError::Escape(link.to_string_lossy().into_owned()));
            }
            make_parent(target, &path)?;
            target.symlink(&link, &path)?;
        } else if !kind.is_pax_global_extensions() {
            return Err(broken(format!(
                "{} is neither file, folder nor link",
                path.display()
            )));
        }
    }
    Ok(())
}

fn zip(from: BufReader<File>, target: &Dir, most: u64) -> Result<(), FetchError> {
    let mut room = most;
    let mut archive = zip::ZipArchive::new(from).map_err(broken)?;
    if archive.len() > ENTRIES {
        return Err(broken(format!("it has more than {ENTRIES} entries")));
    }
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let path = within(&entry.name().map_err(broken)?)?;
        if entry.is_symlink() {
            return Err(broken(format!("{} is a link", path.display())));
        }
        if entry.is_dir() {
            target.create_dir_all(here(&path))?;
            continue;
        }
        let mode = entry.unix_mode().unwrap_or(0o644) & 0o777;
        write(target, &path, &mut entry, mode, &mut room, most)?;
    }
    Ok(())
}

fn make_parent(target: &Dir, path: &Path) -> io::Result<()> {
    target.create_dir_all(here(path.parent().unwrap_or(Path::new(""))))
}

fn write(
    target: &Dir,
    path: &Path,
    content: &mut impl Read,
    mode: u32,
    room: &mut u64,
    most: u64,
) -> Result<(), FetchError> {
    make_parent(target, path)?;
    let mut file = target.create(path)?;
    let written = io::copy(&mut content.take(*room + 1), &mut file)?;
    *room = room
        .checked_sub(written)
        .ok_or(FetchError::TooLarge(most))?;
    Ok(set_mode(&file, mode | 0o600)?)
}
