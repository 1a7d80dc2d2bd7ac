//! Artifacts: files fetched into a task's folder, checked, unpacked, and never anywhere else.

mod check;
mod source;
mod unpack;

use std::{
    error::Error,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions},
};
use sandlot_api::robot::{Artifact, GetterMode};

pub(crate) use check::Mismatch;
use source::Source;

/// The largest artifact, and the most that one may unpack to, unless `maxBytes` says less.
const LARGEST: u64 = 16 << 30;
/// How often a fetch that makes no progress is tried again, and how long it waits at first.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Why an artifact cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Its address is none that can be fetched from.
    #[error("it is no address to fetch from: write http://, https://, file:// or s3://")]
    Address,
    /// It would land outside the task's folder.
    #[error("{0:?} leads out of the task's folder")]
    Escape(String),
    /// The server says no.
    #[error("the server answered {0}")]
    Refused(String),
    /// It is too large.
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    /// It is not what it should be.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// An option makes no sense.
    #[error("its option {0} makes no sense: {1}")]
    Option(&'static str, String),
    /// It is no archive, or a broken one.
    #[error("it cannot be unpacked: {0}")]
    Archive(String),
    /// The connection or the disk failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl FetchError {
    /// Whether trying again may help.
    fn may_pass(&self) -> bool {
        match self {
            Self::Io(error) => !matches!(
                error.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::PermissionDenied
            ),
            Self::Refused(status) => status.starts_with('5') || status.starts_with("429"),
            _ => false,
        }
    }
}

/// Fetches artifacts.
#[derive(Clone)]
pub(crate) struct Fetcher {
    client: reqwest::Client,
}

impl Fetcher {
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(Duration::from_secs(10))
                .read_timeout(Duration::from_secs(30))
        };
        let client = builder().build().or_else(|error| {
            let why = error.source().map(ToString::to_string);
            tracing::warn!(
                why,
                "this machine has no certificates to trust: nothing is fetched over https"
            );
            builder().tls_certs_only([]).build()
        })?;
        Ok(Self { client })
    }

    /// Puts an artifact into a folder: whole, checked, and unpacked where that is wanted.
    pub(crate) async fn fetch(&self, artifact: &Artifact, folder: &Path) -> Result<(), FetchError> {
        let destination = artifact.relative_dest.as_deref().unwrap_or("");
        let destination = within(destination)?;
        let option = |name: &str| {
            let options = artifact.getter_options.as_ref()?;
            options.get(name).map(String::as_str)
        };
        let most = match option("maxBytes") {
            None => LARGEST,
            Some(text) => {
                let wanted: u64 = text
                    .parse()
                    .map_err(|_| FetchError::Option("maxBytes", text.to_owned()))?;
                wanted.min(LARGEST)
            }
        };
        let source = Source::read(&artifact.getter_source)?;
        let name = source.file_name();
        fs::create_dir_all(folder)?;
        let partial = folder.join(format!(".{name}.part"));
        self.download(&source, &partial, most).await?;
        let checks = check::Checks::read(&option)?;
        let (file, kind) = (partial.clone(), unpack::kind(&name));
        let mode = artifact.getter_mode.unwrap_or_default();
        let (folder, name) = (folder.to_owned(), name.clone());
        // Hashing and unpacking keep a processor busy; the agent goes on meanwhile.
        let placing = tokio::task::spawn_blocking(move || {
            checks.verify(&file)?;
            let dir = Dir::open_ambient_dir(&folder, ambient_authority())?;
            match (mode, kind) {
                (GetterMode::File, _) | (GetterMode::Any, None) => {
                    place(&dir, &file, &destination, &name)
                }
                (GetterMode::Any | GetterMode::Dir, Some(kind)) => {
                    dir.create_dir_all(here(&destination))?;
                    let target = dir.open_dir(here(&destination))?;
                    unpack::unpack(File::open(&file)?, kind, &target, most)?;
                    Ok(fs::remove_file(&file)?)
                }
                (GetterMode::Dir, None) => Err(FetchError::Archive(
                    "its name does not end in .tar, .tar.gz, .tgz, .tar.zst or .zip".to_owned(),
                )),
            }
        });
        let placed = placing
            .await
            .map_err(|error| io::Error::other(error.to_string()))?;
        if placed.is_err() {
            // What failed its check is not to be gone on with.
            let _ = fs::remove_file(&partial);
        }
        placed
    }

    /// Downloads into a file, going on where an earlier try ended.
    async fn download(&self, source: &Source, partial: &Path, most: u64) -> Result<(), FetchError> {
        let mut failures = 0;
        loop {
            let before = partial.metadata().map_or(0, |known| known.len());
            let error = match source.append_to(&self.client, partial, most).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let after = partial.metadata().map_or(0, |known| known.len());
            failures = if after > before { 1 } else { failures + 1 };
            if !error.may_pass() || failures >= TRIES {
                return Err(error);
            }
            tracing::info!(%error, "an artifact is fetched again from where it broke off");
            tokio::time::sleep(PAUSE * 2u32.pow(failures)).await;
        }
    }
}

