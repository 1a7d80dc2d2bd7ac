//! What came of writes, taken into the index.

use jiff::Timestamp;
use kube::Error;

use super::{sights::Kind, world::World, writes::Written};

/// Takes in what came of a write.
pub(crate) fn take(world: &mut World, written: Written, now: Timestamp) {
    let wake = (written.kind, written.key.clone());
    let overtaken = world.was_overtaken(&wake);
    match written.result {
        Ok(_) if overtaken => {
            // If it is there all the same, the watch says so.
            if written.created && written.kind == Kind::Task {
                world.index.unexpect(&written.key);
            }
            world.answered(wake, written.owner, true, now);
        }
        Ok(object) => {
            if let Some(object) = object {
                world.take_in(object, now);
            }
            world.answered(wake, written.owner, true, now);
        }
        Err(error) => {
            let conflict = matches!(&error, Error::Api(status) if status.code == 409);
            if !conflict {
                tracing::warn!(kind = ?written.kind, object = %written.key, %error, "a write failed and is tried again");
            }
            if written.created && written.kind == Kind::Task {
                world.index.unexpect(&written.key);
            }
            if let Some(uid) = &written.deleted {
                world.index.leaving.remove(uid);
            }
            world.answered(wake, written.owner, false, now);
        }
    }
}
