//! What goes on beside the loop: writes through their gates, and errands.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use kube::Client;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
};

/// How many writes are under way at once, each over a connection of its own; making and removing
/// pods leaves room for the rest.
const WRITES: usize = 64;
const POD_WRITES: usize = 32;
/// How long what is under way may take to finish when the operator leaves.
const LEAVING: Duration = Duration::from_secs(5);

/// How many may be under way at once.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn new(width: usize) -> Self {
        Self(Arc::new(Semaphore::new(width)))
    }
}

/// Work that has not begun. A write under way weighs several kilobytes, one that waits is little
/// more than its words; after a start thousands may wait.
type Waiting<A> = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = A> + Send>> + Send>;

/// Those who wait before a gate, in the order in which they came.
struct Line<A> {
    gate: Gate,
    waiting: VecDeque<Waiting<A>>,
}

/// What goes on beside the loop.
pub(crate) struct Beside<A> {
    client: Client,
    answers: JoinSet<A>,
    lines: Vec<Line<A>>,
    errands: JoinSet<()>,
    /// For writes.
    pub(crate) writes: Gate,
    /// For making and removing pods.
    pub(crate) pods: Gate,
}

impl<A: Send + 'static> Beside<A> {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            answers: JoinSet::new(),
            lines: Vec::new(),
            errands: JoinSet::new(),
            writes: Gate::new(WRITES),
            pods: Gate::new(POD_WRITES),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// How much has been asked for whose answer has not been taken in.
    pub(crate) fn under_way(&self) -> usize {
        let waiting = self.lines.iter().map(|line| line.waiting.len());
        self.answers.len() + waiting.sum::<usize>()
    }

    /// Has something done whose answer a later round takes in.
    pub(crate) fn ask(&mut self, work: impl Future<Output = A> + Send + 'static) {
        self.answers.spawn(work);
    }

    /// The same, as soon as there is a place.
    pub(crate) fn ask_through<F>(&mut self, gate: &Gate, begin: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = A> + Send + 'static,
    {
        let begin: Waiting<A> = Box::new(move || Box::pin(begin()));
        match self
            .lines
            .iter_mut()
            .find(|line| Arc::ptr_eq(&line.gate.0, &gate.0))
        {
            Some(line) => line.waiting.push_back(begin),
            None => self.lines.push(Line {
                gate: gate.clone(),
                waiting: VecDeque::from([begin]),
            }),
        }
        self.let_in();
    }

    /// Begins what waits, as far as there are places.
    fn let_in(&mut self) {
        for line in &mut self.lines {
            while !line.waiting.is_empty()
                && let Ok(place) = line.gate.0.clone().try_acquire_owned()
                && let Some(begin) = line.waiting.pop_front()
            {
                self.answers.spawn(async move {
                    let _place = place;
                    begin().await
                });
            }
        }
    }

    /// Has something done that brings no answer, and need not be finished when the operator leaves.
    pub(crate) fn errand(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.errands.spawn(work);
    }

    /// The next answer.
    pub(super) async fn answer(&mut self) -> Result<A, JoinError> {
        loop {
            tokio::select! {
                Some(answer) = self.answers.join_next() => {
                    self.let_in();
                    return answer;
                }
                Some(_) = self.errands.join_next() => {}
                else => std::future::pending().await,
            }
        }
    }

    /// An answer that is there already.
    pub(super) fn try_answer(&mut self) -> Option<Result<A, JoinError>> {
        while self.errands.try_join_next().is_some() {}
        let answer = self.answers.try_join_next()?;
        self.let_in();
        Some(answer)
    }

    /// Lets writes finish.
    pub(super) async fn leave(mut self) {
        self.errands.shutdown().await;
        let finish = async {
            while self.answers.join_next().await.is_some() {
                self.let_in();
            }
        };
        if tokio::time::timeout(LEAVING, finish).await.is_err() {
            tracing::warn!("some writes did not finish in time and are abandoned");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn beside() -> Beside<usize> {
        let url = "http://127.0.0.1:1".parse().unwrap();
        Beside::new(Client::try_from(kube::Config::new(url)).unwrap())
    }

    #[tokio::test]
    async fn no_more_is_under_way_than_the_gate_is_wide_and_all_is_done_in_order() {
        let (mut beside, gate) = (beside(), Gate::new(2));
        let now = Arc::new(AtomicUsize::new(0));
        for n in 0..50 {
            let now = now.clone();
            beside.ask_through(&gate, move || async move {
                assert!(now.fetch_add(1, Ordering::SeqCst) < 2);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
                n
            });
        }
        assert_eq!(beside.under_way(), 50);
        assert_eq!(beside.answers.len(), 2, "the others have not begun");
        for n in 0..50 {
            let answer = beside.answer().await.unwrap();
            assert!(answer.abs_diff(n) < 2, "{answer} came as number {n}");
        }
        assert_eq!(beside.under_way(), 0);
    }

    #[tokio::test]
    async fn one_that_panics_leaves_its_place_to_the_next() {
        let (mut beside, gate) = (beside(), Gate::new(1));
        beside.ask_through(&gate, || async { panic!("on purpose") });
        beside.ask_through(&gate, || async { 7 });
        assert!(beside.answer().await.is_err());
        assert_eq!(beside.answer().await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_waits_when_the_operator_leaves_is_still_done() {
        let (mut beside, gate) = (beside(), Gate::new(1));
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..5 {
            let done = done.clone();
            beside.ask_through(&gate, move || async move {
                tokio::task::yield_now().await;
                done.fetch_add(1, Ordering::SeqCst)
            });
        }
        beside.leave().await;
        assert_eq!(done.load(Ordering::SeqCst), 5);
    }
}
