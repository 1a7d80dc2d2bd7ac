//! Who may call, and for what.
//!
//! On this machine's own address nobody needs a token; what a browser brings from another
//! page is still turned away, because any page can make a browser call this machine. On any
//! other address everybody needs one. Of a token only its hash is kept.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use ring::digest;

use crate::{
    callbacks::Reporter, connections::Peer, gateway::Gateway, pace::Who, refusal::Refusal,
};

/// Where executors report.
const CALLBACKS: &str = "/api/v1/internal/";

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The name that sessions are kept under.
    pub(crate) name: String,
    role: Role,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// What concerns the caller's own sessions.
    User,
}

/// A token, of which only the hash is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    name: String,
    role: Role,
    hash: String,
}

/// A token that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no token: write NAME:admin:SHA256 or NAME:user:SHA256, the hash in hexadecimal")]
pub struct BadToken(String);

impl Token {
    /// One from its line, `NAME:ROLE:SHA256`.
    pub fn parse(line: &str) -> Result<Self, BadToken> {
        let bad = || BadToken(line.split(':').next().unwrap_or_default().to_owned());
        let mut parts = line.trim().splitn(3, ':');
        let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or_else(bad);
        let (name, role, hash) = (part()?, part()?, part()?.to_ascii_lowercase());
        let role = match role {
            "admin" => Role::Admin,
            "user" => Role::User,
            _ => return Err(bad()),
        };
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if name.len() > 64 || !is_hash {
            return Err(bad());
        }
        Ok(Self {
            name: name.to_owned(),
            role,
            hash,
        })
    }

    /// Several, one a line or separated by blanks or commas.
    pub fn list(text: &str) -> Result<Vec<Self>, BadToken> {
        text.split(|c: char| c.is_whitespace() || c == ',')
            .filter(|line| !line.is_empty())
            .map(Self::parse)
            .collect()
    }
}

