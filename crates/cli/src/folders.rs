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
