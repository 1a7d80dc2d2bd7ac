//! One request about objects on its way through the server.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http::HeaderMap;
use hyper::upgrade::OnUpgrade;

use crate::access::User;
use crate::api::{Api, Manner};
use crate::kinds::{Kind, Kinds};
use crate::negotiate::Accept;
use crate::ownership::Authorship;
use crate::request::Request;
use crate::status::ApiError;

/// Marks a request in process whose client runs ahead of the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead;

/// Marks a request of somebody in this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Near;

/// What a request in process goes with: it is made ready at once, takes effect only when the cue
/// is given, and is refused where that says no. So two writes of which the second must not be
/// without the first are made ready side by side.
#[derive(Clone, Debug)]
pub struct Cue(Shared<BoxFuture<'static, bool>>);

impl Cue {
    /// A cue that is given when this ends.
    pub fn new(given: impl Future<Output = bool> + Send + 'static) -> Cue {
        Cue(given.boxed().shared())
    }
}

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
    /// The client is in this process, and works on what it is told on the same processors.
    pub(crate) near: bool,
    /// The client sees what is accepted, and is answered then; whatever it does upon it is undone
    /// together with it.
    pub(crate) ahead: bool,
    /// What a change waits for before it takes effect.
    pub(crate) cue: Option<Cue>,
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

    /// How the request's object is written.
    pub(crate) fn manner(&self, dry_run: bool) -> Manner {
        match (dry_run, self.ahead, self.near) {
            (true, ..) => Manner::Dry,
            (false, true, _) => Manner::Ahead,
            (false, false, true) => Manner::Near,
            (false, false, false) => Manner::Far,
        }
    }

    /// Waits for the request's cue, if it goes with one.
    pub(crate) async fn await_cue(&self) -> Result<(), ApiError> {
        match &self.cue {
            Some(cue) if !cue.0.clone().await => {
                let why = "what this change goes with has not happened";
                let (kind, name) = (&self.kind, self.request.name());
                Err(ApiError::conflict(&kind.group, &kind.plural, name, why))
            }
            _ => Ok(()),
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
