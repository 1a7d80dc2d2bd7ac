//! Tends one run: listens to its keeper, its clock and its callers, and acts as its life says.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use nix::{
    sys::{
        signal::Signal,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
    task::JoinSet,
    time::Instant,
};

use crate::{
    begin::{Ends, Outputs, STREAMS, rest},
    descriptor::watched,
    life::{Action, Cause, Event, Life, Moment},
    note::{Note, Stage},
    outcome::{End, Outcome},
    pump::{Source, pump},
    record::since_boot,
    run::{Asked, Process, Shared},
    settle::Settling,
    tree::{self, Root},
    why,
};

/// How long a command that ended may still be spoken for by what it left in the background.
const AFTERWORD: Duration = Duration::from_millis(50);

/// Everything needed to tend a run.
pub(crate) struct Tender {
    shared: Arc<Shared>,
    settling: Settling,
    life: Life,
    born: Instant,
    bell: AsyncFd<OwnedFd>,
    /// The keeper's process id, where this process is its parent.
    keeper: Option<i32>,
    sources: Vec<Arc<Source>>,
    pumps: JoinSet<()>,
    asked: watch::Receiver<Asked>,
    note: Option<Note>,
    /// Whether the keeper is gone.
    hung_up: bool,
    /// When the main process was seen to have ended.
    ended_at: Option<Instant>,
}

impl Tender {
    pub(crate) fn new(shared: Arc<Shared>, ends: Ends, settling: Settling) -> io::Result<Self> {
        let sources: Vec<Source> = match ends.outputs {
            Outputs::Gone => Vec::new(),
            Outputs::Terminal(master) => vec![Source::terminal(master)?],
            Outputs::Pipes([out, err]) => vec![
                Source::pipe(out, rest(&shared.sheet, STREAMS[0]))?,
                Source::pipe(err, rest(&shared.sheet, STREAMS[1]))?,
            ],
        };
        let left = shared
            .record
            .deadline
            .map(|deadline| deadline.saturating_sub(since_boot()));
        Ok(Self {
            life: Life::new(shared.record.grace, left),
            born: Instant::now(),
            bell: watched(ends.bell, Interest::READABLE)?,
            keeper: None,
            sources: sources.into_iter().map(Arc::new).collect(),
            pumps: JoinSet::new(),
            asked: shared.asked.subscribe(),
            note: None,
            hung_up: false,
            ended_at: None,
            settling,
            shared,
        })
    }

    /// Notes which process was forked to keep the run.
    pub(crate) fn is_kept_by(&mut self, keeper: i32) {
        self.keeper = Some(keeper);
    }

    /// Tends the run until nothing of it is left. Dropping this leaves the command alone.
    pub(crate) async fn tend(mut self) {
        for (source, log) in self.sources.iter().zip(&self.shared.logs) {
            self.pumps.spawn(pump(source.clone(), log.clone()));
        }
        // A bell opened after its keeper went is at its end without ever becoming readable.
        self.hung_up = matches!(nix::unistd::read(self.bell.as_fd(), &mut [0; 64]), Ok(0));
        self.read_note().await;
        if self.hung_up {
            self.act(Event::TreeGone).await;
        }
        while !(self.life.is_over() && self.hung_up && self.pumps.is_empty()) {
            let asked = self.wait().await;
            if let Some(event) = asked {
                self.act(event).await;
            }
        }
        self.reap_keeper().await;
        let shared = self.shared.clone();
        // With its ends of the pipes, which nobody has any more then.
        drop(self);
        if let Err(error) = shared.stock.take_back(shared.record.pipes) {
            // Left behind at worst: the next supervisor clears them away.
            tracing::warn!(key = %shared.record.key, %error, "a run's pipes could not be taken back");
        }
        shared.view.send_modify(|view| view.swept = true);
    }

    /// Waits for the next thing to happen.
    async fn wait(&mut self) -> Option<Event> {
        let is_draining = self.life.is_draining();
        let pumping = !self.pumps.is_empty();
        if is_draining && !pumping {
            return Some(Event::Drained);
        }
        let clock = self.life.wake_at().map(|moment| self.born + moment);
        let heard = tokio::select! {
            heard = heard(&self.bell), if !self.hung_up => heard,
            Ok(()) = self.asked.changed() => return asked(*self.asked.borrow_and_update()),
            () = sleep_until(clock) => return Some(Event::Clock),
            _ = self.pumps.join_next(), if pumping => return None,
            () = drained(&self.sources, self.ended_at), if is_draining => return Some(Event::Drained),
        };
        self.hung_up = !heard;
        self.read_note().await;
        self.hung_up.then_some(Event::TreeGone)
    }

    /// Takes over what the keeper wrote since it was last read.
    async fn read_note(&mut self) {
        let Some(note) = self.shared.sheet.note() else {
            return;
        };
        if self.note.replace(note) == Some(note) && !self.hung_up {
            return;
        }
        // Noted before it runs; known once it does, or once nobody is left to say more.
        if note.main != 0 && (note.stage != Stage::Begun || self.hung_up) {
            let began = Timestamp::from_nanosecond(note.started.into()).ok();
            let root = Root {
                above: note.keeper,
                session: note.main,
            };
            self.shared.view.send_if_modified(|view| {
                view.process
                    .replace(Process {
                        main: note.main,
                        root,
                        began,
                    })
                    .is_none()
            });
        }
        match note.stage {
            Stage::Begun => {}
            Stage::Running => self.act(Event::Began).await,
            Stage::Failed(step) => {
                let (end, _) = why::not_started(&self.shared.record, step, note.detail);
                self.act(Event::Failed(end)).await;
            }
            Stage::Ended => {
                self.ended_at.get_or_insert_with(Instant::now);
                self.act(Event::Ended(why::ended(note.detail))).await;
            }
        }
        if note.alone {
            self.act(Event::TreeGone).await;
        }
    }

