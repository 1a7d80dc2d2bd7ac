//! Who may call an agent, and how a caller knows that it talks to the right one.
//!
//! Both ends have an Ed25519 key and know the other's public key; TLS 1.3 with raw public
//! keys proves possession. There is no authority, no name and no expiry date to get wrong.
//!
//! What each side knows:
//! - The operator has one private key. It never leaves the operator.
//! - An agent is told the operator's *public* key and a seed of its own, made for its pod
//!   alone, in its start environment. The operator notes the agent's public key on the pod.
//!
//! What that withstands:
//! - User code in the pod calling the agent: it lacks the operator's private key, and nothing
//!   in the pod has it.
//! - User code in the pod reading the agent's seed: the agent makes itself undumpable, which
//!   closes `/proc/PID/environ`, `/proc/PID/mem` and ptrace to others with the same uid, and it
//!   hands no variable of its own on to commands. Sandlot's node keeps the variable from what
//!   it starts beside the agent, too; on another node a process that the container runtime
//!   starts there (an exec probe, `kubectl exec`) does get it. Who has the seed can pass for
//!   this one pod's agent, whose answers user code could falsify anyway; it cannot call any
//!   agent.
//! - Another pod that was given the address of one that is gone: it has another key, so the
//!   operator's call fails instead of reaching a stranger.
//! - Somebody on the network between them: sees nothing, changes nothing.
//!
//! What it does not withstand: who may read the operator's private key, or who has
//! CAP_SYS_PTRACE or more in the pod's own namespaces and wants to pass for its agent.

#[cfg(feature = "dial")]
mod dial;
mod keys;
mod tls;

#[cfg(feature = "dial")]
pub use dial::dial;
pub use keys::{BadKey, PrivateKey, PublicKey};
pub use tls::{AccessError, client, server};

/// The variable that tells an agent whose calls it takes: one or more public keys, separated
/// by commas.
pub const OPERATOR_KEYS: &str = "SANDLOT_OPERATOR_KEYS";
/// The variable that gives an agent its own private key.
pub const AGENT_KEY: &str = "SANDLOT_AGENT_KEY";
/// The annotation on a pod that names the operator's public key that its agent was told.
pub const OPERATOR_KEY_ANNOTATION: &str = "sandlot.dev/operator-key";
/// The annotation on a pod that names its agent's public key.
pub const AGENT_KEY_ANNOTATION: &str = "sandlot.dev/agent-key";
