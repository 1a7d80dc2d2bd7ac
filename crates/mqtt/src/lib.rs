//! MQTT as robots, the bridge and the embedded broker speak it, over another crate's packets and
//! its memory of what was acknowledged.
//!
//! What is written here is what keeps a stranger's message small: nobody can refuse a message in
//! this version of the protocol, so one that is too long is cut where it comes in ([`Cut`]), and a
//! connection reads through that ([`Connection`]).

mod connection;
mod cut;

pub use connection::{Broken, Connection, Full, Heard, Mouth, Options, open};
pub use cut::Cut;
