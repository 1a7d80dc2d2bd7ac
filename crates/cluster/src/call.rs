//! One request about objects on its way through the server.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use hyper::upgrade::OnUpgrade;

use crate::access::User;
use crate::api::Api;
use crate::kinds::{Kind, Kinds};
use crate::negotiate::Accept;
use crate::ownership::Authorship;
use crate::request::Request;
use crate::status::ApiError;

/// Marks a request in process whose client runs ahead of the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead;

/// One request about objects, and what is known by the time a verb sees it.
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    /// The kinds as they were when the request came in.
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) kind: Arc<Kind>,
    pub(crate) request: Request,
    pub(crate) user: User,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) accept: Accept,
    pub(crate) authorship: Authorship,
    /// The client sees what is accepted, and is answered then; whatever it does upon it is undone
    /// together with it.
    pub(crate) ahead: bool,
    /// The connection itself, where the client wants to go on with another protocol.
    pub(crate) upgrade: Option<OnUpgrade>,
    /// What the client is told beside the answer.
    pub(crate) warnings: Vec<String>,
}

impl Call {
    /// The namespace that the request is about; empty for kinds that live in none.
    pub(crate) fn namespace(&self) -> &str {
        if self.kind.namespaced {
            self.request.namespace()
        } else {
            ""
        }
    }

    /// Who writes, as managed fields record it: what the client says, or else its program's name.
    pub(crate) fn manager(&self) -> String {
        let said = &self.request.options.write.field_manager;
        if !said.is_empty() {
            return said.clone();
        }
        let agent = self
            .headers
            .get(http::header::USER_AGENT)
            .and_then(|value| value.to_str().ok());
        let name = agent
            .and_then(|agent| agent.split('/').next())
            .unwrap_or_default();
        let printable: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
        if printable.is_empty() {
            "unknown".to_owned()
        } else {
            printable
        }
    }

    /// There is no object of this name.
    pub(crate) fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(&self.kind.group, &self.kind.plural, name)
    }

    /// Somebody else changed the object first.
    pub(crate) fn modified(&self, name: &str) -> ApiError {
        ApiError::modified(&self.kind.group, &self.kind.plural, name)
    }
}
