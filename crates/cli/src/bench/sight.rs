//! Somebody else's eyes: a watch of its own over HTTPS that notes when each object was first
//! seen in the state that is waited for.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Config, ResourceExt,
    api::{WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use tokio::{sync::Notify, task::JoinHandle};

use super::wire::Wire;

/// Where objects of a kind are made and watched.
pub(super) fn place_of<K: kube::Resource<DynamicType = ()>>() -> String {
    K::url_path(&(), Some("default"))
}

/// When each object was first seen as wanted.
pub(super) struct Sight {
    seen: Arc<Seen>,
    watching: JoinHandle<Result<()>>,
}

#[derive(Default)]
struct Seen {
    times: Mutex<HashMap<String, Instant>>,
    more: Notify,
}

impl Seen {
    fn note(&self, name: String, at: Instant) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.entry(name).or_insert(at);
        drop(times);
        self.more.notify_waiters();
    }
}

impl Sight {
    /// Starts to look at all objects of one API.
    pub(super) async fn open<K>(
        api: Api<K>,
        wanted: impl Fn(&K) -> bool + Send + 'static,
    ) -> Result<Sight>
    where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        K::DynamicType: Default,
    {
        let seen = Arc::new(Seen::default());
        let noted = Arc::clone(&seen);
        let mut events = api.watch(&WatchParams::default(), "0").await?.boxed();
        let watching = tokio::spawn(async move {
            while let Some(event) = events.try_next().await? {
                let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else {
                    continue;
                };
                if wanted(&object) {
                    noted.note(object.name_any(), Instant::now());
                }
            }
            bail!("the watch ended")
        });
        Ok(Sight { seen, watching })
    }

    /// The same over a bare connection, on which no client library takes its time: an object is
    /// seen when the line that tells of it is there, however long it then takes to be read.
    pub(super) async fn bare<K>(
        config: &Config,
        wanted: impl Fn(&K) -> bool + Send + 'static,
    ) -> Result<Sight>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned + Send + 'static,
    {
        let seen = Arc::new(Seen::default());
        let noted = Arc::clone(&seen);
        let path = format!("{}?watch=1", place_of::<K>());
        let mut wire = Wire::open(config).await?.watch(&path).await?;
        let watching = tokio::spawn(async move {
            loop {
                let line = wire.line().await?;
                let now = Instant::now();
                // Between events stands how long they are.
                if !line.starts_with('{') {
                    continue;
                }
                let (WatchEvent::Added(object) | WatchEvent::Modified(object)) =
                    serde_json::from_str::<WatchEvent<K>>(line)?
                else {
                    continue;
                };
                if wanted(&object) {
                    noted.note(object.name_any(), now);
                }
            }
        });
        Ok(Sight { seen, watching })
    }

    /// When this object was first seen as wanted.
    pub(super) async fn of(&self, name: &str, patience: Duration) -> Result<Instant> {
        let looking = async {
            loop {
                let more = self.seen.more.notified();
                let found = self
                    .seen
                    .times
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get(name)
                    .copied();
                match found {
                    Some(time) => return time,
                    None => more.await,
                }
            }
        };
        match tokio::time::timeout(patience, looking).await {
            Ok(time) => Ok(time),
            Err(_) => bail!(
                "{name} was not seen as wanted within {} s",
                patience.as_secs()
            ),
        }
    }
}

impl Drop for Sight {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
