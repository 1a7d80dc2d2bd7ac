//! Why the gateway does not start.

use crate::{ledger::LedgerError, workspaces::FileError};

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GatewayError(String);

impl GatewayError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<LedgerError> for GatewayError {
    fn from(error: LedgerError) -> Self {
        Self(format!("{error}; see DATABASE_URL"))
    }
}

impl From<FileError> for GatewayError {
    fn from(error: FileError) -> Self {
        Self(error.to_string())
    }
}

impl From<kube::Error> for GatewayError {
    fn from(error: kube::Error) -> Self {
        Self(format!(
            "the namespace for sessions could not be made: {error}; see KUBERNETES_NAMESPACE"
        ))
    }
}
