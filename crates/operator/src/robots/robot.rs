//! The Robot controller: a robot that nobody has heard of yet waits to register.

use jiff::Timestamp;
use sandlot_api::robot::RobotPhase;
use sandlot_decide::robots::liveness::Pulse;
use serde_json::json;

use super::{sights::Kind, world::World, writes::What};
use crate::index::Key;

/// Looks at a robot that may have changed. Whether it is there is the bridge's to say, who hears
/// it.
pub(crate) fn look(world: &mut World, key: &Key, now: Timestamp) {
    let Some(robot) = world.index.robots.get(key) else {
        return;
    };
    if robot
        .status
        .as_ref()
        .is_some_and(|status| status.phase.is_some())
    {
        return;
    }
    let (_, message) = Pulse::default().phase(now, std::time::Duration::MAX);
    let patch = json!({
        "metadata": { "resourceVersion": robot.metadata.resource_version },
        "status": { "phase": RobotPhase::Pending, "message": message },
    });
    world.write(Kind::Robot, key, What::Status(patch));
}
