//! SPDY/3.1, the server's side: many streams over one connection.
//!
//! `kubectl port-forward` speaks nothing else (inside a WebSocket since 1.30), and older
//! clients use it for exec and attach as well. The client opens all streams. Like every
//! implementation that Kubernetes uses, this one has no windows: a stream that is not read
//! holds up the others of its connection, and memory stays bounded.

mod connection;
mod frame;
mod headers;

pub(crate) use connection::{Connection, Stream, accept};
