//! What a group may ask about where it runs, what happens after failures, when its robot is
//! gone, and how edits reach it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Amount;
use crate::GoDuration;

/// A condition that a robot must meet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Constraint {
    /// What is looked at, such as `${attr.kernel.name}` or `${label.site}`.
    #[serde(default, rename = "lTarget", skip_serializing_if = "Option::is_none")]
    pub l_target: Option<String>,
    /// What it is compared with.
    #[serde(default, rename = "rTarget", skip_serializing_if = "Option::is_none")]
    pub r_target: Option<String>,
    /// The same as `lTarget`, as Tasks spell it.
    #[serde(default, rename = "ltarget", skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// The same as `rTarget`, as Tasks spell it.
    #[serde(default, rename = "rtarget", skip_serializing_if = "Option::is_none")]
    pub right: Option<String>,
    /// How it is compared; `=` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operand: Option<Operand>,
}

impl Constraint {
    /// What is looked at.
    pub fn left(&self) -> &str {
        self.l_target
            .as_deref()
            .or(self.left.as_deref())
            .unwrap_or("")
    }

    /// What it is compared with.
    pub fn right(&self) -> &str {
        self.r_target
            .as_deref()
            .or(self.right.as_deref())
            .unwrap_or("")
    }
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Operand {
    /// They are the same.
    #[default]
    #[serde(rename = "=")]
    Equal,
    /// They are not.
    #[serde(rename = "!=")]
    NotEqual,
    /// The left is greater, as a number if both are.
    #[serde(rename = ">")]
    Greater,
    /// It is greater or the same.
    #[serde(rename = ">=")]
    AtLeast,
    /// It is smaller.
    #[serde(rename = "<")]
    Less,
    /// It is smaller or the same.
    #[serde(rename = "<=")]
    AtMost,
    /// The left matches the regular expression on the right.
    #[serde(rename = "regexp")]
    Regexp,
    /// The left's list, separated by commas, has all of the right's.
    #[serde(rename = "set_contains")]
    SetContains,
    /// The left's version meets the right's, such as `>= 1.2, < 2`.
    #[serde(rename = "version")]
    Version,
}

/// What happens on the robot when a task fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartPolicy {
    /// How many times it is started again within `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub attempts: Option<i32>,
    /// The time in which `attempts` count; all time if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// How long it waits before it is started again (the default is 15s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<GoDuration>,
    /// Whether it then fails, or waits for the next interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<RestartMode>,
}

/// What happens when the restarts are used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RestartMode {
    /// It has failed.
    #[default]
    Fail,
    /// It waits until the interval is over.
    Delay,
}

/// What happens in the cluster when a task has failed for good on its robot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReschedulePolicy {
    /// How many times it is moved within `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub attempts: Option<i32>,
    /// The time in which `attempts` count; all time if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// How long to wait before the first move (the default is 30s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<GoDuration>,
    /// How the wait grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_function: Option<DelayFunction>,
    /// The longest wait (the default is 1h).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delay: Option<GoDuration>,
    /// Whether it is moved as often as needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlimited: Option<bool>,
}

/// How a wait grows from one time to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DelayFunction {
    /// Not at all.
    Constant,
    /// It doubles.
    #[default]
    Exponential,
    /// It is the sum of the two before.
    Fibonacci,
}

/// What happens to a group's tasks whose robot is not heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisconnectPolicy {
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<DisconnectAction>,
    /// After how long (the default is 5m).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<GoDuration>,
}

/// What to do about tasks whose robot is not heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DisconnectAction {
    /// Wait for it: they run on.
    #[default]
    Keep,
    /// They are stopped, by the robot itself.
    Stop,
    /// Others are started elsewhere; if the robot comes back with them still running, those win.
    Replace,
}

/// How edits reach the replicas of a group, or the robots of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdatePolicy {
    /// How many are changed at a time (the default is 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_parallel: Option<i32>,
    /// How many are changed first, to be looked at before the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub canary: Option<i32>,
    /// Go on after healthy canaries without `promote`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_promote: Option<bool>,
    /// Go on after the canaries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote: Option<bool>,
    /// How long one must run to count as healthy (the default is 10s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_healthy_time: Option<GoDuration>,
    /// How long one may take to become healthy before it counts as failed (the default is 5m).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_deadline: Option<GoDuration>,
    /// How many in a hundred may fail before the rollout is given up (the default is 0: any).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub abort_threshold_percent: Option<i32>,
    /// Go back to what worked when it is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_revert: Option<bool>,
    /// Change nothing more until this is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// Disk that a group keeps beside its tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EphemeralDisk {
    /// Whether it moves with the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate: Option<bool>,
    /// Its size.
    #[serde(default, rename = "sizeMB", skip_serializing_if = "Option::is_none")]
    pub size_mb: Option<i32>,
    /// Whether the group prefers the robot where it already is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<bool>,
}

/// What all tasks of a group's replica may use together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupResources {
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Amount>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Amount>,
    /// Disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Amount>,
}
