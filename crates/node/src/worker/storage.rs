//! What a pod may write to disk: measured now and then, and a pod that writes more is
//! evicted, as Kubernetes does it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Event;
use crate::pod::{ContainerKind, bytes, containers};

const BETWEEN_LOOKS: Duration = Duration::from_secs(5);
/// A look at more files than this ends with what was counted so far.
const MOST_FILES: usize = 1_000_000;

/// Something that may only be so big.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// What is said when it is bigger.
    message: String,
    parts: Vec<Part>,
    most: u64,
}

/// What of a folder counts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    folder: PathBuf,
    entries: Entries,
}

/// Which entries of a folder count. What belongs to a run of a container begins with the
/// container's name and the run's number.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entries {
    All,
    RunsOf(String),
    /// Also of containers that are yet to be put into the pod.
    AllRuns,
}

impl Entries {
    fn hold(&self, entry: &str) -> bool {
        let mut words = entry.split('.');
        let (name, number) = (words.next(), words.next().map(str::parse::<u32>));
        match self {
            Entries::All => true,
            Entries::RunsOf(wanted) => name == Some(wanted) && matches!(number, Some(Ok(_))),
            Entries::AllRuns => matches!(number, Some(Ok(_))),
        }
    }
}

/// The limits of a pod whose sandbox and logs are in these folders.
pub(super) fn limits(pod: &Pod, sandbox: &Path, logs: &Path) -> Vec<Limit> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let (mut limits, mut written, mut total) = (Vec::new(), Vec::new(), Some(0));
    for volume in spec.volumes.iter().flatten() {
        let Some(empty) = &volume.empty_dir else {
            continue;
        };
        // What lies in memory is limited by the kernel.
        if empty.medium.as_deref() == Some("Memory") {
            continue;
        }
        let folder = sandbox.join("volumes").join(&volume.name);
        let part = Part {
            folder,
            entries: Entries::All,
        };
        written.push(part.clone());
        if let Some((limit, most)) = quantity(empty.size_limit.as_ref()) {
            let name = &volume.name;
            limits.push(Limit {
                message: format!("Usage of EmptyDir volume {name:?} exceeds the limit {limit:?}. "),
                parts: vec![part],
                most,
            });
        }
    }
    // Names are kept in files that every container may write.
    let names = Part {
        folder: sandbox.join("etc"),
        entries: Entries::All,
    };
    let of_runs = |entries: Entries| {
        [sandbox, logs].map(|folder| Part {
            folder: folder.to_owned(),
            entries: entries.clone(),
        })
    };
    written.push(names.clone());
    written.extend(of_runs(Entries::AllRuns));
    for (kind, container) in containers(spec) {
        let own = of_runs(Entries::RunsOf(container.name.clone()));
        let parts = own.into_iter().chain([names.clone()]).collect();
        let resources = container.resources.as_ref();
        let limits_of = resources.and_then(|resources| resources.limits.as_ref());
        let limit = quantity(limits_of.and_then(|limits| limits.get("ephemeral-storage")));
        let most = limit.as_ref().map(|(_, most)| *most);
        if kind != ContainerKind::Init {
            total = total.zip(most).map(|(sum, most)| sum + most);
        }
        if let Some((limit, most)) = limit {
            let name = &container.name;
            limits.push(Limit {
                message: format!(
                    "Container {name} exceeded its local ephemeral storage limit {limit:?}. "
                ),
                parts,
                most,
            });
        }
    }
    // Only where every container is limited is their sum a limit of the pod.
    limits.extend(total.map(|most| Limit {
        message: format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {most}. "
        ),
        parts: written,
        most,
    }));
    limits
}

fn quantity(limit: Option<&Quantity>) -> Option<(String, u64)> {
    let limit = limit?;
    Some((limit.0.clone(), bytes(limit)?))
}

