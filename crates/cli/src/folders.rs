//! Where Sandlot keeps things on this machine.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The data folder that is used when none is named.
pub(crate) fn data() -> Result<PathBuf> {
    let named = std::env::var_os("SANDLOT_DATA_DIR").map(PathBuf::from);
    let share = || std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".local/share"));
    named
        .or_else(|| share().or_else(home).map(|share| share.join("sandlot")))
        .context("there is no home folder to keep data in; name a folder with --data-dir")
}

/// A folder of our own that goes when we do.
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    /// Makes one that only its owner may look into.
    pub(crate) fn make() -> Result<Temporary> {
        use std::os::unix::fs::DirBuilderExt;
        let base = std::env::temp_dir();
        let nonce = jiff::Timestamp::now().as_nanosecond();
        let path = base.join(format!("sandlot-{}-{nonce:x}", std::process::id()));
        // Not recursive: that it is there already would mean that somebody else made it.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make a folder in {}", base.display()))?;
        Ok(Temporary(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