/// What is kept of a token.
pub fn hash_of(token: &str) -> String {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Caller {
    fn of_this_machine() -> Self {
        Self {
            name: "local".to_owned(),
            role: Role::Admin,
        }
    }

    /// Whether a session of this owner may be seen and used.
    pub(crate) fn may_use(&self, owner: &str) -> bool {
        self.role == Role::Admin || self.name == owner
    }

    /// Whose sessions alone the caller sees, if not everybody's.
    pub(crate) fn sees_only(&self) -> Option<String> {
        (self.role != Role::Admin).then(|| self.name.clone())
    }

    /// Refuses who is no administrator.
    pub(crate) fn must_be_admin(&self) -> Result<(), Refusal> {
        match self.role {
            Role::Admin => Ok(()),
            Role::User => Err(Refusal::Plain(
                StatusCode::FORBIDDEN,
                format!(
                    "{} may not do this: it needs a token with the role admin",
                    self.name
                ),
            )),
        }
    }
}

/// Who was let in.
enum Admitted {
    Caller(Caller),
    /// One that reports what became of its session's code.
    Executor(Reporter),
}

impl Admitted {
    /// The name that its calls are counted under.
    fn name(&self) -> String {
        match self {
            Self::Caller(caller) => caller.name.clone(),
            // No token's name has a blank.
            Self::Executor(reporter) => format!("executor of {}", reporter.session),
        }
    }
}

/// What is answered to everybody: whether it is alive, and whether it can do its work.
const PROBES: [&str; 2] = ["/api/v1/health", "/api/v1/health/ready"];

/// Lets in who may call, not too often, and says to the routes who it is.
pub(crate) async fn admit(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Response {
    if PROBES.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let settings = &gateway.settings;
    let address = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let is_callback = request.uri().path().starts_with(CALLBACKS);
    let admitted = match is_callback {
        // Executors are nobody's callers; what they may report their own tokens say.
        true => gateway
            .callbacks
            .reporter(request.headers())
            .map(Admitted::Executor),
        false => identify(
            request.headers(),
            &settings.tokens,
            &settings.origins,
            settings.listen,
        )
        .map(Admitted::Caller),
    };
    if let Some(calls) = &gateway.calls {
        let who = match (&admitted, address) {
            (Ok(admitted), _) => Who::Token(admitted.name()),
            (Err(_), Some(address)) => Who::at(address),
            (Err(_), None) => Who::at(settings.listen.ip()),
        };
        if let Err(early) = calls.count(who, Instant::now()) {
            return too_often(early);
        }
    }
    match admitted {
        Ok(Admitted::Caller(caller)) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(Admitted::Executor(reporter)) => {
            request.extensions_mut().insert(reporter);
            next.run(request).await
        }
        Err(refusal) => {
            let is_stranger = refusal.status() == StatusCode::UNAUTHORIZED;
            let mut response = refusal.into_response();
            if is_stranger {
                let ask = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
            }
            response
        }
    }
}

fn too_often(early: Duration) -> Response {
    // Whole seconds, so that who waits that long has waited for long enough.
    let seconds = early.as_secs() + u64::from(early.subsec_nanos() > 0);
    let refusal = Refusal::Plain(
        StatusCode::TOO_MANY_REQUESTS,
        format!("too many calls: try again in {seconds} s"),
    );
    let mut response = refusal.into_response();
    let wait = HeaderValue::from(seconds);
    response.headers_mut().insert(header::RETRY_AFTER, wait);
    response
}

/// Who calls, by what the request's headers say.
fn identify(
    headers: &HeaderMap,
    tokens: &[Token],
    origins: &[String],
    listen: SocketAddr,
) -> Result<Caller, Refusal> {
    let text = |name: header::HeaderName| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let refused = |message: String| Refusal::Plain(StatusCode::FORBIDDEN, message);
    if let Some(origin) = text(header::ORIGIN)
        && !may_come_from(origin, text(header::HOST), origins)
    {
        return Err(refused(format!(
            "pages of {origin} may not call this gateway: name it in CORS_ORIGINS if they should"
        )));
    }
    if tokens.is_empty() && listen.ip().is_loopback() {
        // A name that some page's server made point here would be an address of ours too.
        let host = text(header::HOST).unwrap_or("localhost");
        return match is_local(host) {
            true => Ok(Caller::of_this_machine()),
            false => Err(refused(format!(
                "{host} is no name of this machine's own address"
            ))),
        };
    }
    let given = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let known = given.map(|token| hash_of(token.trim())).and_then(|hash| {
        // Hashes are compared, so that the time it takes says nothing of the token.
        tokens.iter().find(|token| token.hash == hash)
    });
    known.map_or_else(
        || {
            Err(Refusal::Plain(
                StatusCode::UNAUTHORIZED,
                "a token is needed: send it as \"Authorization: Bearer TOKEN\"".to_owned(),
            ))
        },
        |token| {
            Ok(Caller {
                name: token.name.clone(),
                role: token.role,
            })
        },
    )
}

/// Whether pages of this origin may call: our own, this machine's, and those that were named.
pub(crate) fn may_come_from(origin: &str, host: Option<&str>, named: &[String]) -> bool {
    let place = origin.split_once("://").map_or("", |(_, place)| place);
    (!place.is_empty() && Some(place) == host)
        || is_local(place)
        || named.iter().any(|named| named == origin || named == "*")
}

fn is_local(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next() == Some("::1");
    }
    let name = host.split(':').next().unwrap_or_default();
    let is_loopback = |ip: std::net::Ipv4Addr| ip.is_loopback();
    name == "localhost" || name.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(
        pairs: &[(header::HeaderName, &str)],
        tokens: &str,
        listen: &str,
    ) -> Result<String, u16> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect();
        let tokens = Token::list(tokens).unwrap();
        identify(
            &headers,
            &tokens,
            &["https://console.example".to_owned()],
            listen.parse().unwrap(),
        )
        .map(|caller| caller.name)
        .map_err(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn this_machine_needs_no_token_and_other_pages_get_nowhere() {
        let listen = "127.0.0.1:8000";
        let host = (header::HOST, "localhost:8000");
        assert_eq!(
            ask(std::slice::from_ref(&host), "", listen),
            Ok("local".into())
        );
        let from = |origin| (header::ORIGIN, origin);
        assert_eq!(
            ask(&[host.clone(), from("https://evil.example")], "", listen),
            Err(403)
        );
        assert_eq!(ask(&[host.clone(), from("null")], "", listen), Err(403));
        assert_eq!(
            ask(&[host.clone(), from("https://console.example")], "", listen),
            Ok("local".into())
        );
        assert_eq!(
            ask(&[host, from("http://localhost:3000")], "", listen),
            Ok("local".into())
        );
        assert_eq!(
            ask(&[(header::HOST, "rebound.example:8000")], "", listen),
            Err(403)
        );
    }

    #[test]
    fn elsewhere_everybody_needs_a_token() {
        let tokens = format!("ann:user:{}\nroot:admin:{}", hash_of("a"), hash_of("b"));
        let listen = "0.0.0.0:8000";
        let with = |token: &str| ask(&[(header::AUTHORIZATION, token)], &tokens, listen);
        assert_eq!(with("Bearer a"), Ok("ann".into()));
        assert_eq!(with("Bearer b"), Ok("root".into()));
        assert_eq!(with("Bearer c"), Err(401));
        assert_eq!(ask(&[], &tokens, listen), Err(401));
        assert_eq!(ask(&[], "", listen), Err(401));
        assert_eq!(
            ask(&[], &tokens, "127.0.0.1:1"),
            Err(401),
            "where there are tokens they count"
        );
    }

    #[test]
    fn a_line_that_is_no_token_is_refused_without_repeating_its_secret() {
        let error = Token::list("ann:user:secret").unwrap_err().to_string();
        assert!(
            error.contains("ann") && !error.contains("secret"),
            "{error}"
        );
        assert!(Token::parse(&format!("a:owner:{}", hash_of("x"))).is_err());
    }
}
