//! Builds the agent with a cargo of its own, because it wants another profile and to be static.
//!
//! `SANDLOT_AGENT_BINARY=path` takes that file instead and builds nothing. A debug build makes
//! a quickly built agent, a release build the small one.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::Command,
};

/// What the agent is made of.
const SOURCES: [&str; 9] = [
    "agent/src",
    "agent/Cargo.toml",
    "supervisor/src",
    "supervisor/Cargo.toml",
    "access/src",
    "access/Cargo.toml",
    "api/proto",
    "api/src/lib.rs",
    "api/Cargo.toml",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed=SANDLOT_AGENT_BINARY");
    let agent = match env::var_os("SANDLOT_AGENT_BINARY") {
        Some(path) => PathBuf::from(path).canonicalize()?,
        None => build()?,
    };
    println!("cargo:rerun-if-changed={}", agent.display());
    println!("cargo:rustc-env=SANDLOT_AGENT_FILE={}", agent.display());
    Ok(())
}

fn build() -> Result<PathBuf, Box<dyn Error>> {
    let crates = Path::new(&env::var("CARGO_MANIFEST_DIR")?)
        .join("..")
        .canonicalize()?;
    for source in SOURCES {
        println!("cargo:rerun-if-changed={}", crates.join(source).display());
    }
    let target = env::var("TARGET")?;
    let folder = Path::new(&env::var("OUT_DIR")?).join("agent");
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo.args([
        "build",
        "--package",
        "sandlot-agent",
        "--bin",
        "sandlot-agent",
        "--profile",
        "agent",
    ]);
    cargo
        .args(["--target", &target])
        .arg("--target-dir")
        .arg(&folder)
        .current_dir(&crates);
    if env::var("PROFILE")? != "release" {
        for setting in ["lto=false", "codegen-units=16", "opt-level=1"] {
            cargo
                .arg("--config")
                .arg(format!("profile.agent.{setting}"));
        }
    }
    // What the outer cargo asks of its compiler, clippy for example, is not meant for the agent.
    for name in [
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("the agent could not be built: cargo ended with {status}").into());
    }
    Ok(folder.join(target).join("agent").join("sandlot-agent"))
}
