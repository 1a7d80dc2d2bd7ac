//! Who goes to the executors.

use std::{sync::Arc, time::Duration};

use sandlot_access::PrivateKey;
use sandlot_api::opensandbox::ExecutorTask;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Door, Standing,
    http::{Question, ask},
};
use crate::index::{Key, Uid};

/// How many executors are called at once.
const CALLS: usize = 32;
/// The first wait between two looks at a task; it grows to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// So many calls in a row must fail before a task counts as unknown.
const LOST: u32 = 3;
/// So many calls in a row must fail before a task that is to be stopped is given up with its
/// pod: some eight seconds, for an executor that is just restarting.
const GIVEN_UP: u32 = 12;
/// How much news may wait to be read.
const BACKLOG: usize = 1024;

/// What a courier is sent for.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Have this task run, and tell how it goes until it has ended.
    Run(Box<ExecutorTask>),
    /// Have everything stopped, and tell when nothing is left.
    Stop,
}

/// A courier's way.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) batch: Key,
    pub(crate) uid: Uid,
    pub(crate) index: usize,
    pub(crate) pod: Uid,
    pub(crate) door: Door,
    pub(crate) errand: Errand,
    pub(crate) cancel: CancellationToken,
}

/// What a courier has to tell.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) batch: Key,
    pub(crate) uid: Uid,
    pub(crate) index: usize,
    pub(crate) pod: Uid,
    pub(crate) what: Told,
}

/// What is told of a task.
#[derive(Debug)]
pub(crate) enum Told {
    /// It stands so now; with the reason, where nothing can be known.
    Stands(Standing, Option<String>),
    /// Nothing is left of it.
    Stopped,
    /// Nobody can say whether anything is left of it.
    Unreachable(String),
}

/// Sends couriers.
pub(crate) struct Courier {
    key: Option<Arc<PrivateKey>>,
    calls: Arc<Semaphore>,
    news: mpsc::Sender<News>,
    inbox: Option<mpsc::Receiver<News>>,
}

impl Courier {
    pub(crate) fn new(key: Option<PrivateKey>) -> Self {
        let (news, inbox) = mpsc::channel(BACKLOG);
        Self {
            key: key.map(Arc::new),
            calls: Arc::new(Semaphore::new(CALLS)),
            news,
            inbox: Some(inbox),
        }
    }

    /// Where the news arrive; there is one reader.
    pub(crate) fn inbox(&mut self) -> Option<mpsc::Receiver<News>> {
        self.inbox.take()
    }

    /// A courier's whole way.
    pub(crate) fn send(&self, order: Order) -> impl Future<Output = ()> + Send + use<> {
        let (key, calls, news) = (self.key.clone(), self.calls.clone(), self.news.clone());
        async move {
            let cancel = order.cancel.clone();
            let going = go(order, key, calls, news);
            tokio::select! {
                () = going => {}
                () = cancel.cancelled() => {}
            }
        }
    }
}

async fn go(
    order: Order,
    key: Option<Arc<PrivateKey>>,
    calls: Arc<Semaphore>,
    news: mpsc::Sender<News>,
) {
    let wanted: &[ExecutorTask] = match &order.errand {
        Errand::Run(task) => std::slice::from_ref(&**task),
        Errand::Stop => &[],
    };
    let (mut set, mut failures, mut wait, mut told) = (false, 0_u32, FIRST_WAIT, None);
    loop {
        // Set once it is known to have been heard, asked from then on.
        let question = match set {
            false => Question::Set(wanted),
            true => Question::Get,
        };
        let answer = {
            // The gate is never closed, so there is always a place sooner or later.
            let _place = calls.acquire().await;
            ask(&order.door, key.as_deref(), question).await
        };
        let (what, over) = match (&answer, wanted.first()) {
            (Ok(tasks), None) => match tasks.is_empty() {
                true => (Some(Told::Stopped), true),
                false => (None, false),
            },
            (Ok(tasks), Some(wanted)) => {
                let found = tasks
                    .iter()
                    .filter(|task| task.name == wanted.name && task.deletion_timestamp.is_none());
                match found.map(Standing::of).next() {
                    Some(standing) => (Some(Told::Stands(standing, None)), standing.is_over()),
                    // It has forgotten the task: tell it again.
                    None => {
                        set = false;
                        (None, false)
                    }
                }
            }
            (Err(why), Some(_)) if failures + 1 >= LOST => (
                Some(Told::Stands(Standing::Unknown, Some(why.clone()))),
                false,
            ),
            (Err(why), None) if failures >= GIVEN_UP => {
                (Some(Told::Unreachable(why.clone())), true)
            }
            (Err(_), _) => (None, false),
        };
        match &answer {
            Ok(tasks) => {
                failures = 0;
                set = wanted.is_empty() || tasks.iter().any(|task| task.name == wanted[0].name);
            }
            Err(why) => {
                failures = failures.saturating_add(1);
                tracing::debug!(batch = %order.batch, index = order.index, why, "an executor did not answer well");
            }
        }
        if let Some(what) = what {
            let state = match &what {
                Told::Stands(standing, why) => Some((*standing, why.clone())),
                Told::Stopped | Told::Unreachable(_) => None,
            };
            if state.is_none() || state != told {
                told = state;
                let (batch, uid, pod) = (order.batch.clone(), order.uid.clone(), order.pod.clone());
                let index = order.index;
                let sent = news
                    .send(News {
                        batch,
                        uid,
                        index,
                        pod,
                        what,
                    })
                    .await;
                if sent.is_err() {
                    return;
                }
            }
        }
        if over {
            return;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 3 / 2).min(LONGEST_WAIT);
    }
}
