//! What a cluster does by itself: garbage is collected, namespaces come with accounts and
//! end with their contents, old events go, services know their pods.
//!
//! Each chore follows the store, keeps the little it needs to know, and plans what to do
//! about one thing at a time; the plan is a value, so that the thinking can be tested
//! without doing. [`chore`] does what is planned, through the API like anybody else.

mod accounts;
mod agenda;
mod chore;
mod endpoints;
mod events;
mod garbage;
mod hand;
mod namespaces;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::api::Api;
use chore::run;
use hand::Hand;

/// Begins all chores; they end when the server stops.
pub(crate) fn start(api: &Arc<Api>, tasks: &TaskTracker) {
    let hand = |name: &str| Hand::new(Arc::clone(api), name);
    tasks.spawn(run(
        garbage::Garbage::new(Arc::clone(api)),
        hand("generic-garbage-collector"),
    ));
    tasks.spawn(run(
        namespaces::Namespaces::new(Arc::clone(api)),
        hand("namespace-controller"),
    ));
    tasks.spawn(run(
        accounts::Accounts::new(Arc::clone(api)),
        hand("service-account-controller"),
    ));
    tasks.spawn(run(
        events::Events::new(Arc::clone(api)),
        hand("event-expiry-controller"),
    ));
    tasks.spawn(run(
        endpoints::Endpoints::new(Arc::clone(api)),
        hand("endpoint-controller"),
    ));
}
