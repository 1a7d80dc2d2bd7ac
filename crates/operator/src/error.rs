//! What can go wrong with the operator as a whole.

/// Why the operator could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A custom resource definition was refused.
    #[error(
        "could not install {name}: {error}; the operator needs the right to write CustomResourceDefinitions"
    )]
    Install {
        /// The definition.
        name: String,
        /// What the API said.
        error: Box<kube::Error>,
    },
    /// The API took a definition and does not serve the kind.
    #[error(
        "{name} is installed but the API does not serve it: see its conditions with kubectl describe crd {name}"
    )]
    NotServed {
        /// The definition.
        name: String,
    },
    /// A port could not be served.
    #[error("could not serve {what} on {address}: {error}")]
    Serve {
        /// What was to be served.
        what: &'static str,
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// Another operator leads now.
    #[error("the lease {lease} was lost to another operator: this one must stop")]
    LeaseLost {
        /// The lease.
        lease: String,
    },
}
