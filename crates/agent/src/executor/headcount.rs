//! How many processes a session's code may have at the same time.
//!
//! The kernel counts processes by user or by control group. The user is the same in every pod,
//! and the group is not the agent's to write, so the agent counts for itself, and ends the run
//! that has the most of them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sandlot_supervisor::{Key, Run, tree};

/// How often they are counted while something runs.
const EVERY: Duration = Duration::from_millis(100);
/// So many runs that were ended for it are remembered, as many as results.
const KEPT: usize = 256;

/// Counts the processes of all runs together.
#[derive(Default)]
pub(super) struct Headcount(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    /// Runs of which something may be left.
    runs: HashMap<Key, Run>,
    /// How many processes they may have in all.
    most: usize,
    /// Whether somebody counts already.
    is_counting: bool,
    /// The last runs that were ended for having too many, with what they might have.
    ended: VecDeque<(Key, usize)>,
}

impl Headcount {
    /// Counts this run too, from now on until nothing of it is left.
    pub(super) fn watch(self: &Arc<Self>, run: Run, most: u32) {
        let Some(most) = usize::try_from(most).ok().filter(|most| *most > 0) else {
            return;
        };
        let mut counted = self.counted();
        counted.most = most;
        counted.runs.insert(run.key().clone(), run);
        if !counted.is_counting {
            counted.is_counting = true;
            // It ends by itself with the last run.
            tokio::spawn(self.clone().count());
        }
    }

    /// How many processes all runs might have, where this one was ended for having too many.
    pub(super) fn ended(&self, run: &Key) -> Option<usize> {
        let counted = self.counted();
        let found = counted.ended.iter().find(|(key, _)| key == run);
        found.map(|(_, most)| *most)
    }

    fn counted(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn count(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EVERY).await;
            let Some((runs, most)) = self.left() else {
                return;
            };
            let roots = runs.iter().map(Run::root).collect::<Vec<_>>();
            let look = move || match tree::visible() > most {
                true => tree::sizes(&roots),
                // All that can be seen are not too many.
                false => Vec::new(),
            };
            // A panic there is a bug in reading /proc; the next look may do better.
            let sizes = tokio::task::spawn_blocking(look).await.unwrap_or_default();
            if let Some(run) = largest_if_over(&sizes, most).and_then(|at| runs.get(at)) {
                self.note_ended(run.key().clone(), most);
                run.kill();
            }
        }
    }

    /// The runs of which something is left, and how many processes they may have. Nothing when
    /// there is none: then nobody counts any more.
    fn left(&self) -> Option<(Vec<Run>, usize)> {
        let mut counted = self.counted();
        counted.runs.retain(|_, run| !run.is_swept());
        counted.is_counting = !counted.runs.is_empty();
        let runs = counted.runs.values().cloned().collect();
        counted.is_counting.then_some((runs, counted.most))
    }

    fn note_ended(&self, run: Key, most: usize) {
        let mut counted = self.counted();
        if counted.ended.iter().any(|(key, _)| *key == run) {
            return;
        }
        if counted.ended.len() >= KEPT {
            counted.ended.pop_front();
        }
        counted.ended.push_back((run, most));
    }
}

/// Which of the runs has the most processes, where all of them have more than they may.
fn largest_if_over(sizes: &[usize], most: usize) -> Option<usize> {
    if sizes.iter().sum::<usize>() <= most {
        return None;
    }
    (0..sizes.len()).max_by_key(|at| sizes[*at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_with_the_most_processes_goes_when_all_have_too_many() {
        assert_eq!(largest_if_over(&[], 3), None);
        assert_eq!(largest_if_over(&[1, 2], 3), None);
        assert_eq!(largest_if_over(&[1, 3, 2], 5), Some(1));
    }
}