/// Looks until something is too big, or until there is nothing left to look at.
pub(super) async fn watch(sandbox: PathBuf, limits: Vec<Limit>) -> Event {
    while sandbox.exists() {
        let looked = limits.clone();
        let found =
            tokio::task::spawn_blocking(move || looked.iter().find_map(Limit::exceeded)).await;
        if let Ok(Some(message)) = found {
            return Event::GiveUp("Evicted".to_owned(), message);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Event::Done
}

impl Limit {
    fn exceeded(&self) -> Option<String> {
        let mut files_left = MOST_FILES;
        let used: u64 = self
            .parts
            .iter()
            .map(|part| part.size(&mut files_left))
            .fold(0, u64::saturating_add);
        (used > self.most).then(|| self.message.clone())
    }
}

impl Part {
    fn size(&self, files_left: &mut usize) -> u64 {
        if self.entries == Entries::All {
            return size(&self.folder, files_left);
        }
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter(|entry| self.entries.hold(&entry.file_name().to_string_lossy()))
            .map(|entry| match entry.metadata() {
                Ok(found) if found.is_dir() => size(&entry.path(), files_left),
                Ok(found) => found.blocks() * 512,
                Err(_) => 0,
            })
            .fold(0, u64::saturating_add)
    }
}

/// What a file takes at least: its name and its place are not free either, and a disk can be
/// full of them.
const SMALLEST: u64 = 4096;

/// Bytes on disk below a folder; links are not followed. Folders that are deeper than any
/// path reaches count as too big for every limit: what they hold cannot be looked at.
fn size(folder: &Path, files_left: &mut usize) -> u64 {
    let mut sum = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::InvalidFilename => return u64::MAX,
            entries => entries.into_iter().flatten().flatten(),
        };
        for entry in entries {
            let Some(left) = files_left.checked_sub(1) else {
                return sum;
            };
            *files_left = left;
            let found = match entry.metadata() {
                Err(error) if error.kind() == std::io::ErrorKind::InvalidFilename => {
                    return u64::MAX;
                }
                Err(_) => continue,
                Ok(found) => found,
            };
            sum += (found.blocks() * 512).max(SMALLEST);
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(spec: serde_json::Value, dir: &Path) -> Vec<Limit> {
        let pod: Pod =
            serde_json::from_value(serde_json::json!({"metadata": {}, "spec": spec})).unwrap();
        limits(&pod, &dir.join("sandbox"), &dir.join("logs"))
    }

    fn said(limits: &[Limit]) -> Vec<String> {
        limits.iter().filter_map(Limit::exceeded).collect()
    }

    #[test]
    fn a_volume_over_its_limit_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let limits = limited(
            serde_json::json!({"containers": [{"name": "c"}],
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Ki"}}]}),
            dir.path(),
        );
        let deep = dir.path().join("sandbox/volumes/v/deep");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), vec![1; 100_000]).unwrap();
        let expected = "Usage of EmptyDir volume \"v\" exceeds the limit \"1Ki\". ";
        assert_eq!(said(&limits), [expected]);
    }

    #[test]
    fn neither_empty_files_nor_depth_hide_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("sandbox/volumes/v");
        fs::create_dir_all(&volume).unwrap();
        let limits = limited(
            serde_json::json!({"containers": [{"name": "c"}],
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]}),
            dir.path(),
        );
        for number in 0..300 {
            fs::write(volume.join(number.to_string()), "").unwrap();
        }
        assert_eq!(said(&limits).len(), 1);
        fs::remove_dir_all(&volume).unwrap();
        fs::create_dir_all(&volume).unwrap();
        assert_eq!(said(&limits), [""; 0]);
        // Each folder is moved into another, until no path is long enough for all.
        let name = "n".repeat(200);
        let (inner, outer) = (dir.path().join("inner"), dir.path().join("outer"));
        fs::create_dir(&inner).unwrap();
        for _ in 0..30 {
            fs::create_dir(&outer).unwrap();
            fs::rename(&inner, outer.join(&name)).unwrap();
            fs::rename(&outer, &inner).unwrap();
        }
        fs::rename(&inner, volume.join("deep")).unwrap();
        assert_eq!(said(&limits).len(), 1);
        crate::removal::remove_all(&volume).unwrap();
    }

    #[test]
    fn what_a_container_writes_and_says_counts_and_so_does_the_pod_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let container = |name: &str| {
            serde_json::json!({"name": name,
                "resources": {"limits": {"ephemeral-storage": "100Ki"}}})
        };
        let limits = limited(
            serde_json::json!({"containers": [container("a"), container("b")],
                "volumes": [{"name": "v", "emptyDir": {}}]}),
            dir.path(),
        );
        for folder in ["sandbox/a.0/writes-0", "sandbox/volumes/v", "logs"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(
            dir.path().join("sandbox/a.0/writes-0/file"),
            vec![1; 60 << 10],
        )
        .unwrap();
        assert_eq!(said(&limits), [""; 0]);
        fs::write(
            dir.path().join("sandbox/volumes/v/file"),
            vec![1; 150 << 10],
        )
        .unwrap();
        assert!(said(&limits)[0].starts_with("Pod ephemeral local storage usage"));
        fs::write(dir.path().join("logs/a.0.log"), vec![1; 60 << 10]).unwrap();
        assert!(said(&limits)[0].starts_with("Container a exceeded"));
        fs::remove_file(dir.path().join("logs/a.0.log")).unwrap();
        fs::remove_file(dir.path().join("sandbox/volumes/v/file")).unwrap();
        assert_eq!(said(&limits), [""; 0]);
        // Put into the pod while it runs, without any limit of its own.
        fs::create_dir_all(dir.path().join("sandbox/debugger.0")).unwrap();
        let its = dir.path().join("sandbox/debugger.0/file");
        fs::write(its, vec![1; 150 << 10]).unwrap();
        assert!(said(&limits)[0].starts_with("Pod ephemeral local storage usage"));
    }
}
