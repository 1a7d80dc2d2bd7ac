//! What can be done with objects: one file per verb, and the way that all writes go.

mod create;
mod delete;
mod deletion;
mod get;
mod list;
mod margin;
mod patch;
mod update;
mod watch;
mod write;

pub(crate) use create::create;
pub(crate) use delete::{delete, delete_as, delete_collection};
pub(crate) use deletion::{FOREGROUND, Fate, ORPHAN, fate_of, is_due};
pub(crate) use get::{get, read};
pub(crate) use list::list;
pub(crate) use patch::{patch, patched};
pub(crate) use update::update;
pub(crate) use watch::watch;
pub(crate) use write::{Part, admission_request, change};
