//! Where a sandbox stands and when its time is over.

use std::time::Duration;

use jiff::Timestamp;
use sandlot_api::arl::SandboxPhase;

use crate::expiry::later;

/// A visit that lasts is told of every few seconds: one not heard of for so long is over.
const VISIT_LASTS: Duration = Duration::from_secs(30);

/// What is known of a sandbox.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When it was made.
    pub made: Timestamp,
    /// How long it may stay, and when.
    pub limits: Limits,
    /// The phase it has had so far.
    pub phase: Option<SandboxPhase>,
    /// Its pod, or why it has none.
    pub pod: PodView,
    /// When it was given its pod.
    pub allocated: Option<Timestamp>,
    /// Its tasks.
    pub tasks: Tasks,
    /// When somebody was last in it without a task.
    pub visit: Option<Visit>,
}

/// Somebody works in a sandbox without a task, through `kubectl exec` say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// When that was last seen.
    pub last: Timestamp,
    /// Whether they were still there then.
    pub lasts: bool,
}

/// How long a sandbox may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// It stays when its tasks are done.
    pub keep_alive: bool,
    /// How long it may be without a task and without a visit.
    pub idle: Option<Duration>,
    /// How long it stays after its tasks are done, when it is not kept alive.
    pub grace: Duration,
    /// How long it may live at all.
    pub lifetime: Option<Duration>,
}

/// A sandbox's pod as the sandbox sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodView {
    /// It has none yet.
    Waiting(Wait),
    /// It has one, in order.
    Ready,
    /// It has one that is not ready at the moment, for this reason.
    Unready(String),
    /// It had one, and lost it.
    Lost(String),
}

/// Why a sandbox has no pod yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// There is no such pool.
    NoPool {
        /// The pool's name.
        pool: String,
    },
    /// The pool has no pod to give.
    PoolEmpty {
        /// The pool's name.
        pool: String,
        /// How many of its pods are starting.
        starting: u32,
        /// How many pods others wait for who came first.
        ahead: u32,
        /// What keeps its pods from being ready.
        trouble: Option<String>,
    },
    /// The pool is scaled to zero.
    PoolStopped {
        /// The pool's name.
        pool: String,
    },
}

/// A sandbox's tasks, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// A step is running.
    pub running: bool,
    /// Some wait to run.
    pub waiting: bool,
    /// When the last one ended.
    pub last_ended: Option<Timestamp>,
}

/// What is to be said and done about a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where it stands.
    pub phase: SandboxPhase,
    /// Why, as a word for programs.
    pub reason: &'static str,
    /// Why, in words for people.
    pub message: String,
    /// Whether it is to be removed now.
    pub end: bool,
    /// When to look again, if nothing happens before.
    pub again: Option<Timestamp>,
}

/// Decides where a sandbox stands.
pub fn judge(facts: &Facts, now: Timestamp) -> Verdict {
    if facts.phase == Some(SandboxPhase::Released) {
        return say(
            SandboxPhase::Released,
            "Released",
            "the sandbox is being removed",
        )
        .ending();
    }
    match over(facts, now) {
        Over::Now(reason, message) => say(SandboxPhase::Released, reason, message).ending(),
        Over::At(again) => stand(facts).looking_at(Some(again)),
        Over::Never => stand(facts),
    }
}

fn stand(facts: &Facts) -> Verdict {
    if facts.phase == Some(SandboxPhase::Failed) {
        let why = match &facts.pod {
            PodView::Lost(why) => why.as_str(),
            _ => "the sandbox lost its pod",
        };
        return say(SandboxPhase::Failed, "PodLost", why);
    }
    match &facts.pod {
        PodView::Waiting(wait) => {
            let (reason, message) = wait.words();
            say(SandboxPhase::Pending, reason, message)
        }
        PodView::Lost(why) => say(SandboxPhase::Failed, "PodLost", why),
        PodView::Ready if facts.tasks.running => {
            say(SandboxPhase::Bound, "TaskRunning", "a task is running")
        }
        PodView::Ready => say(SandboxPhase::Ready, "PodReady", "tasks can run"),
        PodView::Unready(why) => say(SandboxPhase::Pending, "PodNotReady", why),
    }
}

/// When a sandbox's time is over.
enum Over {
    Now(&'static str, String),
    At(Timestamp),
    Never,
}

fn over(facts: &Facts, now: Timestamp) -> Over {
    let mut next: Option<Timestamp> = None;
    let mut due = |at: Timestamp| {
        let over = at <= now;
        if !over {
            next = Some(next.map_or(at, |sooner| sooner.min(at)));
        }
        over
    };
    let limits = &facts.limits;
    if let Some(lifetime) = limits.lifetime
        && due(later(facts.made, lifetime))
    {
        return Over::Now(
            "LifetimeOver",
            format!("it has lived for {} s, its longest", lifetime.as_secs()),
        );
    }
    let is_visited = facts
        .visit
        .is_some_and(|visit| visit.lasts && !due(later(visit.last, VISIT_LASTS)));
    let busy = facts.tasks.running || facts.tasks.waiting || is_visited;
    // A sandbox that never got a pod is not idle: it waits.
    if let (false, Some(allocated)) = (busy, facts.allocated) {
        // Nobody can have been there later than now, whatever they say.
        let visited = facts.visit.map(|visit| visit.last.min(now));
        let active = allocated.max(facts.tasks.last_ended.unwrap_or(allocated));
        let active = active.max(visited.unwrap_or(active));
        if let Some(idle) = limits.idle
            && due(later(active, idle))
        {
            return Over::Now(
                "IdleTooLong",
                format!("nobody used it for {} s", idle.as_secs()),
            );
        }
        if !limits.keep_alive
            && facts.tasks.last_ended.is_some()
            && due(later(active, limits.grace))
        {
            return Over::Now(
                "TasksDone",
                "all tasks are done and keepAlive is off".to_owned(),
            );
        }
    }
    next.map_or(Over::Never, Over::At)
}

impl Wait {
    /// Why, as a word and in words.
    pub fn words(&self) -> (&'static str, String) {
        match self {
            Self::NoPool { pool } => (
                "PoolNotFound",
                format!("there is no WarmPool {pool:?} in this namespace"),
            ),
            Self::PoolStopped { pool } => (
                "PoolStopped",
                format!("WarmPool {pool:?} is scaled to zero: raise its replicas"),
            ),
            Self::PoolEmpty {
                pool,
                starting,
                ahead,
                trouble,
            } => {
                let mut words = format!("WarmPool {pool:?} has no pod ready: {starting} starting");
                match ahead {
                    0 => {}
                    // Told to the pod, a long line would be rewritten whenever it moves.
                    1..100 => words += &format!(", {ahead} wanted by others who came first"),
                    _ => words += ", a hundred or more wanted by others who came first",
                }
                if let Some(trouble) = trouble {
                    words += &format!("; its pods fail: {trouble}");
                }
                ("PoolEmpty", words)
            }
        }
    }
}

fn say(phase: SandboxPhase, reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict {
        phase,
        reason,
        message: message.into(),
        end: false,
        again: None,
    }
}

impl Verdict {
    fn ending(mut self) -> Self {
        self.end = true;
        self
    }

    fn looking_at(mut self, again: Option<Timestamp>) -> Self {
        self.again = again;
        self
    }
}
