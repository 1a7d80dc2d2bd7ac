//! A watch on objects of one kind, told as what is there and what is gone.

use std::{collections::BTreeSet, fmt::Debug};

use futures::TryStreamExt;
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

/// What a watch tells.
pub(crate) enum News<K> {
    /// This is there, and is like this now.
    There(K),
    /// The one of this name is gone.
    Gone(String),
    /// What is not among these names is gone: it went while nobody watched.
    Only(BTreeSet<String>),
}

/// Tells of all objects that have this label, until cancelled.
pub(crate) async fn follow<K>(
    api: Api<K>,
    label: (&str, &str),
    cancel: &CancellationToken,
    mut tell: impl FnMut(News<K>),
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().labels(&format!("{}={}", label.0, label.1));
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let mut listed = BTreeSet::new();
    loop {
        let event = tokio::select! {
            event = events.try_next() => event,
            () = cancel.cancelled() => return,
        };
        match event {
            Ok(Some(Event::Init)) => listed.clear(),
            Ok(Some(Event::InitApply(object))) => {
                listed.extend(object.meta().name.clone());
                tell(News::There(object));
            }
            Ok(Some(Event::InitDone)) => tell(News::Only(std::mem::take(&mut listed))),
            Ok(Some(Event::Apply(object))) => tell(News::There(object)),
            Ok(Some(Event::Delete(object))) => {
                tell(News::Gone(object.meta().name.clone().unwrap_or_default()));
            }
            // The watcher begins again by itself, and waits in between.
            Err(error) => tracing::warn!(%error, "a watch broke"),
            Ok(None) => return,
        }
    }
}
