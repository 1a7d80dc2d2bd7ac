//! `robot.k8s4r.io/v1alpha1`: robots, jobs for them, groups and tasks of jobs, commands,
//! deployments; and what is said over MQTT between the cluster and the robots.
//!
//! Published revisions of this API spell some things differently; all spellings are read.

// Each printer column names its type and path, which clippy takes for repetition.
#![allow(clippy::duplicated_attributes)]

mod amount;
mod command;
mod definition;
mod deployment;
mod device;
mod freeform;
mod job;
pub mod names;
mod policy;
#[expect(
    clippy::module_inception,
    reason = "the kind Robot of the group of robots"
)]
mod robot;
mod task;
mod task_group;
pub mod wire;

pub use amount::Amount;
pub use command::{
    Command, CommandResult, CommandResultState, CommandSpec, CommandState, CommandStatus,
};
pub use definition::{
    Artifact, ChangeMode, DockerConfig, DockerPort, DockerVolume, Driver, ExecConfig, GetterMode,
    JavaConfig, NetworkNeed, PortNeed, Resources, TaskConfig, TaskDefinition, Template,
};
pub use deployment::{
    DeploymentState, DeploymentTarget, RobotDeployment, RobotDeploymentSpec, RobotDeploymentStatus,
    StableVersion,
};
pub use device::{Cpu, DeviceInfo, Disk, Memory, NetworkInterface, Platform, Swap};
pub use freeform::Freeform;
pub use job::{GroupSummary, Job, JobSpec, JobState, JobStatus, JobType, TaskGroupTemplate};
pub use policy::{
    Constraint, DelayFunction, DisconnectAction, DisconnectPolicy, EphemeralDisk, GroupResources,
    Operand, ReschedulePolicy, RestartMode, RestartPolicy, UpdatePolicy,
};
pub use robot::{
    Credential, CredentialWish, InstalledDeployment, Robot, RobotPhase, RobotSpec, RobotStatus,
    is_robot_id,
};
pub use task::{AllocatedResources, Task, TaskEvent, TaskSpec, TaskState, TaskStatus, Usage};
pub use task_group::{
    AssignedRobot, GroupState, RolloutState, RolloutStatus, TaskGroup, TaskGroupSpec,
    TaskGroupStatus,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

/// A list of conditions, merged by type.
fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<Vec<Condition>>();
    schema.insert("nullable".into(), Value::Bool(true));
    schema.insert("x-kubernetes-list-type".into(), "map".into());
    schema.insert(
        "x-kubernetes-list-map-keys".into(),
        Value::from(vec!["type"]),
    );
    schema
}

#[cfg(test)]
mod tests;
