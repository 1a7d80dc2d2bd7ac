//! The end of a CustomResourceDefinition: its objects go first, then the definition.

use std::sync::Arc;

use sandlot_store::{Expect, Key, Range};
use tokio_util::task::TaskTracker;

use super::Kind;
use super::definitions::{self, CLEANUP, STORED_AS};
use crate::api::{Api, Manner, WriteFailure, parse};
use crate::object;
use crate::record::Record;
use crate::request::DeleteSettings;
use crate::verbs::{Fate, fate_of};

/// Watches for definitions that are to go and sees each to its end, until the server stops.
pub(crate) async fn run(api: Arc<Api>, tasks: TaskTracker) {
    loop {
        let (listing, mut watch) = api.store.list_and_watch(Range::all(STORED_AS));
        for record in listing.records {
            begin(&api, &tasks, &record);
        }
        loop {
            let event = tokio::select! {
                () = api.stop.cancelled() => return,
                event = watch.next() => event,
            };
            match event {
                None => return,
                // Fell behind: look at all of them again.
                Some(Err(_)) => break,
                Some(Ok(event)) if event.deleted => {}
                Some(Ok(event)) => {
                    let newly = event
                        .previous
                        .as_ref()
                        .is_none_or(|previous| !previous.facts.deleting);
                    if newly {
                        begin(&api, &tasks, &event.record);
                    }
                }
            }
        }
    }
}

fn begin(api: &Arc<Api>, tasks: &TaskTracker, record: &Record) {
    if !record.facts.deleting {
        return;
    }
    let (api, key) = (Arc::clone(api), record.key.clone());
    tasks.spawn(async move {
        let stop = api.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = remove(&api, key) => {}
        }
    });
}

async fn remove(api: &Api, key: Key) {
    let Some(definition) = api.read(&key) else {
        return;
    };
    if let Some(kind) = api.registry.kinds_of(&definition).first() {
        // From here on nobody can add to what is to be deleted.
        definitions::settle(api).await;
        empty(api, kind).await;
    }
    while let Some(record) = api.store.latest(&key) {
        let Ok(mut definition) = parse(&record) else {
            return;
        };
        let left: Vec<String> = object::finalizers(&definition)
            .into_iter()
            .filter(|one| *one != CLEANUP)
            .map(str::to_owned)
            .collect();
        object::set_finalizers(&mut definition, &left);
        let done = match left.is_empty() {
            true => api
                .remove(key.clone(), record.revision, definition)
                .await
                .map(|_| ()),
            false => api
                .put(
                    key.clone(),
                    Expect::Revision(record.revision),
                    definition,
                    Manner::Near,
                )
                .await
                .map(|_| ()),
        };
        match done {
            Err(WriteFailure::Raced) => {}
            Ok(()) => break,
            Err(WriteFailure::Failed(error)) => {
                tracing::warn!(definition = %key.name, %error, "a definition could not be removed");
                return;
            }
        }
    }
    definitions::settle(api).await;
}

/// Deletes all objects of a kind and waits until they are gone.
async fn empty(api: &Api, kind: &Kind) {
    let (listing, mut watch) = api.store.list_and_watch(api.range(kind, ""));
    let mut left = listing.records.len();
    for record in listing.records {
        delete(api, kind, record).await;
    }
    while left > 0 {
        match watch.next().await {
            Some(Ok(event)) if event.deleted => left -= 1,
            Some(Ok(event)) if event.previous.is_none() => {
                left += 1;
                delete(api, kind, event.record).await;
            }
            Some(Ok(_)) => {}
            Some(Err(_)) => {
                let (listing, fresh) = api.store.list_and_watch(api.range(kind, ""));
                (left, watch) = (listing.records.len(), fresh);
            }
            None => return,
        }
    }
}

async fn delete(api: &Api, kind: &Kind, record: Arc<Record>) {
    let mut record = Some(record);
    while let Some(current) = record.take() {
        let Ok(object) = parse(&current) else { return };
        let key = current.key.clone();
        let done = match fate_of(kind, &object, &DeleteSettings::default(), api.now()) {
            Fate::Unchanged => return,
            Fate::Gone(last) => api.remove(key.clone(), current.revision, last).await,
            Fate::Marked(new) => {
                api.put(
                    key.clone(),
                    Expect::Revision(current.revision),
                    new,
                    Manner::Near,
                )
                .await
            }
        };
        match done {
            Err(WriteFailure::Raced) => record = api.store.latest(&key),
            Err(WriteFailure::Failed(error)) => {
                tracing::warn!(object = %key, %error, "could not be deleted")
            }
            Ok(_) => {}
        }
    }
}
