//! What a pod may write to disk: measured now and then, and a pod that writes more is
//! evicted, as Kubernetes does it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::Event;
use crate::pod::{bytes, containers};

const BETWEEN_LOOKS: Duration = Duration::from_secs(5);
/// A look at more files than this ends with what was counted so far.
const MOST_FILES: usize = 1_000_000;

/// Something that may only be so big.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    what: String,
    /// Folders, or beginnings of folders' names, that count together.
    folder: PathBuf,
    prefix: Option<String>,
    most: u64,
}

/// The limits of a pod whose sandbox is in this folder.
pub(super) fn limits(pod: &Pod, sandbox: &Path) -> Vec<Limit> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| {
        let empty = volume.empty_dir.as_ref()?;
        let on_disk = empty.medium.as_deref() != Some("Memory");
        let most = bytes(empty.size_limit.as_ref()?).filter(|_| on_disk)?;
        let what = format!(
            "Usage of EmptyDir volume {:?} exceeds the limit",
            volume.name
        );
        Some(Limit {
            what,
            folder: sandbox.join("volumes").join(&volume.name),
            prefix: None,
            most,
        })
    });
    let writes = containers(spec).filter_map(|(_, container)| {
        let most = bytes(
            container
                .resources
                .as_ref()?
                .limits
                .as_ref()?
                .get("ephemeral-storage")?,
        )?;
        let what = format!(
            "Container {} exceeded its local ephemeral storage limit",
            container.name
        );
        let prefix = Some(format!("{}.", container.name));
        Some(Limit {
            what,
            folder: sandbox.to_owned(),
            prefix,
            most,
        })
    });
    volumes.chain(writes).collect()
}

/// Looks until something is too big.
pub(super) async fn watch(limits: Vec<Limit>) -> Event {
    loop {
        let looked = limits.clone();
        let found =
            tokio::task::spawn_blocking(move || looked.iter().find_map(Limit::exceeded)).await;
        if let Ok(Some(message)) = found {
            return Event::GiveUp("Evicted".to_owned(), message);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

impl Limit {
    fn exceeded(&self) -> Option<String> {
        let mut files_left = MOST_FILES;
        let used = match &self.prefix {
            None => size(&self.folder, &mut files_left),
            Some(prefix) => fs::read_dir(&self.folder)
                .into_iter()
                .flatten()
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
                .map(|entry| size(&entry.path(), &mut files_left))
                .sum(),
        };
        (used > self.most).then(|| format!("{} of {} bytes.", self.what, self.most))
    }
}

/// Bytes on disk below a folder; links are not followed.
fn size(folder: &Path, files_left: &mut usize) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Some(left) = files_left.checked_sub(1) else {
                return sum;
            };
            *files_left = left;
            let Ok(found) = entry.metadata() else {
                continue;
            };
            sum += found.blocks() * 512;
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

    #[test]
    fn a_volume_over_its_limit_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {}, "spec": {
            "containers": [{"name": "c"}], "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Ki"}}]}}))
        .unwrap();
        let limits = limits(&pod, dir.path());
        fs::create_dir_all(dir.path().join("volumes/v/deep")).unwrap();
        assert!(limits[0].most == 1024);
        fs::write(dir.path().join("volumes/v/deep/file"), vec![1; 100_000]).unwrap();
        assert!(limits[0].exceeded().unwrap().contains("\"v\""));
    }
}
