//! Files that are made from the Rust types, so that there is one source for each.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Options of `generate`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only say whether the files are up to date.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Writes or compares each generated file; true when all are up to date.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut fresh = true;
    for (path, text) in files()? {
        let shown = path
            .strip_prefix(crate::root())
            .unwrap_or(&path)
            .display()
            .to_string();
        if fs::read_to_string(&path).is_ok_and(|have| have == text) {
            println!("{shown} is up to date");
        } else if options.check {
            println!("{shown} is not what the types say; run `cargo xtask generate`");
            fresh = false;
        } else {
            fs::write(&path, text).with_context(|| format!("cannot write {shown}"))?;
            println!("{shown} is written");
        }
    }
    Ok(fresh)
}

/// One manifest for each custom resource. JSON is YAML, and needs nothing to write it.
fn files() -> Result<Vec<(PathBuf, String)>> {
    // Built with the whole workspace's features, as the tests are, so that nothing is built twice.
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", "--example", "crds"])
        .current_dir(crate::root())
        .status()?;
    if !built.success() {
        bail!("the types could not be built");
    }
    let program = crate::target_folder().join("debug/examples/crds");
    let output = Command::new(&program)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let folder = crate::root().join("deploy/crds");
    let text = String::from_utf8(output.stdout)?;
    let crds = text.lines().map(|line| {
        let crd: Value = serde_json::from_str(line)?;
        let name = crd["metadata"]["name"]
            .as_str()
            .context("a custom resource without a name")?;
        let body = serde_json::to_string_pretty(&crd)?;
        Ok((folder.join(format!("{name}.yaml")), body + "\n"))
    });
    crds.collect()
}
