//! What the tasks of one replica of a group share: a folder, and what runs before them.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sandlot_api::robot::wire::DesiredTask;
use sandlot_supervisor::Run;
use tokio::sync::OnceCell;

use crate::files;

/// The folders of so many groups are kept, and those that were used within this time, however many
/// there are.
const REMEMBERED: usize = 32;
const YOUNG: Duration = Duration::from_secs(24 * 3600);

/// One replica of a group, as long as tasks of it are alive here.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// What became of the tasks before: done once, whoever of the tasks comes first.
    pub(crate) begun: OnceCell<Result<(), String>>,
    daemons: Mutex<Vec<Run>>,
}

impl Group {
    /// Something that runs no longer than until all the group's tasks have ended.
    pub(crate) fn keep(&self, daemon: Run) {
        let mut daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        daemons.push(daemon);
    }
}

/// The groups that have tasks here, and how many each.
#[derive(Default)]
pub(crate) struct Groups(Mutex<HashMap<String, (Arc<Group>, usize)>>);

/// A task's part in its group; the group ends with the last of them.
pub(crate) struct Member<'a> {
    groups: &'a Groups,
    pub(crate) group: Arc<Group>,
}

impl Groups {
    /// Removes the oldest folders of groups that have no tasks here any more, when there are many.
    pub(crate) fn tidy(&self, folder: &Path) -> io::Result<()> {
        files::keep_newest(folder, REMEMBERED, YOUNG, |path| {
            // Held meanwhile, so that no task joins what is going.
            let groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let alive = groups.values().any(|(group, _)| group.folder == path);
            match alive {
                true => Ok(()),
                false => fs::remove_dir_all(path),
            }
        })
    }

    /// A task comes.
    pub(crate) fn join(&self, task: &DesiredTask, folder: &Path) -> Member<'_> {
        let name = match &task.group {
            Some(place) if is_plain(&place.uid) => {
                format!("{}.{}.{}", place.uid, place.replica, task.key.attempt)
            }
            _ => task.key.to_string(),
        };
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (group, members) = groups.entry(name.clone()).or_insert_with(|| {
            let group = Group {
                folder: folder.join(&name),
                name,
                begun: OnceCell::new(),
                daemons: Mutex::default(),
            };
            (Arc::new(group), 0)
        });
        *members += 1;
        Member {
            groups: self,
            group: group.clone(),
        }
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        let mut groups = self.groups.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, members)) = groups.get_mut(&self.group.name) else {
            return;
        };
        *members -= 1;
        if *members > 0 {
            return;
        }
        groups.remove(&self.group.name);
        let daemons = self
            .group
            .daemons
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for daemon in daemons.iter() {
            daemon.stop();
        }
    }
}

/// Whether a uid can be part of a file's name.
fn is_plain(uid: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !uid.is_empty() && uid.len() <= 128 && uid.bytes().all(plain)
}
