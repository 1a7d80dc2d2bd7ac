//! One after the other: for each session, who sees whether a file can be where nothing but names
//! says so, until it is there. Others' sessions do not wait for it, however slow the store is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

type Turn = tokio::sync::Mutex<()>;

/// Whose turn it is, in each session where somebody has one or waits for it.
#[derive(Clone, Default)]
pub(super) struct Settling(Arc<Mutex<HashMap<String, Weak<Turn>>>>);

impl Settling {
    /// Waits for a turn in this session, which lasts as long as what is returned.
    pub(super) async fn turn(&self, session: &str) -> OwnedMutexGuard<()> {
        let turn = self.of(session);
        turn.lock_owned().await
    }

    fn of(&self, session: &str) -> Arc<Turn> {
        // Whole after every statement that could panic.
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(session).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::<Turn>::default();
        turns.insert(session.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_waits_in_one_session_keeps_no_other_waiting() {
        let settling = Settling::default();
        let first = settling.turn("a").await;
        assert!(settling.turn("a").now_or_never().is_none());
        let other = settling.turn("b").now_or_never();
        assert!(other.is_some());
        drop(first);
        assert!(settling.turn("a").now_or_never().is_some());
        drop(other);
        settling.turn("c").await;
        assert_eq!(settling.0.lock().unwrap().len(), 1, "none is kept");
    }
}
