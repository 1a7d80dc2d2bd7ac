//! Real servers that tests run against, from this machine's packages.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A program that tests start.
struct Component {
    program: &'static str,
    /// The Debian package that has it.
    package: &'static str,
    /// What is not shown without it.
    shows: &'static str,
}

const ALL: [Component; 10] = [
    Component {
        program: "docker-registry",
        package: "docker-registry",
        shows: "pulling images from a registry and pushing them",
    },
    Component {
        program: "runc",
        package: "runc",
        shows: "pods whose containers runc starts",
    },
    Component {
        program: "crun",
        package: "crun",
        shows: "pods whose containers crun starts",
    },
    Component {
        program: "containerd",
        package: "containerd",
        shows: "sandboxes saved through a node's containerd",
    },
    Component {
        program: "mariadbd",
        package: "mariadb-server-core",
        shows: "sessions kept in MariaDB",
    },
    Component {
        program: "my_print_defaults",
        package: "mariadb-client-core",
        shows: "sessions kept in MariaDB",
    },
    Component {
        program: "postgres",
        package: "postgresql",
        shows: "sessions kept in PostgreSQL",
    },
    Component {
        program: "mosquitto",
        package: "mosquitto",
        shows: "robots behind a real broker",
    },
    Component {
        program: "mosquitto_pub",
        package: "mosquitto-clients",
        shows: "what the published robot agents send",
    },
    Component {
        program: "podman",
        package: "podman",
        shows: "robots' tasks in real containers",
    },
];

/// Gets what is missing. What cannot be had is said here, and again by each test that skips.
pub(super) fn provide() {
    let missing: Vec<&Component> = ALL.iter().filter(|one| !is_there(one.program)).collect();
    if missing.is_empty() {
        return;
    }
    let packages: Vec<&str> = missing.iter().map(|one| one.package).collect();
    eprintln!("── components: installing {}", packages.join(", "));
    // A list of packages from long ago names versions that are gone.
    let _ = apt(&["update", "-qq"]);
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&packages);
    if !apt(&install) {
        eprintln!(
            "apt-get could not install them; it needs root, and a Debian or a relative of it"
        );
    }
    for one in missing.iter().filter(|one| !is_there(one.program)) {
        eprintln!("SKIPPED without {}: {}", one.program, one.shows);
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(servers())
        .any(|folder| folder.join(program).is_file())
}

/// Where Debian puts servers that nobody starts by name.
fn servers() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let versions = versions.into_iter().flatten().flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    folders.push("/usr/sbin".into());
    folders
}

fn apt(arguments: &[&str]) -> bool {
    if !Path::new("/usr/bin/apt-get").exists() {
        return false;
    }
    Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
