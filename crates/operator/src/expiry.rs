//! Removes finished tasks when their time is over. Sandboxes end in their own controller.

use jiff::Timestamp;
use sandlot_decide::expiry::{Verdict, finished};

use crate::{
    dispatch::{Wake, Write},
    index::Key,
    world::World,
};

/// Looks at a finished task.
pub(crate) fn look(world: &mut World, key: &Key, now: Timestamp) {
    let Some(entry) = world.index.tasks.get_mut(key) else {
        return;
    };
    if entry.writing || entry.leaving || !world.settings.cleanup {
        return;
    }
    match finished(entry.ended, entry.ttl, now) {
        Verdict::Keep => {}
        Verdict::LookAt(when) => world.wakes.at(when, Wake::Task(key.clone())),
        Verdict::Remove => {
            entry.writing = true;
            let uid = entry.uid.clone();
            world.metrics.task_removed();
            world.tray.writes.push(Write::DeleteTask {
                key: key.clone(),
                uid,
            });
        }
    }
}
