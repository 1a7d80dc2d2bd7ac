//! How much a client may take of the server.

use std::time::Duration;

/// Bounds on connections and requests.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at one time; more wait to be accepted.
    pub connections: usize,
    /// How long the TLS handshake may take.
    pub handshake: Duration,
    /// How long a connection may be open with nothing to do.
    pub idle: Duration,
    /// How long the head of a request may take.
    pub head: Duration,
    /// How big the head of a request may be.
    pub head_bytes: usize,
    /// Requests at one time on an HTTP/2 connection.
    pub requests_per_connection: u32,
    /// How long a request may take, unless it is a watch or a stream.
    pub request: Duration,
    /// How long a client may read nothing of its answer.
    pub stall: Duration,
    /// How long requests may still take once the server is told to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 1024,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(90),
            head: Duration::from_secs(30),
            head_bytes: 64 * 1024,
            requests_per_connection: 250,
            request: Duration::from_secs(60),
            stall: Duration::from_secs(300),
            drain: Duration::from_secs(5),
        }
    }
}
