//! The one thread that writes.

use std::{sync::Arc, time::Instant};

use parking_lot::MutexGuard;

use crate::{
    error::WriteError,
    intake::Accepted,
    overflow::Overflow,
    storage::{Refusal, Storage},
    store::Shared,
    turns,
    watch::Waiter,
};

/// Commits what is accepted until the store is closed and all of it is settled.
pub(crate) fn run<F: Clone>(
    shared: &Shared<F>,
    mut storage: Box<dyn Storage<F>>,
    mut overflow: Option<Overflow>,
) {
    let _ending = Ending(shared);
    if let Err(error) = turns::soon() {
        tracing::debug!(%error, "the writer waits for its turn like everybody else");
    }
    while let Some(batch) = next_batch(shared, &mut *storage) {
        let begun = Instant::now();
        let outcome = storage.commit(&batch);
        shared.tally.commit(begun.elapsed(), outcome.is_ok());
        match outcome {
            Ok(()) => {
                publish(shared, batch);
                relieve(shared, &mut overflow);
            }
            Err(refusal) => fail(shared, batch, &refusal),
        }
    }
}

/// Waits for writes; `None` once the store is closed and none are left. Those that have time are
/// begun on, so that little is left to do when they have none.
fn next_batch<F>(shared: &Shared<F>, storage: &mut dyn Storage<F>) -> Option<Vec<Accepted<F>>> {
    let mut intake = shared.intake.lock();
    let mut begun = Some(0);
    loop {
        match intake.at_leisure_until() {
            Some(until) if until > Instant::now() => {
                let writes = begun.map_or_else(Vec::new, |begun| intake.queued_after(begun));
                if writes.is_empty() {
                    shared.arrived.wait_until(&mut intake, until);
                    continue;
                }
                let could = MutexGuard::unlocked(&mut intake, || storage.begin(&writes));
                begun = begun.filter(|_| could).map(|begun| begun + writes.len());
            }
            _ if !intake.is_empty() => return Some(intake.take()),
            _ if intake.closed() => return None,
            _ => shared.arrived.wait(&mut intake),
        }
    }
}

/// Shows a committed batch to everybody, and tells those who wrote it and those who watch.
fn publish<F>(shared: &Shared<F>, batch: Vec<Accepted<F>>) {
    let now = Instant::now();
    let mut woken = Vec::new();
    let mut state = shared.state.write();
    for write in &batch {
        state.publish(write.record.clone(), write.deleted, now, &mut woken);
    }
    let revision = state.revision();
    drop(state);

    let mut intake = shared.intake.lock();
    for write in &batch {
        intake.settle(&write.record);
    }
    drop(intake);
    shared
        .settled
        .send_modify(|settled| settled.through = revision);

    // First those who only pass it on, then those who work on it and whom the others need not wait
    // for.
    let (last, first): (Vec<_>, Vec<_>) = batch.into_iter().partition(|write| write.told_last);
    let (far, near): (Vec<_>, Vec<_>) = woken.into_iter().partition(|waiter| waiter.is_first());
    let told = !first.is_empty() || !far.is_empty();
    tell(first, far);
    if told && !(last.is_empty() && near.is_empty()) {
        give_headway(shared);
    }
    tell(last, near);
}

/// Tells that a batch is on disk: before those who watch those who wait for this alone, who would
/// wait for each of a hundred watchers.
fn tell<F>(writes: Vec<Accepted<F>>, waiters: Vec<Arc<Waiter>>) {
    for write in writes {
        drop(write.room);
        // Who no longer waits does not want to know.
        let _ = write.answer.send(Ok(write.record));
    }
    for waiter in waiters {
        waiter.wake();
    }
}

/// Waits a moment, unless there is something to write.
fn give_headway<F>(shared: &Shared<F>) {
    let mut intake = shared.intake.lock();
    if intake.is_empty() && !intake.closed() {
        shared.arrived.wait_for(&mut intake, shared.headway);
    }
}

/// Keeps the past from filling memory.
fn relieve<F: Clone>(shared: &Shared<F>, overflow: &mut Option<Overflow>) {
    let Some(Err(error)) = overflow.as_mut().map(|overflow| overflow.relieve(shared)) else {
        return;
    };
    tracing::warn!(%error, "past versions cannot be kept on disk: clients that fall far behind will have to list again");
    *overflow = None;
    shared.state.write().give_up_overflow(Instant::now());
}

/// Takes back a batch that could not be committed, and everything accepted after it.
fn fail<F>(shared: &Shared<F>, batch: Vec<Accepted<F>>, refusal: &Refusal) {
    let mut intake = shared.intake.lock();
    let (later, revision) = intake.abandon();
    let woken = intake.turn_back();
    drop(intake);
    tracing::error!(writes = batch.len() + later.len(), %refusal, "writes could not be stored");
    shared.settled.send_modify(|settled| {
        settled.through = revision;
        settled.failures += 1;
    });
    for waiter in woken {
        waiter.wake();
    }
    for write in batch.into_iter().chain(later) {
        drop(write.room);
        let _ = write.answer.send(Err(WriteError::Storage(refusal.clone())));
    }
}

/// However the thread ends, nobody is left waiting for it.
struct Ending<'a, F>(&'a Shared<F>);

impl<F> Drop for Ending<'_, F> {
    fn drop(&mut self) {
        let mut intake = self.0.intake.lock();
        intake.close();
        // Dropping them tells their writers that the store is closed.
        let (unwritten, _) = intake.abandon();
        let lost = !unwritten.is_empty();
        let mut woken = match lost {
            true => intake.turn_back(),
            false => Vec::new(),
        };
        drop(intake);
        drop(unwritten);
        self.0.room.close();

        self.0.state.write().end(&mut woken);
        // After that: whoever comes later finds the end by itself.
        woken.extend(self.0.intake.lock().leave());
        for waiter in woken {
            waiter.wake();
        }
        self.0.settled.send_modify(|settled| {
            settled.through = u64::MAX;
            settled.failures += u64::from(lost);
        });
    }
}

#[cfg(test)]
mod tests;
