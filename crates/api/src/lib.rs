//! The resources and wire messages of Sandlot: one file per kind, one folder per group.

/// The agent's gRPC door, `arl.sidecar.AgentService`.
#[allow(missing_docs)]
pub mod agent {
    tonic::include_proto!("arl.sidecar");
}
