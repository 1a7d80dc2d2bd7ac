//! The labels, annotations and other names that this API puts on objects.

/// The API group.
pub const GROUP: &str = "robot.k8s4r.io";

/// The field manager under which the controllers write.
pub const FIELD_MANAGER: &str = "k8s4r-operator";

/// The field manager under which the bridge writes.
pub const BRIDGE_MANAGER: &str = "k8s4r-bridge";

/// The Lease of a namespace that says which bridge works there, and that one does.
pub const BRIDGE_LEASE: &str = "bridge.robot.k8s4r.io";

/// The bridge's name at the broker.
pub const BRIDGE_LOGIN: &str = "sandlot-bridge";

/// The name at the broker of all robots that are about to register.
pub const BOOTSTRAP_LOGIN: &str = "bootstrap";

/// Label: the Job that an object belongs to.
pub const JOB: &str = "job";
/// Label: the group's name in its Job, on a TaskGroup.
pub const GROUP_NAME: &str = "groupName";
/// Label: the TaskGroup that a Task belongs to.
pub const TASK_GROUP: &str = "taskgroup";
/// Label: which replica of its group a Task is part of.
pub const REPLICA: &str = "replica";
/// Label: the name of the task in its group.
pub const TASK: &str = "task";
/// Label: which version of the group's template a Task was made from.
pub const REVISION: &str = "robot.k8s4r.io/revision";

/// Annotation: the template of a group that is known to work, to which a failed rollout returns.
pub const STABLE_TEMPLATE: &str = "robot.k8s4r.io/stable-template";

/// Annotation: the Task is to be stopped and kept, to be looked at.
pub const STOP: &str = "robot.k8s4r.io/stop";

/// Finalizer: holds what runs on robots until they have said that it runs no more, or too long has
/// passed.
pub const FINALIZER: &str = "robot.k8s4r.io/stopped";

pub use crate::arl::names::label_value;
