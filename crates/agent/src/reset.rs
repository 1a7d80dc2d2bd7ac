//! Making the container as good as new: nobody left running, nothing left lying about.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::PoisonError,
    time::Duration,
};

use sandlot_supervisor::tree::{self, Root};

use crate::{agent::Agent, changes::Birth};

/// What the agent itself keeps among its records.
const OWN: [&str; 5] = ["lock", "ledger", "runs", "answers", "tasks.json"];
/// Where programs put what they soon forget.
const PASSING: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"];
/// How long all processes may take to die.
const PATIENCE: Duration = Duration::from_secs(10);

/// The places that a reset empties, as far as they are the container's own.
pub(crate) fn emptied(workspace: &Path) -> Vec<&Path> {
    let mut places = vec![workspace];
    if is_containers_first() {
        places.extend(PASSING.map(Path::new));
    }
    places
}

/// Elsewhere than as a container's first process the machine's own files would be at stake.
fn is_containers_first() -> bool {
    std::process::id() == 1
}

pub(crate) async fn reset(agent: &Agent, preserve_files: bool) -> Result<String, String> {
    // One at a time. Whoever asked for one and went away leaves it emptying folders; the next must
    // not say that all is clean, and let somebody in, while that goes on.
    let turn = agent.resetting.clone().lock_owned().await;
    let held = agent.main.as_ref().map(|main| main.hold_back());
    kill_everybody(agent).await?;
    let mut done = "no process is left".to_owned();
    if !preserve_files {
        forget(agent).await?;
        let workspace = agent.grounds.workspace.clone();
        let spared = agent.grounds.reserved.clone();
        let birth = agent.birth.clone();
        let emptying = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            clean(&workspace, &birth, spared)
        });
        let removed = emptying.await.map_err(|error| error.to_string())??;
        done = format!("{done}, {removed} entries were removed from the workspace");
    }
    // The container's own command begins anew, in the clean place.
    drop(held);
    Ok(done)
}

/// Forgets what was run and written, which the next one here must not read.
async fn forget(agent: &Agent) -> Result<(), String> {
    let ending = tokio::time::timeout(PATIENCE, agent.supervisor.forget_all()).await;
    ending
        .map_err(|_| "some runs did not end: delete the pod".to_owned())?
        .map_err(|error| format!("what was run could not be forgotten: {error}"))?;
    let mut answers = agent.answers.lock().unwrap_or_else(PoisonError::into_inner);
    answers
        .forget_all()
        .map_err(|error| format!("what was written could not be forgotten: {error}"))?;
    // Commands of the same user can write here, too.
    let state = &agent.state;
    for entry in entries(state).map_err(|error| format!("{}: {error}", state.display()))? {
        let is_own = entry
            .file_name()
            .is_some_and(|name| OWN.iter().any(|own| name == *own));
        if !is_own {
            remove(&entry).map_err(|error| format!("{}: {error}", entry.display()))?;
        }
    }
    Ok(())
}

/// Empties the workspace and, in a container of our own, the usual places for passing files; and
/// refuses to call it clean when something else in the container is not as it was at the start.
fn clean(workspace: &Path, birth: &Birth, mut spared: Vec<PathBuf>) -> Result<usize, String> {
    let mut removed = empty(workspace)?;
    if !is_containers_first() {
        return Ok(removed);
    }
    let root = device(Path::new("/"));
    for place in PASSING.map(Path::new) {
        // What somebody mounted there is looked at like everything else.
        if device(place) == root || place.starts_with("/dev") {
            removed += empty(place)?;
            spared.push(place.to_owned());
        }
    }
    spared.push(workspace.to_owned());
    match birth.difference(&spared) {
        Ok(None) => Ok(removed),
        Ok(Some(changed)) => Err(format!(
            "{changed} is not as it was when the container began: delete the pod"
        )),
        Err(error) => Err(format!(
            "whether the container is as it was cannot be told: {error}; delete the pod"
        )),
    }
}

fn device(place: &Path) -> Option<u64> {
    fs::metadata(place).ok().map(|found| found.dev())
}

/// Kills every process below the agent and looks until it sees none.
async fn kill_everybody(agent: &Agent) -> Result<(), String> {
    let everybody = Root {
        above: std::process::id().cast_signed(),
        session: 0,
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for run in agent.supervisor.runs() {
        run.kill();
    }
    loop {
        let look = move || {
            tree::kill_all(everybody);
            tree::members(everybody)
        };
        let left = tokio::task::spawn_blocking(look)
            .await
            .map_err(|error| error.to_string())?;
        if left.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(format!(
                "processes {left:?} could not be killed: delete the pod"
            ));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Removes everything in a folder, but not the folder: it may be a volume's root. Says how
/// many entries there were, and looks again whether really nothing is left.
fn empty(folder: &Path) -> Result<usize, String> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| format!("{path}: {error}")
    };
    let mut removed = 0;
    for entry in entries(folder).map_err(failed(folder))? {
        remove(&entry).map_err(failed(&entry))?;
        removed += 1;
    }
    match entries(folder).map_err(failed(folder))?.first() {
        Some(left) => Err(format!(
            "{} appeared while the workspace was emptied",
            left.display()
        )),
        None => Ok(removed),
    }
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(found) => found.map(|entry| entry.map(|e| e.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Removes one entry, links as links. A folder that its owner locked is opened first.
fn remove(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            unlock(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn unlock(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unlock(&entry.path())?;
        }
    }
    Ok(())
}
