//! What still runs in a pod although its task is gone: the task was deleted while no operator
//! watched, or an operator crashed between seeing it go and ending what it ran.
//!
//! An operator that begins asks every pod in use what runs there. Its picture of the tasks is whole
//! by then, and a task made later cannot have begun without this very operator.

use crate::{
    agents::{Door, task_of},
    index::Key,
    world::World,
};

/// Asks all pods in use.
pub(crate) fn ask(world: &mut World) {
    let index = &world.index;
    for pod in index.pods.values() {
        let is_kept = pod
            .claim
            .as_ref()
            .is_some_and(|claim| index.keeps(claim, &pod.key));
        if let Some(door) = Door::of(pod).filter(|_| is_kept && pod.is_ready()) {
            world.tray.questions.push((pod.key.clone(), door));
        }
    }
}

/// A pod has told the keys of what runs in it: whatever belongs to no task of its sandbox ends.
pub(crate) fn told(world: &mut World, pod: &Key, door: Door, running: Vec<String>) {
    let index = &world.index;
    let claim = index.pods.get(pod).and_then(|pod| pod.claim.as_ref());
    let Some(sandbox) = claim.and_then(|claim| index.sandbox_key(claim)) else {
        // The pod is on its way out, with everything in it.
        return;
    };
    for key in running {
        let Some(task) = task_of(&key) else { continue };
        let lives = index
            .queue(sandbox)
            .filter_map(|task| index.tasks.get(task))
            .any(|known| &*known.uid == task);
        if !lives {
            tracing::info!(%pod, key, "its task is gone: what runs for it is ended");
            world.tray.kills.push((door.clone(), key));
        }
    }
}