/// Moves a file to where it belongs, as a program that can be run.
fn place(dir: &Dir, file: &Path, destination: &Path, name: &str) -> Result<(), FetchError> {
    // A destination is a folder, as those who publish artifacts expect.
    dir.create_dir_all(here(destination))?;
    let target = dir.open_dir(here(destination))?;
    let mut from = File::open(file)?;
    let fresh = format!(".{name}.new");
    let mut to = target.create(&fresh)?;
    io::copy(&mut from, &mut to)?;
    set_mode(&to, 0o755)?;
    to.sync_data()?;
    target.rename(&fresh, &target, name)?;
    Ok(fs::remove_file(file)?)
}

fn set_mode(file: &cap_std::fs::File, mode: u32) -> io::Result<()> {
    use cap_std::fs::PermissionsExt;
    file.set_permissions(cap_std::fs::Permissions::from_mode(mode))
}

/// A folder below another; the other itself when nothing is named.
fn here(path: &Path) -> &Path {
    match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    }
}

/// A path of plain names only.
fn within(path: &str) -> Result<PathBuf, FetchError> {
    let mut plain = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            _ => return Err(FetchError::Escape(path.to_owned())),
        }
    }
    Ok(plain)
}

/// Reads a text file below a folder, wherever links in it lead.
pub(crate) fn read_within(folder: &Path, path: &str, most: usize) -> Result<String, FetchError> {
    let path = within(path)?;
    let dir = Dir::open_ambient_dir(folder, ambient_authority())?;
    let mut text = String::new();
    let mut file = dir.open(path)?.take(most as u64 + 1);
    file.read_to_string(&mut text)?;
    match text.len() > most {
        true => Err(FetchError::TooLarge(most as u64)),
        false => Ok(text),
    }
}

/// Gives a file to whom its folder was given to.
fn own(file: &cap_std::fs::File, folder: &Path) -> io::Result<()> {
    let owner = fs::metadata(folder)?;
    if !nix::unistd::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    let (user, group) = (owner.uid().into(), owner.gid().into());
    Ok(nix::unistd::fchown(file, Some(user), Some(group))?)
}

/// Writes a file below a folder, whole or not at all. It is its folder's owner's.
pub(crate) fn write_within(
    folder: &Path,
    path: &str,
    content: &[u8],
    mode: u32,
) -> Result<(), FetchError> {
    let path = within(path)?;
    let Some(name) = path.file_name() else {
        return Err(FetchError::Escape(path.display().to_string()));
    };
    let dir = Dir::open_ambient_dir(folder, ambient_authority())?;
    let parent = here(path.parent().unwrap_or(Path::new("")));
    dir.create_dir_all(parent)?;
    let target = dir.open_dir(parent)?;
    let mut fresh = std::ffi::OsString::from(".");
    fresh.push(name);
    fresh.push(".new");
    // Made anew: what a task has put there in the meantime is not written to.
    drop(target.remove_file(&fresh));
    let mut file = target.open_with(&fresh, OpenOptions::new().write(true).create_new(true))?;
    own(&file, folder)?;
    file.write_all(content)?;
    set_mode(&file, mode)?;
    Ok(target.rename(&fresh, &target, name)?)
}

#[cfg(test)]
mod tests;
