//! The agent itself: what its doors share.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use sandlot_supervisor::{Key, Limits, Supervisor};

use crate::{
    changes::Birth,
    container::MainCommand,
    container_log::ContainerLog,
    environment::Environment,
    files::{Answers, Grounds},
    reset,
};

/// Everything the doors work with.
pub(crate) struct Agent {
    pub(crate) supervisor: Supervisor,
    /// Where its records are.
    pub(crate) state: PathBuf,
    pub(crate) environment: Environment,
    pub(crate) grounds: Grounds,
    /// What was answered to file updates under a key; locked while one is being done.
    pub(crate) answers: Arc<Mutex<Answers>>,
    /// Where long output can be read whole.
    pub(crate) log: ContainerLog,
    /// The container's own command, where the agent started it.
    pub(crate) main: Option<Arc<MainCommand>>,
    /// What the container was like when it began.
    pub(crate) birth: Arc<Birth>,
    /// Held by the reset that is going on.
    pub(crate) resetting: Arc<tokio::sync::Mutex<()>>,
    unnamed: AtomicU64,
}

impl Agent {
    /// An agent that works in `workspace` and keeps its records in `state`.
    pub(crate) async fn open(
        workspace: PathBuf,
        state: &Path,
        environment: Environment,
        main: Option<Arc<MainCommand>>,
    ) -> std::io::Result<Self> {
        // Made before anybody's change counts; where it cannot be made, its first use says why.
        let _ = std::fs::create_dir_all(&workspace);
        let supervisor = Supervisor::open(state, Limits::default()).await?;
        let answers = Arc::new(Mutex::new(Answers::open(state.join("answers"))?));
        let state = state.canonicalize()?;
        let mut reserved = vec![state.clone()];
        reserved.extend(own_folder());
        let birth = Birth::of(&reset::emptied(&workspace));
        Ok(Self {
            supervisor,
            state,
            environment,
            answers,
            grounds: Grounds {
                workspace,
                reserved,
            },
            log: ContainerLog::new(tokio::io::stdout()),
            main,
            birth: Arc::new(birth),
            resetting: Arc::default(),
            unnamed: AtomicU64::new(0),
        })
    }

    /// A key for a run that nobody will ask for again.
    pub(crate) fn next_key(&self) -> Key {
        let number = self.unnamed.fetch_add(1, Ordering::Relaxed);
        let key = format!("unnamed/{}/{number}", self.birth.number());
        // Two numbers are neither empty nor 512 bytes long.
        Key::new(key).expect("a short key")
    }

    /// Where a command works: below the workspace unless it says otherwise.
    pub(crate) fn directory(&self, wanted: &str) -> PathBuf {
        let directory = self.grounds.workspace.join(wanted);
        if wanted.is_empty() && !directory.is_dir() {
            PathBuf::from("/")
        } else {
            directory
        }
    }

    /// Ends every process and, unless told to keep them, removes the workspace's files.
    pub(crate) async fn reset(&self, preserve_files: bool) -> Result<String, String> {
        reset::reset(self, preserve_files).await
    }
}

/// The folder the agent's own binary is in, unless that is a folder of the system's.
fn own_folder() -> Option<PathBuf> {
    let folder = std::env::current_exe().ok()?.parent()?.to_owned();
    folder.ends_with(".sandlot").then_some(folder)
}
