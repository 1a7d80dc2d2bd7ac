//! A pod's volumes, made ready before its first container starts.

mod files;
mod host_path;
mod needs;
mod token;
mod write;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Volume};

pub(crate) use needs::Needs;
pub(super) use needs::{claims, fetch, of_environment, of_volumes};
pub(super) use token::Tokens;

use crate::images::{self, Wanting};
use crate::keeper::message::MemoryFolder;
use crate::node::Shared;
use crate::pod::{Sources, bytes};
use crate::sandbox::Sandbox;

/// The volumes by name.
pub(crate) type Volumes = BTreeMap<String, Ready>;

/// A volume on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(super) path: PathBuf,
    pub(super) writable: bool,
    /// Its files belong to the pod's users, not to the machine's.
    pub(super) map_users: bool,
}

/// The memory-backed volumes, which the keeper mounts.
pub(super) fn in_memory(pod: &Pod, sandbox: &Sandbox) -> Vec<MemoryFolder> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let wanted = volumes.filter_map(|volume| {
        let empty = volume.empty_dir.as_ref()?;
        (empty.medium.as_deref() == Some("Memory")).then(|| MemoryFolder {
            at: folder(sandbox, &volume.name),
            bytes: empty.size_limit.as_ref().and_then(bytes),
            mode: 0o777,
        })
    });
    let shm = MemoryFolder {
        at: sandbox.dir.join("shm"),
        bytes: Some(64 << 20),
        mode: 0o1777,
    };
    wanted.chain([shm]).collect()
}

fn folder(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.dir.join("volumes").join(name)
}

/// Whose volumes are made, and from what.
pub(super) struct Making<'a> {
    pub(super) shared: &'a Shared,
    pub(super) pod: &'a Pod,
    pub(super) sandbox: &'a Sandbox,
    pub(super) tokens: &'a Tokens,
}

impl Making<'_> {
    fn volumes(&self) -> impl Iterator<Item = &Volume> {
        let spec = self.pod.spec.iter();
        spec.flat_map(|spec| spec.volumes.iter().flatten())
    }

    /// The group that all files of the pod's own volumes belong to.
    fn group(&self) -> Option<i64> {
        let security = self.pod.spec.as_ref()?.security_context.as_ref()?;
        security.fs_group
    }
}

/// Makes all volumes ready; the error names the volume.
pub(super) async fn prepare(of: &Making<'_>, sources: &Sources) -> Result<Volumes, String> {
    let mut ready = Volumes::new();
    for volume in of.volumes() {
        let made = one(of, volume, sources).await;
        let made = made.map_err(|error| failed(volume, &error))?;
        ready.insert(volume.name.clone(), made);
    }
    Ok(ready)
}

/// Finds the volumes that were made before. What cannot be had any more is left out:
/// containers that run keep what they see of it, and only a new one would miss it.
pub(super) async fn find(of: &Making<'_>) -> Volumes {
    let mut found = Volumes::new();
    for volume in of.volumes() {
        let path = folder(of.sandbox, &volume.name);
        let ready = if path.join("..data").exists() {
            Ok(Ready {
                path,
                writable: false,
                map_users: true,
            })
        } else {
            one(of, volume, &Sources::default()).await
        };
        match ready {
            Ok(ready) => {
                found.insert(volume.name.clone(), ready);
            }
            Err(error) => {
                let (events, error) = (&of.shared.events, failed(volume, &error));
                events.warning(of.pod, None, "FailedMount", &error);
            }
        }
    }
    found
}

/// Writes anew what has changed of the volumes that are made of files.
pub(super) async fn refresh(of: &Making<'_>, sources: &Sources) -> Result<(), String> {
    for volume in of.volumes() {
        let files = files::files(of, volume, sources).await;
        let Some(files) = files.map_err(|error| failed(volume, &error))? else {
            continue;
        };
        let path = folder(of.sandbox, &volume.name);
        if !write::shows(&path, &files) {
            write::write(&path, &files, of.group())
                .map_err(|error| failed(volume, &error.to_string()))?;
        }
    }
    Ok(())
}

fn failed(volume: &Volume, error: &str) -> String {
    let name = &volume.name;
    format!("MountVolume.SetUp failed for volume {name:?} : {error}")
}

async fn one(of: &Making<'_>, volume: &Volume, sources: &Sources) -> Result<Ready, String> {
    let (shared, pod) = (of.shared, of.pod);
    if volume.name.contains(['/', '\0']) || volume.name == ".." {
        return Err("its name is not a name".to_owned());
    }
    let path = folder(of.sandbox, &volume.name);
    let group = of.group();
    let mine = |writable| Ready {
        path: path.clone(),
        writable,
        map_users: true,
    };
    if let Some(empty) = &volume.empty_dir {
        if empty.medium.as_deref() == Some("Memory") {
            // Mounted by the keeper with the pod's users already.
            return Ok(Ready {
                map_users: false,
                ..mine(true)
            });
        }
        make(&path, 0o777, group).map_err(|error| error.to_string())?;
        return Ok(mine(true));
    }
    if let Some(wanted) = &volume.host_path {
        let path = host_path::find(wanted, &shared.closed_folders)?;
        return Ok(Ready {
            path,
            writable: true,
            map_users: true,
        });
    }
    if let Some(wanted) = &volume.persistent_volume_claim {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let path = shared.claims.folder(namespace, &wanted.claim_name).await?;
        if !shared.claims.made(&path) {
            // One that was there before is a folder of the machine like any other.
            host_path::refuse_closed(&path, &shared.closed_folders)?;
        }
        make(&path, 0o777, group).map_err(|error| error.to_string())?;
        return Ok(Ready {
            path,
            writable: wanted.read_only != Some(true),
            map_users: true,
        });
    }
    if let Some(wanted) = &volume.image {
        let name = wanted.reference.clone().unwrap_or_default();
        let wanting = Wanting {
            pod,
            container: None,
        };
        let image = shared
            .image(wanting, &name, wanted.pull_policy.as_deref())
            .await
            .map_err(|error| error.message)?;
        let noted = of.sandbox.dir.join(format!("image-of-{}", volume.name));
        images::note(&noted, &image).map_err(|error| error.to_string())?;
        let layers = image
            .trees
            .first()
            .map(|tree| tree.layers.clone())
            .unwrap_or_default();
        let [layer] = layers.as_slice() else {
            return Err(format!(
                "the image {name} has {} layers; a volume needs an image of one",
                layers.len()
            ));
        };
        return Ok(Ready {
            path: layer.clone(),
            writable: false,
            map_users: true,
        });
    }
    if let Some(files) = files::files(of, volume, sources).await? {
        write::write(&path, &files, group).map_err(|error| error.to_string())?;
        return Ok(mine(false));
    }
    Err("this kind of volume is not supported on this node".to_owned())
}

fn make(path: &Path, mode: u32, group: Option<i64>) -> io::Result<()> {
    if !path.is_dir() {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    if let Some(group) = group.and_then(|group| u32::try_from(group).ok()) {
        // Without root nobody has that group to give.
        let _ = std::os::unix::fs::chown(path, None, Some(group));
        fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o2070))?;
    }
    Ok(())
}
