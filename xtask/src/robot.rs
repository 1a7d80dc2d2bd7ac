//! The robot's agent by itself, for each kind of robot: one static file.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::{root, target_folder};

/// Options of `robot`.
#[derive(Args)]
pub(crate) struct Options {
    /// The robots' processors.
    #[arg(default_value = if ARCH == "aarch64" { "aarch64" } else { "x86_64" })]
    machine: Machine,
}

/// What robots are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Machine {
    /// 64-bit ARM.
    #[value(name = "aarch64")]
    Arm,
    /// 64-bit x86.
    #[value(name = "x86_64")]
    X86,
}

impl Machine {
    fn name(self) -> &'static str {
        match self {
            Self::Arm => "aarch64",
            Self::X86 => "x86_64",
        }
    }

    /// The C compiler that links for it; parts of the agent's cryptography are written in C too.
    fn compiler(self) -> String {
        match self.name() == ARCH {
            true => "cc".to_owned(),
            false => format!("{}-linux-gnu-gcc", self.name()),
        }
    }

    /// What Debian calls it.
    fn debian(self) -> &'static str {
        match self {
            Self::Arm => "arm64",
            Self::X86 => "amd64",
        }
    }

    /// The Debian packages of that compiler.
    fn packages(self) -> String {
        let dashed = self.name().replace('_', "-");
        format!("gcc-{dashed}-linux-gnu libc6-dev-{}-cross", self.debian())
    }
}

/// Builds it, and says where it is and how large.
pub(crate) fn build(options: &Options) -> Result<bool> {
    let machine = options.machine;
    let compiler = machine.compiler();
    let there = Command::new(&compiler).arg("--version").output();
    if !there.is_ok_and(|said| said.status.success()) {
        bail!(
            "{compiler} is missing: apt-get install {}",
            machine.packages()
        );
    }
    let target = format!("{}-unknown-linux-gnu", machine.name());
    if !has_library(&target)? && !add_library(&target)? {
        let debian = machine.debian();
        bail!(
            "Rust has no standard library for {target}: rustup target add {target}\n\
             where Rust is Debian's: dpkg --add-architecture {debian}; apt-get update; apt-get install libstd-rust-dev:{debian}"
        );
    }
    let folder = target_folder().join("robot");
    let built = cargo(&target, &compiler, &folder)?;
    let size = fs::metadata(&built)
        .with_context(|| format!("{} was not built", built.display()))?
        .len();
    println!(
        "{} ({:.1} MiB)",
        built.display(),
        size as f64 / f64::from(1 << 20)
    );
    Ok(true)
}

fn cargo(target: &str, compiler: &str, folder: &Path) -> Result<PathBuf> {
    let variable = target.replace('-', "_");
    let linker = format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase());
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--package",
            "sandlot-robot",
            "--bin",
            "sandlot-robot",
        ])
        .args(["--profile", "agent", "--target", target])
        .arg("--target-dir")
        .arg(folder)
        .env(format!("CC_{variable}"), compiler)
        .env(linker, compiler)
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .current_dir(root())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the agent for {target} was not built");
    }
    Ok(folder.join(target).join("agent/sandlot-robot"))
}

/// Has rustup fetch the library; nothing where Rust is not rustup's. Whether it is there now.
fn add_library(target: &str) -> Result<bool> {
    let _ = Command::new("rustup")
        .args(["target", "add", target])
        .status();
    has_library(target)
}

/// Whether Rust has its standard library for a target.
fn has_library(target: &str) -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .context("cannot run rustc")?;
    let folder = String::from_utf8_lossy(&said.stdout);
    let files = fs::read_dir(folder.trim()).into_iter().flatten().flatten();
    let mut names = files.map(|file| file.file_name());
    Ok(names.any(|name| name.to_string_lossy().starts_with("libstd-")))
}