    async fn act(&mut self, event: Event) {
        let now: Moment = self.born.elapsed();
        let over = self.life.is_over();
        match self.life.on(event, now) {
            Some(Action::Terminate) => self.signal(false).await,
            Some(Action::Kill) => self.signal(true).await,
            Some(Action::HangUp) => self.hang_up().await,
            Some(Action::Finish(end)) => self.finish(end).await,
            // What a command that ended left behind is stopped without grace.
            None if (over || self.life.is_draining())
                && matches!(event, Event::Stop(_) | Event::Kill(_)) =>
            {
                self.signal(true).await;
            }
            None if (over || self.life.is_draining()) && event == Event::HangUp => {
                self.hang_up().await;
            }
            None => {}
        }
    }

    /// Signals the whole tree, without holding up other runs.
    async fn signal(&self, kill: bool) {
        let Some(root) = self.root() else { return };
        let signalling = tokio::task::spawn_blocking(move || {
            if kill {
                tree::kill_all(root)
            } else {
                tree::signal(root, Signal::SIGTERM)
            }
        });
        // A panic there is a bug in reading /proc; the clock comes back with KILL.
        let _ = signalling.await;
    }

    /// Kills whoever is in the command's session.
    async fn hang_up(&self) {
        let Some(process) = self.shared.view.borrow().process else {
            return;
        };
        let killing = tokio::task::spawn_blocking(move || tree::kill_session(process.main));
        // As above, a panic there is a bug; the sandbox's end takes what is left.
        let _ = killing.await;
    }

    /// What the tree hangs on: the session only once no keeper holds the tree together.
    fn root(&self) -> Option<Root> {
        let process = self.shared.view.borrow().process?;
        Some(Root {
            above: if self.hung_up { 0 } else { process.root.above },
            ..process.root
        })
    }

    async fn finish(&mut self, end: End) {
        if end == End::Lost {
            // Without a keeper, what is left is found by its session.
            self.signal(true).await;
        }
        let says_so = |note: Note| note.stage == Stage::Ended && why::ended(note.detail) == end;
        let is_noted = self.note.is_some_and(says_so);
        let outcome = why::outcome(&self.shared.record, end, self.note, Timestamp::now());
        // Nobody can ask for a passing run again, so nobody reads how it ended. Of any other the
        // next supervisor has to find the same outcome; what the keeper's note does not say by
        // itself is written down before anybody is told.
        if self.shared.passing {
            self.tell(outcome);
        } else if is_noted {
            self.tell(outcome.clone());
            self.write_down(outcome).await;
        } else {
            self.write_down(outcome.clone()).await;
            self.tell(outcome);
        }
    }

    fn tell(&self, outcome: Outcome) {
        self.shared.logs.iter().for_each(|log| log.end());
        self.shared
            .view
            .send_modify(|view| view.outcome = Some(Arc::new(outcome)));
    }

    /// Writes the outcome where the next supervisor finds it. That it survives a power cut too
    /// is seen to after those who wait were told: without it, the run would count as lost.
    async fn write_down(&self, outcome: Outcome) {
        let shared = self.shared.clone();
        let writing = tokio::task::spawn_blocking(move || {
            shared.sheet.finish(&outcome)?;
            Ok::<_, io::Error>(shared.sheet.clone())
        });
        match writing.await {
            // With so many waiting already, this one is left to the kernel.
            Ok(Ok(sheet)) => drop(self.settling.try_send(sheet)),
            Ok(Err(error)) => {
                tracing::warn!(key = %self.shared.record.key, %error, "the outcome could not be written down");
            }
            // A panic there is a bug; the keeper's note still tells how the command ended.
            Err(_) => {}
        }
    }

    /// Takes the keeper's exit status, if this process is its parent. It is closing down, so
    /// this takes no time worth mentioning.
    async fn reap_keeper(&self) {
        let Some(keeper) = self.keeper else { return };
        for _ in 0..1000 {
            match waitpid(Pid::from_raw(keeper), Some(WaitPidFlag::WNOHANG)) {
                Ok(nix::sys::wait::WaitStatus::StillAlive) => {
                    tokio::time::sleep(Duration::from_millis(1)).await
                }
                _ => return,
            }
        }
    }
}

fn asked(what: Asked) -> Option<Event> {
    match what {
        Asked::Nothing => None,
        Asked::HangUp => Some(Event::HangUp),
        Asked::Stop => Some(Event::Stop(Cause::Asked)),
        Asked::Kill => Some(Event::Kill(Cause::Asked)),
    }
}

/// Whether the bell rang; false when the keeper is gone.
async fn heard(bell: &AsyncFd<OwnedFd>) -> bool {
    let mut rings = [0; 64];
    loop {
        let Ok(mut ready) = bell.readable().await else {
            return false;
        };
        match ready.try_io(|bell| Ok(nix::unistd::read(bell.as_fd(), &mut rings)?)) {
            Ok(Ok(count)) => return count > 0,
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(_)) => return false,
            Err(_would_block) => {}
        }
    }
}

/// Done when everything written was taken and whoever else holds the pipes had a moment.
async fn drained(sources: &[Arc<Source>], ended_at: Option<Instant>) {
    tokio::time::sleep_until(ended_at.unwrap_or_else(Instant::now) + AFTERWORD).await;
    while sources.iter().any(|source| source.unread() > 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
