//! Who may do what: authentication, service-account tokens and RBAC.

mod attributes;
mod rbac;
mod user;

pub use attributes::{Attributes, Target};
pub use rbac::{Authorizer, Decision, NoEscalation};
pub use user::User;
