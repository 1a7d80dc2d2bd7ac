//! Requests and the answers that a Kubernetes API server gives to them.
//!
//! The cases are data, in `tests/cases/`, one file per subject; each runs on a cluster of
//! its own. A case reads: given these requests, when this one is made, then that is the
//! answer. `{a.b}` stands for a field of the answer to the request before.

mod requests {
    pub(crate) mod case;
    pub(crate) mod run;
}

use requests::run::all_in;

macro_rules! subjects {
    ($($subject:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $subject() {
            all_in(include_str!(concat!("cases/", stringify!($subject), ".yaml"))).await;
        })*
    };
}

subjects! {
    apply,
    bad_input,
    crud,
    custom_kinds,
    discovery,
    dry_run,
    field_validation,
    lists,
    metadata,
    namespaces,
    patches,
    selectors,
    services,
    subresources,
    tables,
    watches,
}
