//! Who may do what: authentication, service-account tokens and RBAC.

mod attributes;
mod gate;
mod impersonation;
mod rbac;
mod reviews;
mod token;
mod user;

pub use attributes::{Attributes, Target};
pub use gate::Gate;
pub use rbac::{Authorizer, Decision, NoEscalation};
pub use reviews::whoami;
pub use token::{Checked, ISSUER, SigningKey, TokenSecrets, Tokens};
pub use user::User;

pub(crate) use rbac::aggregation::run as aggregate;
pub(crate) use rbac::bootstrap::objects as bootstrap;
pub(crate) use reviews::answered;
pub(crate) use user::MASTERS;
