//! The Robot controller: what nobody but the operator can say of a robot. Whether it is there is
//! the bridge's to say, who hears it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use sandlot_api::robot::{Robot, RobotPhase, names};
use sandlot_decide::{
    expiry::later,
    robots::liveness::{Pulse, UNHEARD},
};
use serde_json::{Value, json};

use super::{sights::Kind, world::World, writes::What};
use crate::index::{Key, key::made};

/// How long a bridge that has made a robot may take to say where it stands.
const BY_BRIDGE: Duration = Duration::from_secs(10);

/// Looks at a robot that may have changed: one that nobody has heard of yet waits to register, and
/// of one that no bridge hears any more nobody knows where it is.
pub(crate) fn look(world: &mut World, key: &Key, now: Timestamp) {
    let Some(robot) = world.index.robots.get(key) else {
        world.bridges.unheard.remove(key);
        return;
    };
    let patch = match robot.status.as_ref().and_then(|status| status.phase) {
        None => {
            let due = later(made(&robot.metadata), BY_BRIDGE);
            if is_made_by_bridge(robot) && due > now {
                world.wake(Some(due), (Kind::Robot, key.clone()));
                return;
            }
            let (_, message) = Pulse::default().phase(now, Duration::MAX);
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

/// Whether it has registered itself: then its status comes in a moment, and a word here would only
/// be in its way.
fn is_made_by_bridge(robot: &Robot) -> bool {
    let mut wrote = robot.metadata.managed_fields.iter().flatten();
    wrote.any(|by| by.manager.as_deref() == Some(names::BRIDGE_MANAGER))
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
