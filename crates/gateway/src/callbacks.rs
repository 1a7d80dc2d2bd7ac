//! Executors that report by calling back: each has a token of its session's own, and can report
//! what happens there and nothing else.

use axum::http::{HeaderMap, StatusCode, header};
use ring::hmac;

use crate::{access::hash_of, refusal::Refusal};

/// Makes and checks the executors' tokens. Gateways with the same secret know each other's.
pub(crate) struct Callbacks {
    key: hmac::Key,
}

/// Who reports: an executor of this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reporter {
    pub(crate) session: String,
}

impl Callbacks {
    /// Tokens made with a secret, or with one that nobody else has.
    pub(crate) fn new(secret: Option<&str>) -> Self {
        let key = match secret {
            Some(secret) => hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
            None => hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()),
        };
        Self { key }
    }

    /// The token of a session's executor.
    pub(crate) fn token(&self, session: &str) -> String {
        let proof = hmac::sign(&self.key, format!("executor of {session}").as_bytes());
        let proof: String = proof
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{session}:{proof}")
    }

    /// Who reports, by the request's headers.
    pub(crate) fn reporter(&self, headers: &HeaderMap) -> Result<Reporter, Refusal> {
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        // An id has no colon.
        let session = given
            .and_then(|token| token.rsplit_once(':'))
            .map(|(session, _)| session);
        let is_its_own = |session: &&str| {
            // Hashes are compared, so that the time it takes says nothing of the token.
            given.is_some_and(|token| hash_of(token) == hash_of(&self.token(session)))
        };
        match session.filter(is_its_own) {
            Some(session) => Ok(Reporter {
                session: session.to_owned(),
            }),
            None => Err(Refusal::Plain(
                StatusCode::UNAUTHORIZED,
                "an executor reports with its session's own token: \
                 send what it was given as INTERNAL_API_TOKEN as \"Authorization: Bearer TOKEN\""
                    .to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(callbacks: &Callbacks, token: &str) -> Option<String> {
        let value = format!("Bearer {token}").parse().unwrap();
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
        callbacks
            .reporter(&headers)
            .ok()
            .map(|reporter| reporter.session)
    }

    #[test]
    fn a_token_is_good_for_its_session_wherever_the_secret_is_known() {
        let (one, other) = (Callbacks::new(Some("x")), Callbacks::new(Some("x")));
        assert_eq!(asked(&other, &one.token("a")), Some("a".to_owned()));
        let forged = one.token("a").replacen('a', "b", 1);
        assert_eq!(asked(&one, &forged), None);
        assert_eq!(asked(&Callbacks::new(None), &one.token("a")), None);
        assert_eq!(asked(&one, "a"), None);
        assert!(one.reporter(&HeaderMap::new()).is_err());
    }
}
