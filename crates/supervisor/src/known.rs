//! What a supervisor has in memory of its runs: those that go, and the last that are over.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::OnceCell;

use crate::{launch::Key, run::Run};

/// How many runs that are over stay in memory; the others are read from the disk again.
const RECENT: usize = 64;

/// What a supervisor has in memory of its runs.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) runs: HashMap<Key, Arc<OnceCell<Run>>>,
    /// Those that are over, oldest first.
    pub(crate) over: VecDeque<Key>,
    /// How many go.
    pub(crate) running: usize,
    /// Sheets on the disk, to know when to look for old ones.
    pub(crate) sheets: usize,
}

impl Known {
    /// Nothing came of this key for one who asked: it is forgotten, unless somebody else is
    /// still at it.
    pub(crate) fn let_go(&mut self, key: &Key, cell: Arc<OnceCell<Run>>) {
        drop(cell);
        // Cells are only handed out under the lock that is held here, so the last one sees one.
        let idle = |kept: &Arc<OnceCell<Run>>| kept.get().is_none() && Arc::strong_count(kept) == 1;
        if self.runs.get(key).is_some_and(idle) {
            self.runs.remove(key);
        }
    }

    /// A run is over and its tree is gone.
    pub(crate) fn retire(&mut self, key: Key, passing: bool) {
        if passing {
            self.runs.remove(&key);
            self.sheets = self.sheets.saturating_sub(1);
            return;
        }
        self.over.push_back(key);
        while self.over.len() > RECENT {
            if let Some(oldest) = self.over.pop_front() {
                self.runs.remove(&oldest);
            }
        }
    }
}
