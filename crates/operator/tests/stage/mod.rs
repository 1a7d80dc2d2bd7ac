//! A stage for the operator: pods that a stand-in declares ready, and an agent that only pretends
//! to run things, but keeps the agent's promise about keys.

#![allow(dead_code, unreachable_pub)]

mod agent;
#[path = "../floor/mod.rs"]
mod floor;
mod node;

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use sandlot_api::arl::{Sandbox, Task, TaskState, WarmPool};
use sandlot_cluster::Config;
use sandlot_operator::{Agent, Delivery, Proof, Settings};
use serde_json::{Value, json};

pub use agent::PretendAgent;
use floor::Floor;

pub struct Stage {
    pub agent: Arc<PretendAgent>,
    floor: Floor,
}

impl Deref for Stage {
    type Target = Floor;

    fn deref(&self) -> &Floor {
        &self.floor
    }
}

impl DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut Floor {
        &mut self.floor
    }
}

impl Stage {
    /// A stage on which the operator works.
    pub async fn set() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with some settings changed.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::over(Config::default(), change).await
    }

    /// The same over an API that was configured otherwise.
    pub async fn over(config: Config, change: impl FnOnce(&mut Settings)) -> Self {
        let (agent, port) = PretendAgent::serve().await;
        let mut settings = Settings {
            agent: Agent {
                delivery: Delivery::ImageVolume {
                    image: "sandlot/agent".into(),
                },
                work_dir: "/workspace".into(),
                port,
                // The pretended agents speak in the open.
                proof: Proof::Nothing,
            },
            ..Settings::default()
        };
        change(&mut settings);
        let floor = Floor::lay(config, settings, node::stand_in).await;
        Self { agent, floor }
    }

    pub async fn pool(&self, name: &str, replicas: u32) -> WarmPool {
        self.make(
            name,
            json!({ "replicas": replicas, "template": template() }),
        )
        .await
    }

    pub async fn sandbox(&self, name: &str, pool: &str) -> Sandbox {
        self.make(name, json!({ "poolRef": pool, "keepAlive": true }))
            .await
    }

    /// A task that runs one pretended command.
    pub async fn task(&self, name: &str, sandbox: &str, command: &[&str]) -> Task {
        let step = json!({ "name": "run", "type": "Command", "command": command });
        self.make(name, json!({ "sandboxRef": sandbox, "steps": [step] }))
            .await
    }

    pub async fn until_phase(&self, name: &str, phase: &str) -> Sandbox {
        self.until::<Sandbox>(name, |sandbox| phase_of(sandbox) == phase)
            .await
    }

    pub async fn until_ended(&self, name: &str) -> Task {
        self.until::<Task>(name, |task| {
            state_of(task).is_some_and(TaskState::is_terminal)
        })
        .await
    }

    pub async fn until_ready(&self, pool: &str, ready: i32) -> WarmPool {
        let wanted = |pool: &WarmPool| {
            pool.status
                .as_ref()
                .is_some_and(|status| status.ready_replicas == ready && status.total >= ready)
        };
        self.until::<WarmPool>(pool, wanted).await
    }
}

/// What a pool says of its pods' trouble: the reason and the words, once it has some.
pub fn trouble_of(pool: &WarmPool) -> Option<(String, String)> {
    let conditions = pool
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let failing = conditions
        .into_iter()
        .find(|condition| condition.type_ == "PodsFailing" && condition.status == "True")?;
    Some((failing.reason.clone(), failing.message.clone()))
}

pub fn template() -> Value {
    json!({ "spec": { "containers": [
        { "name": "executor", "image": "python:3.9-slim", "command": ["sleep", "infinity"] } ] } })
}

pub fn phase_of(sandbox: &Sandbox) -> String {
    let phase = sandbox.status.as_ref().and_then(|status| status.phase);
    phase.map_or_else(String::new, |phase| format!("{phase:?}"))
}

pub fn pod_of(sandbox: &Sandbox) -> String {
    sandbox
        .status
        .as_ref()
        .and_then(|status| status.pod_name.clone())
        .unwrap_or_default()
}

pub fn state_of(task: &Task) -> Option<TaskState> {
    task.status.as_ref().and_then(|status| status.state)
}

pub fn reason_of(sandbox: &Sandbox) -> (String, String) {
    let conditions = sandbox
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready")
        .unwrap();
    (ready.reason.clone(), ready.message.clone())
}
