//! What versions before left: a folder for each run, named as its sheet would be.

use std::{fs, io, path::Path};

use nix::fcntl::{Flock, FlockArg};

use crate::{
    note::Note,
    sheet::Name,
    tree::{self, Root},
};

/// Takes the folders away, and ends what still goes of their runs: nobody could tell any more how
/// it ends. The ledger has their names, so they count as lost and do not begin again.
pub(crate) fn clear(runs: &Path) -> io::Result<()> {
    let mut cleared = 0;
    for entry in fs::read_dir(runs)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_runs = name.to_str().and_then(Name::in_file).is_some();
        if !is_runs || !entry.file_type()?.is_dir() {
            continue;
        }
        if let Some(keeper) = keeper_of(&entry.path().join("note")) {
            tree::kill_all(keeper);
        }
        fs::remove_dir_all(entry.path())?;
        cleared += 1;
    }
    if cleared > 0 {
        tracing::warn!(
            cleared,
            "an earlier version's runs were ended and count as lost"
        );
    }
    Ok(())
}

/// What hangs on the keeper that has this note locked, if one has.
fn keeper_of(note: &Path) -> Option<Root> {
    let bytes = fs::read(note).ok()?;
    let known = Note::parse(&bytes)?;
    let file = fs::File::open(note).ok()?;
    let is_there = Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err();
    is_there.then_some(Root {
        above: known.keeper,
        session: known.main,
    })
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, process::Command};

    use super::*;
    use crate::{
        launch::{Key, Launch},
        ledger::Ledger,
        note::Stage,
        outcome::{End, Usage},
        supervisor::{Limits, Supervisor},
    };

    /// The folder of a run of an earlier version.
    fn folder(runs: &Path, key: &Key) -> PathBuf {
        let folder = runs.join(Name::of(key).to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("record.json"), "{}").unwrap();
        folder
    }

    #[tokio::test]
    async fn what_an_earlier_version_ran_is_lost_and_does_not_begin_again() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        let key = Key::new("task/step/1").unwrap();
        folder(&runs, &key);
        let (ledger, _) = Ledger::open(dir.path(), &runs).unwrap();
        ledger.write(Name::of(&key)).unwrap();
        drop(ledger);
        let supervisor = Supervisor::open(dir.path(), Limits::default())
            .await
            .unwrap();
        let launch = Launch::new(["touch".into(), dir.path().join("ran").into_os_string()]);
        let again = supervisor.start(key.clone(), launch).await.unwrap();
        assert_eq!(again.ended().await.unwrap().end, End::Lost);
        assert!(!dir.path().join("ran").exists());
        let other = supervisor
            .start(Key::new("another").unwrap(), Launch::new(["true"]))
            .await
            .unwrap();
        assert_eq!(other.ended().await.unwrap().end, End::Exited(0));
    }

    #[test]
    fn what_still_goes_of_an_earlier_versions_run_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), &Key::new("task/step/1").unwrap());
        let mut keeper = Command::new("sh")
            .args(["-c", "sleep 1000; exit 7"])
            .spawn()
            .unwrap();
        let note = Note {
            stage: Stage::Running,
            keeper: keeper.id().cast_signed(),
            main: 0,
            detail: 0,
            alone: false,
            started: 0,
            finished: 0,
            usage: Usage::default(),
        };
        let path = folder.join("note");
        fs::write(&path, note.bytes()).unwrap();
        let held = fs::File::open(&path).unwrap();
        let held = Flock::lock(held, FlockArg::LockExclusiveNonblock).unwrap();
        let root = Root {
            above: note.keeper,
            session: 0,
        };
        while tree::members(root).is_empty() {
            std::thread::yield_now();
        }
        clear(dir.path()).unwrap();
        assert_eq!(keeper.wait().unwrap().code(), Some(7));
        assert!(!folder.exists());
        drop(held);
    }
}
