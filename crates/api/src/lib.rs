//! The resources and wire messages of Sandlot: one file per kind, one folder per group.
//!
//! These types are formats that leave the process, so they follow rules: no flattened and
//! no untagged parts, every optional field may be absent or null, and unknown fields that a
//! newer version wrote are not an error. What a field means stands in its doc line, which is
//! also what `kubectl explain` shows.

/// The agent's gRPC door, `arl.sidecar.AgentService`.
#[allow(missing_docs)]
pub mod agent {
    tonic::include_proto!("arl.sidecar");
}

/// The agent's gRPC door for sessions, `sandlot.executor.v1.Executor`.
#[allow(missing_docs)]
pub mod executor {
    tonic::include_proto!("sandlot.executor.v1");

    /// The variables that tell code which session it is in. An interpreter that waits in a pod
    /// before that is anybody's is told them with its code.
    pub const ABOUT_THE_SESSION: [&str; 4] = [
        "SESSION_ID",
        "WORKSPACE_PATH",
        "CONTROL_PLANE_URL",
        "INTERNAL_API_TOKEN",
    ];

    /// The agent's variable for having a Python interpreter wait from its own start on: `true`.
    pub const PYTHON_AHEAD: &str = "SANDLOT_PYTHON_AHEAD";
}

#[cfg(feature = "resources")]
pub mod arl;
#[cfg(feature = "resources")]
mod go_duration;
#[cfg(feature = "resources")]
pub mod opensandbox;
#[cfg(feature = "resources")]
mod pod_template;
#[cfg(feature = "resources")]
pub mod robot;

#[cfg(feature = "resources")]
pub use go_duration::{BadDuration, GoDuration};
#[cfg(feature = "resources")]
pub use pod_template::PodTemplate;

#[cfg(feature = "resources")]
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

/// Every custom resource that Sandlot brings, ready to be installed or written as YAML.
#[cfg(feature = "resources")]
pub fn crds() -> Vec<CustomResourceDefinition> {
    use kube::CustomResourceExt;
    vec![
        arl::WarmPool::crd(),
        arl::Sandbox::crd(),
        arl::Task::crd(),
        opensandbox::Pool::crd(),
        opensandbox::BatchSandbox::crd(),
        opensandbox::SandboxSnapshot::crd(),
        robot::Robot::crd(),
        robot::Job::crd(),
        robot::TaskGroup::crd(),
        robot::Task::crd(),
        robot::Command::crd(),
        robot::RobotDeployment::crd(),
    ]
}
