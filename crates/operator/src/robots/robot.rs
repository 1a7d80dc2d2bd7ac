//! The Robot controller: what nobody but the operator can say of a robot. Whether it is there is
//! the bridge's to say, who hears it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use sandlot_api::robot::{Robot, RobotPhase};
use sandlot_decide::robots::liveness::{Pulse, UNHEARD};
use serde_json::{Value, json};

use super::{sights::Kind, world::World, writes::What};
use crate::index::Key;

/// Looks at a robot that may have changed: one that nobody has heard of yet waits to register, and
/// of one that no bridge hears any more nobody knows where it is.
pub(crate) fn look(world: &mut World, key: &Key, now: Timestamp) {
    let Some(robot) = world.index.robots.get(key) else {
        world.bridges.unheard.remove(key);
        return;
    };
    let patch = match robot.status.as_ref().and_then(|status| status.phase) {
        None => {
            let (_, message) = Pulse::default().phase(now, std::time::Duration::MAX);
            json!({
                "metadata": { "resourceVersion": robot.metadata.resource_version },
                "status": { "phase": RobotPhase::Pending, "message": message },
            })
        }
        Some(RobotPhase::Online) if world.bridges.unheard.contains(key) => unheard(robot, now),
        Some(_) => {
            world.bridges.unheard.remove(key);
            return;
        }
    };
    world.write(Kind::Robot, key, What::Status(patch));
}

fn unheard(robot: &Robot, now: Timestamp) -> Value {
    let conditions = robot
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let conditions: Vec<Condition> = conditions
        .into_iter()
        .flatten()
        .map(|known| Condition {
            status: "Unknown".to_owned(),
            reason: "NoBridge".to_owned(),
            message: UNHEARD.to_owned(),
            last_transition_time: Time(now),
            ..known.clone()
        })
        .collect();
    json!({
        "metadata": { "resourceVersion": robot.metadata.resource_version },
        "status": { "phase": RobotPhase::Unknown, "message": UNHEARD, "conditions": conditions },
    })
}
