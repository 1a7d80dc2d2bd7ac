//! How much of a task's output its status can hold.
//!
//! An object may have about 1.5 MiB in all. The last command's output comes first, as the documents
//! promise it whole up to a limit; what is left the steps share, the small ones whole. Whatever is
//! cut can be read in the pod's log.

use sandlot_api::arl::TaskSpec;
use sandlot_decide::task::share;

use super::report::Entry;

/// The most that etcd takes in one request is 1.5 MiB; some of that is not ours.
const LARGEST_OBJECT: usize = 1_450_000;
/// What a status has besides output: words, times, who wrote which field.
const PER_STEP: usize = 640;
const BESIDES: usize = 16 * 1024;
/// What ended steps may keep of their output in memory while later ones run.
const KEPT: usize = 768 * 1024;
/// The longest that a byte can become in JSON.
const WORST: usize = 6;

/// The room that a task's object leaves for output. `kubectl apply` notes the spec a second time.
pub(super) fn left(spec: &TaskSpec) -> usize {
    let own = serde_json::to_string(spec).map_or(0, |text| text.len());
    let besides = BESIDES + PER_STEP * spec.steps.len();
    LARGEST_OBJECT.saturating_sub(own * 2 + besides)
}

/// Output shorter than this is never cut, so that there is no need to look for it elsewhere.
pub(super) fn logged_beyond(limit: usize, steps: usize) -> usize {
    let streams = 2 * steps.max(1) + 2;
    (KEPT / WORST / streams).min(limit)
}

/// Cuts the output of steps that are over down to what memory has for them. The last command's
/// stays: it is what a task shows as its own.
pub(super) fn make(entries: &mut [Entry]) {
    let last = entries.iter().rposition(Entry::is_command);
    let wanted: Vec<usize> = entries
        .iter()
        .enumerate()
        .flat_map(|(index, entry)| {
            entry
                .held()
                .map(|held| if Some(index) == last { 0 } else { held })
        })
        .collect();
    if wanted.iter().sum::<usize>() <= KEPT {
        return;
    }
    let shares = share(&wanted, KEPT);
    for (index, entry) in entries.iter_mut().enumerate() {
        if Some(index) != last {
            entry.shrink([shares[2 * index], shares[2 * index + 1]]);
        }
    }
}
