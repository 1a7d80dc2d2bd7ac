//! Who is at the door: from a certificate, a token, or nothing at all, to a user.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Request, header};
use jiff::Timestamp;

use super::impersonation;
use super::{Authorizer, Tokens, User};
use crate::status::ApiError;

/// What anybody may read, to see whether the server is there.
const PUBLIC: [&str; 4] = ["/livez", "/readyz", "/healthz", "/version"];
/// How browsers, which cannot set headers on WebSockets, show a token.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Tells who asks.
pub struct Gate {
    tokens: Arc<Tokens>,
    authorizer: Arc<Authorizer>,
}

impl Gate {
    /// Checks tokens here, and whether a user may act as another there.
    pub fn new(tokens: Arc<Tokens>, authorizer: Arc<Authorizer>) -> Self {
        Gate { tokens, authorizer }
    }

    /// Who makes a request. `peer` is who the connection's client certificate belongs to.
    ///
    /// Nobody in particular may ask only whether the server is alive, ready, and of what
    /// version.
    pub fn enter<B>(
        &self,
        peer: Option<&User>,
        request: &Request<B>,
        now: Timestamp,
    ) -> Result<User, ApiError> {
        let user = match (peer, token(request.headers())) {
            (Some(user), _) => user.clone(),
            (None, Shown::Token(token)) => {
                let good = self.tokens.check(&token, &self.tokens.own_audience(), now);
                good.ok_or_else(ApiError::unauthorized)?.user
            }
            (None, Shown::Nothing) if is_public(request.uri().path()) => User::anonymous(),
            (None, _) => return Err(ApiError::unauthorized()),
        };
        impersonation::act_as(user, request.headers(), &self.authorizer)
    }
}

fn is_public(path: &str) -> bool {
    let under = |public: &str| {
        path.strip_prefix(public)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    PUBLIC.iter().any(|public| path == *public || under(public))
}

/// What a client shows beside a certificate.
enum Shown {
    Token(String),
    /// Something that is no bearer token.
    Other,
    Nothing,
}

fn token(headers: &HeaderMap) -> Shown {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let bearer = value.to_str().ok().and_then(|value| value.split_once(' '));
        return match bearer {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Shown::Token(token.trim().to_owned())
            }
            _ => Shown::Other,
        };
    }
    let protocols = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let mut protocols = protocols
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    match protocols.find_map(|protocol| protocol.trim().strip_prefix(TOKEN_PROTOCOL)) {
        Some(encoded) => {
            let token = URL_SAFE_NO_PAD.decode(encoded).ok();
            token
                .and_then(|token| String::from_utf8(token).ok())
                .map_or(Shown::Other, Shown::Token)
        }
        None => Shown::Nothing,
    }
}
