//! Where the logs of pods are kept: a folder for each pod, which outlives its sandbox, the
//! node and the machine's restarts, and goes when the pod is deleted.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

/// The folder of all pods' logs.
#[derive(Clone, Debug)]
pub(crate) struct LogFiles {
    folder: PathBuf,
}

impl LogFiles {
    /// Keeps them in this folder.
    pub(crate) fn open(folder: PathBuf) -> io::Result<LogFiles> {
        fs::create_dir_all(&folder)?;
        Ok(LogFiles { folder })
    }

    /// The folder of a pod's logs. Its name is for people; the uid alone tells pods apart.
    pub(crate) fn of(&self, pod: &Pod) -> PathBuf {
        let meta = &pod.metadata;
        let [namespace, name, uid] =
            [&meta.namespace, &meta.name, &meta.uid].map(|part| part.as_deref().unwrap_or("none"));
        self.folder.join(format!("{namespace}_{name}_{uid}"))
    }

    /// The log of one run of a container.
    pub(crate) fn path(&self, pod: &Pod, run: &str) -> PathBuf {
        path_in(&self.of(pod), run)
    }

    /// Removes the logs of a pod that is deleted.
    pub(crate) fn forget(&self, pod: &Pod) {
        remove(&self.of(pod));
    }

    /// Removes the logs of all pods but these, which are named by their uids.
    pub(crate) fn keep_only(&self, known: &HashSet<String>) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let uid = name.rsplit_once('_').map_or("", |(_, uid)| uid);
            if !known.contains(uid) {
                remove(&entry.path());
            }
        }
    }
}

/// The log of one run in its pod's folder.
pub(crate) fn path_in(folder: &Path, run: &str) -> PathBuf {
    folder.join(format!("{run}.log"))
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove a pod's logs");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_logs_of_pods_that_are_gone_go() {
        let dir = tempfile::tempdir().unwrap();
        let logs = LogFiles::open(dir.path().join("logs")).unwrap();
        let pod = |uid: &str| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"namespace": "n", "name": "a_b", "uid": uid}}))
            .unwrap()
        };
        for uid in ["1", "2"] {
            fs::create_dir_all(logs.of(&pod(uid))).unwrap();
            fs::write(logs.path(&pod(uid), "c.0"), "line").unwrap();
        }
        logs.keep_only(&HashSet::from(["2".to_owned()]));
        assert!(!logs.of(&pod("1")).exists());
        assert!(logs.path(&pod("2"), "c.0").exists());
        logs.forget(&pod("2"));
        assert!(!logs.of(&pod("2")).exists());
    }
}
