//! Logging in: a password, or a token from whom the registry trusts.

use http::Method;
use http::header::{AUTHORIZATION, HeaderValue};
use reqwest::Url;
use serde::Deserialize;

use super::challenge::Challenge;
use super::credentials::Credentials;
use super::{LONGEST_ANSWER, RegistryError, Repository, read};

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Repository {
    /// What to show the registry; `None` when there is nothing to show.
    pub(super) async fn log_in(
        &self,
        wants: &Challenge,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        match (wants, &self.credentials) {
            (Challenge::Basic, Some(Credentials::Password { user, password })) => {
                Ok(secret(&basic(user, password)))
            }
            (Challenge::Basic, _) => Ok(None),
            (Challenge::Bearer { .. }, Some(Credentials::Bearer(token))) => {
                Ok(secret(&format!("Bearer {token}")))
            }
            (
                Challenge::Bearer {
                    realm,
                    service,
                    scope,
                },
                _,
            ) => {
                let token = self
                    .token(realm, service.as_deref(), scope.as_deref())
                    .await?;
                Ok(secret(&format!("Bearer {token}")))
            }
        }
    }

    /// Gets a token from whom the registry trusts.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<String, RegistryError> {
        let mut url = Url::parse(realm).map_err(|error| {
            RegistryError::Nonsense(format!("it sends us for a token to {realm:?}: {error}"))
        })?;
        // A password that came over TLS does not go on without it.
        if url.scheme() != "https" && !self.base.starts_with("http://") {
            return Err(RegistryError::Nonsense(format!(
                "it sends us for a token to {realm:?}, which is not https"
            )));
        }
        let usual = format!("repository:{}:pull", self.image.repository());
        let scope = scope.unwrap_or(&usual);
        let question = match &self.credentials {
            Some(Credentials::Identity(identity)) => {
                let mut form = vec![
                    ("grant_type", "refresh_token"),
                    ("client_id", "sandlot"),
                    ("scope", scope),
                    ("refresh_token", identity.as_str()),
                ];
                form.extend(service.map(|service| ("service", service)));
                // Written as a query is, which is how forms are sent.
                let mut body = Url::parse("form://form")
                    .map_err(|error| RegistryError::Nonsense(error.to_string()))?;
                body.query_pairs_mut().extend_pairs(form);
                self.http
                    .request(Method::POST, url)
                    .header(
                        http::header::CONTENT_TYPE,
                        "application/x-www-form-urlencoded",
                    )
                    .body(body.query().unwrap_or_default().to_owned())
            }
            credentials => {
                url.query_pairs_mut()
                    .extend_pairs(service.map(|service| ("service", service)))
                    .append_pair("scope", scope);
                let question = self.http.get(url);
                match credentials {
                    Some(Credentials::Password { user, password }) => {
                        question.header(AUTHORIZATION, basic(user, password))
                    }
                    _ => question,
                }
            }
        };
        let answer = self
            .check(self.send(question, None).await?, &self.image.to_string())
            .await?;
        let answer = read(answer, LONGEST_ANSWER).await?;
        let token: Token = serde_json::from_slice(&answer)
            .map_err(|_| RegistryError::Nonsense("a token that is none".to_owned()))?;
        [token.token, token.access_token]
            .into_iter()
            .flatten()
            .find(|token| !token.is_empty())
            .ok_or_else(|| RegistryError::Nonsense("a token that is empty".to_owned()))
    }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
    )
}

/// A header that is kept out of logs; `None` if it cannot be one.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
