//! The store as access and admission read it.

use std::sync::Arc;

use futures::FutureExt;
use sandlot_store::{Key, Range, Store, Watch};
use serde_json::Value;

use crate::lookup::{Change, Changes, Follow, Lookup};
use crate::record::{Facts, Record};

/// Reads objects from the store.
#[derive(Clone)]
pub(crate) struct Stored(pub(crate) Store<Facts>);

impl Lookup for Stored {
    fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let record = self.0.get(&Key::new(kind, namespace, name))?;
        serde_json::from_slice(&record.value).ok()
    }

    fn follow(&self, kind: &str) -> Box<dyn Follow> {
        Box::new(Following {
            store: self.0.clone(),
            range: Range::all(kind),
            watch: None,
        })
    }
}

struct Following {
    store: Store<Facts>,
    range: Range,
    watch: Option<Watch<Facts>>,
}

impl Follow for Following {
    fn changes(&mut self) -> Changes {
        let Some(watch) = &mut self.watch else {
            return self.everything();
        };
        let mut changes = Vec::new();
        loop {
            match watch.next().now_or_never() {
                // Nothing more has happened.
                None => return Changes::Since(changes),
                Some(Some(Ok(event))) => changes.push(change(&event.record, event.deleted)),
                Some(Some(Err(_)) | None) => return self.everything(),
            }
        }
    }
}

impl Following {
    fn everything(&mut self) -> Changes {
        let (listing, watch) = self.store.list_and_watch(self.range.clone());
        self.watch = Some(watch);
        Changes::All(
            listing
                .records
                .iter()
                .map(|record| change(record, false))
                .collect(),
        )
    }
}

fn change(record: &Record, deleted: bool) -> Change {
    Change {
        namespace: Arc::clone(&record.key.namespace),
        name: Arc::clone(&record.key.name),
        object: (!deleted).then(|| record.value.clone()),
    }
}
