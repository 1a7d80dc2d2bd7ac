//! Letting one at a time be at work on a thing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// One at a time for each thing.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits until it is one's turn, which lasts as long as what is returned.
    pub(super) async fn take(&self, what: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(what).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let fresh = Arc::new(tokio::sync::Mutex::new(()));
                turns.insert(what.to_owned(), Arc::downgrade(&fresh));
                fresh
            })
        };
        turn.lock_owned().await
    }
}
