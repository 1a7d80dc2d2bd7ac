//! What looks at a write before it is stored, and may change or refuse it.

mod accounts;
mod chain;
mod condition;
mod matching;
mod namespaces;
mod policy;
mod request;
mod webhook;

pub use crate::conversion::Converter;
pub use crate::webhook::{Endpoints, Services};
pub use chain::{Admission, Chain};
pub use policy::Policies;
pub use request::{AdmissionRequest, Operation, Resource};
pub use webhook::Webhooks;

use std::sync::Arc;

use crate::access::{Authorizer, NoEscalation, TokenSecrets, Tokens};
use crate::lookup::Lookup;

/// The group of what configures admission itself.
const GROUP: &str = "admissionregistration.k8s.io";

/// What the client should be told although its request went through.
pub type Warnings = Vec<String>;

/// Why a write is refused: the answer to give.
pub type Denied = crate::status::ApiError;

/// The steps that every cluster takes, around those that the program adds.
pub(crate) fn steps(
    lookup: Arc<dyn Lookup>,
    services: Arc<dyn Services>,
    authorizer: Arc<Authorizer>,
    tokens: Arc<Tokens>,
    authority: &str,
    added: Chain,
) -> Chain {
    Chain::new()
        .with(namespaces::Namespaces::new(lookup.clone()))
        .with(accounts::Accounts::new(lookup.clone()))
        .with(TokenSecrets::new(tokens, authority.to_owned()))
        .with(added)
        .with(NoEscalation::new(authorizer))
        .with(Webhooks::new(lookup.clone(), services))
        .with(Policies::new(lookup))
}
