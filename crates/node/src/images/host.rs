//! The image `host`: this machine's own programs, read-only, around a small generated
//! `/etc`. Never its home folders, its secrets or its sockets.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::{Image, ImageConfig, Tree};

/// The folders of a machine that hold programs and nothing of its users.
const PROGRAMS: [&str; 7] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr"];

/// Files of the machine's `/etc` that programs need and that tell nothing about it.
const SHARED: [&str; 16] = [
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "timezone",
    "services",
    "protocols",
    "mime.types",
    "inputrc",
    "bash.bashrc",
    "debian_version",
    "ssl/certs/ca-certificates.crt",
    "ssl/openssl.cnf",
    "pki/tls/certs/ca-bundle.crt",
    "shells",
    "profile",
    "magic",
];

/// Folders of the machine's `/etc` of the same kind.
const SHARED_FOLDERS: [&str; 2] = ["alternatives", "ld.so.conf.d"];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
    www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
    nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
const GROUP: &str =
    "root:x:0:\ndaemon:x:1:\ntty:x:5:\nstaff:x:50:\nwww-data:x:33:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n";

/// The generated part of the image, kept in the node's folder.
#[derive(Clone, Debug)]
pub(crate) struct HostImage {
    image: Image,
    /// Whether there is a Python for `python` to mean.
    pub(crate) has_python: bool,
}

impl HostImage {
    /// Generates what is not simply the machine's.
    pub(crate) fn generate(folder: &Path) -> io::Result<HostImage> {
        let fresh = folder.with_extension("new");
        let _ = fs::remove_dir_all(&fresh);
        let mut trees = vec![Tree {
            at: "/".to_owned(),
            layers: vec![folder.join("root")],
        }];
        root(&fresh.join("root"), &mut trees)?;
        let has_python = python(&fresh.join("usr"))?;
        if has_python && let Some(usr) = trees.iter_mut().find(|tree| tree.at == "/usr") {
            usr.layers.insert(0, folder.join("usr"));
        }
        // Containers that run keep the old one, which their mounts hold, until they end.
        let old = folder.with_extension("old");
        let _ = fs::remove_dir_all(&old);
        let _ = fs::rename(folder, &old);
        fs::rename(&fresh, folder)?;
        let _ = fs::remove_dir_all(&old);
        let config = ImageConfig {
            env: vec![(
                "PATH".to_owned(),
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            )],
            cmd: vec!["/bin/sh".to_owned()],
            working_dir: "/".to_owned(),
            ..ImageConfig::default()
        };
        let image = Image {
            name: "host".to_owned(),
            id: "host".to_owned(),
            config,
            trees,
            ..Image::default()
        };
        Ok(HostImage { image, has_python })
    }

    /// The image, under the name a pod knows it by.
    pub(crate) fn image(&self, name: &str) -> Image {
        Image {
            name: name.to_owned(),
            ..self.image.clone()
        }
    }
}

fn root(root: &Path, trees: &mut Vec<Tree>) -> io::Result<()> {
    for dir in [
        "dev",
        "etc",
        "home",
        "mnt",
        "opt",
        "proc",
        "root",
        "run",
        "srv",
        "sys",
        "tmp",
        "var/tmp",
        "var/lib",
        "var/cache",
        "var/log",
        "workspace",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    for dir in ["tmp", "var/tmp"] {
        fs::set_permissions(root.join(dir), fs::Permissions::from_mode(0o1777))?;
    }
    fs::set_permissions(root.join("root"), fs::Permissions::from_mode(0o700))?;
    for name in PROGRAMS {
        let source = Path::new("/").join(name);
        let Ok(found) = fs::symlink_metadata(&source) else {
            continue;
        };
        if found.is_symlink() {
            symlink(fs::read_link(&source)?, root.join(name))?;
        } else if found.is_dir() {
            fs::create_dir_all(root.join(name))?;
            trees.push(Tree {
                at: source.display().to_string(),
                layers: vec![source],
            });
        }
    }
    let etc = root.join("etc");
    for (name, text) in [
        ("passwd", PASSWD),
        ("group", GROUP),
        ("nsswitch.conf", NSSWITCH),
        ("hosts", ""),
        ("hostname", ""),
        ("resolv.conf", ""),
    ] {
        fs::write(etc.join(name), text)?;
    }
    symlink("../usr/lib/os-release", etc.join("os-release"))?;
    symlink("/proc/self/mounts", etc.join("mtab"))?;
    for name in SHARED {
        copy(&Path::new("/etc").join(name), &etc.join(name))?;
    }
    let pythons = fs::read_dir("/etc")?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let pythons = pythons.filter(|name| name.starts_with("python3"));
    for name in SHARED_FOLDERS.into_iter().map(str::to_owned).chain(pythons) {
        copy_folder(&Path::new("/etc").join(&name), &etc.join(&name))?;
    }
    Ok(())
}

/// `python` means `python3` wherever there is only that.
fn python(usr: &Path) -> io::Result<bool> {
    let has = |name: &str| {
        Path::new("/usr/bin").join(name).exists() || Path::new("/usr/local/bin").join(name).exists()
    };
    let bin = usr.join("local/bin");
    fs::create_dir_all(&bin)?;
    if has("python3") && !has("python") {
        let at: PathBuf = if Path::new("/usr/bin/python3").exists() {
            "/usr/bin/python3".into()
        } else {
            "python3".into()
        };
        symlink(at, bin.join("python"))?;
    }
    Ok(has("python3"))
}

/// Copies a file everybody may read; what is missing or secret is left out.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(found) = fs::metadata(from) else {
        return Ok(());
    };
    if !found.is_file() || found.permissions().mode() & 0o004 == 0 {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to).map(|_| ())
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(from) else {
        return Ok(());
    };
    fs::create_dir_all(to)?;
    for entry in entries.flatten() {
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_symlink() {
            let target = fs::read_link(entry.path())?;
            // Most of a machine's alternatives are pages of manuals, and each takes time to make.
            if !target.components().any(|part| part.as_os_str() == "man") {
                symlink(target, to)?;
            }
        } else if kind.is_file() {
            copy(&entry.path(), &to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_image_shows_programs_and_no_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("host");
        HostImage::generate(&folder).unwrap();
        let host = HostImage::generate(&folder).unwrap();
        let image = host.image("python:3.12");
        assert_eq!(image.name, "python:3.12");
        let shown: Vec<_> = image.trees.iter().map(|tree| tree.at.as_str()).collect();
        assert!(shown.contains(&"/usr"));
        assert!(!shown.iter().any(|at| at.starts_with("/home")
            || at.starts_with("/root")
            || at.starts_with("/etc")));
        for secret in ["shadow", "gshadow", "ssl/private", "ssh", "machine-id"] {
            assert!(!folder.join("root/etc").join(secret).exists(), "{secret}");
        }
        assert!(
            fs::read_to_string(folder.join("root/etc/passwd"))
                .unwrap()
                .starts_with("root:")
        );
    }
}
