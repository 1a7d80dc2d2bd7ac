//! Watching a range: every event once, in order, from a revision on.
//!
//! A watcher has no queue of its own. It knows the revision of its next event and reads the
//! event from the history that all share, so a slow one costs nothing and delays nobody;
//! when history moves past it, it is told so and ends.
//!
//! A watcher that runs ahead sees what is accepted and not on disk yet; when that comes to
//! nothing, it is told like one whom history has passed, and what it did upon it is undone with it.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures::{Stream, task::AtomicWaker};

use crate::{
    error::Lagged,
    record::{Event, Key, Scope},
    state::{Found, Registered},
    store::Shared,
};

/// In place of a revision: what was announced came to nothing.
pub(crate) const ABANDONED: u64 = u64::MAX;

/// What the writer knows of a watcher.
pub(crate) struct Waiter {
    namespace: Option<Arc<str>>,
    /// The revision of the next event to deliver; 0 when all have been.
    ///
    /// The writer changes it from 0 under the state's write lock, the watcher changes it
    /// under the read lock, so they never do so at the same time. Ahead of the disk both hold
    /// the lock of what is accepted.
    pub(crate) next: AtomicU64,
    waker: AtomicWaker,
    /// Woken before those who are not.
    first: AtomicBool,
}

impl Waiter {
    pub(crate) fn new(scope: &Scope, next: u64) -> Self {
        let namespace = match scope {
            Scope::Range(range) => range.namespace.clone(),
            Scope::Everything => None,
        };
        Waiter {
            namespace,
            next: AtomicU64::new(next),
            waker: AtomicWaker::new(),
            first: AtomicBool::new(false),
        }
    }

    /// Whether a record of a watched kind lies in the watched range.
    pub(crate) fn concerns(&self, key: &Key) -> bool {
        self.namespace
            .as_ref()
            .is_none_or(|namespace| *namespace == key.namespace)
    }

    /// Notes an event, and says whether the watcher had nothing to deliver and must be woken.
    pub(crate) fn announce(&self, revision: u64) -> bool {
        self.next
            .compare_exchange(0, revision, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// Whether the watcher is woken before others.
    pub(crate) fn is_first(&self) -> bool {
        self.first.load(Ordering::Relaxed)
    }
}

/// A stream of the changes in a range, or of all changes, from one revision on.
///
/// It ends when the store is closed, or after it has said that it [`Lagged`].
pub struct Watch<F> {
    shared: Arc<Shared<F>>,
    registered: Registered,
    /// It sees what is accepted, and not only what is on disk.
    ahead: bool,
    ended: bool,
}

impl<F> Watch<F> {
    pub(crate) fn new(shared: Arc<Shared<F>>, registered: Registered) -> Self {
        Watch {
            shared,
            registered,
            ahead: false,
            ended: false,
        }
    }

    /// The same ahead of the disk.
    pub(crate) fn ahead(shared: Arc<Shared<F>>, registered: Registered) -> Self {
        let mut watch = Watch::new(shared, registered);
        watch.ahead = true;
        watch
    }

    /// Has this watcher woken before those who did not ask for it. That is for who only passes on
    /// what happens: behind one that works on it, it would wait for that work.
    pub fn told_first(self) -> Self {
        self.registered.waiter.first.store(true, Ordering::Relaxed);
        self
    }

    /// The next change; `None` once the watch has ended. Nothing is lost if this is cancelled.
    pub async fn next(&mut self) -> Option<Result<Event<F>, Lagged>> {
        poll_fn(|context| self.poll_change(context)).await
    }

    /// Every event up to this revision has been delivered, so a client that saw them all may
    /// resume from here.
    pub fn progress(&self) -> u64 {
        let intake = self.ahead.then(|| self.shared.intake.lock());
        let state = self.shared.state.read();
        match self.registered.waiter.next.load(Ordering::Acquire) {
            0 => intake.map_or_else(|| state.revision(), |intake| intake.revision()),
            next => next - 1,
        }
    }

    fn poll_change(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Event<F>, Lagged>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // Registered before looking, so that an event in between is not slept through.
        self.registered.waiter.waker.register(context.waker());
        let intake = self.ahead.then(|| self.shared.intake.lock());
        let state = self.shared.state.read();
        match self.registered.waiter.next.load(Ordering::Acquire) {
            0 if state.ended() => {
                self.ended = true;
                Poll::Ready(None)
            }
            0 => Poll::Pending,
            announced => Poll::Ready(Some(
                match state.deliver(&self.registered.scope, announced, intake.as_deref()) {
                    Found::Event(event, next) => {
                        self.registered.waiter.next.store(next, Ordering::Release);
                        Ok(event)
                    }
                    Found::Lagged => {
                        self.ended = true;
                        Err(Lagged)
                    }
                },
            )),
        }
    }
}

impl<F> Stream for Watch<F> {
    type Item = Result<Event<F>, Lagged>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_change(context)
    }
}

impl<F> Drop for Watch<F> {
    fn drop(&mut self) {
        match self.ahead {
            true => self.shared.intake.lock().unwatch(self.registered.id),
            false => self.shared.state.write().unwatch(&self.registered),
        }
    }
}
