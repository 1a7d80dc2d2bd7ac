//! A run as those who asked for it see it.

use std::sync::Arc;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use tokio::sync::watch;

use crate::{
    launch::Key,
    log::{Log, Reader},
    outcome::Outcome,
    record::Record,
    sheet::Sheet,
    stock::Stock,
    terminal::Terminal,
    tree::{self, Root},
};

/// One of a run's output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output; with a terminal, everything.
    Stdout,
    /// Standard error; with a terminal, nothing.
    Stderr,
}

/// A command that was started, whether it still goes or not. Clones are the same run.
///
/// Dropping it leaves the command alone.
#[derive(Clone)]
pub struct Run(pub(crate) Arc<Shared>);

/// What a run's handles and its tender share.
pub(crate) struct Shared {
    pub(crate) record: Record,
    pub(crate) sheet: Sheet,
    pub(crate) logs: [Arc<Log>; 2],
    pub(crate) view: watch::Sender<View>,
    pub(crate) asked: watch::Sender<Asked>,
    pub(crate) terminal: Option<Terminal>,
    /// Whether its sheet and its output go when nobody holds it any more.
    pub(crate) passing: bool,
    pub(crate) stock: Arc<Stock>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.passing || !self.view.borrow().swept {
            return;
        }
        let (logs, sheet, stock) = (self.logs.clone(), self.sheet.path(), self.stock.clone());
        let clear = move || {
            logs.iter().for_each(|log| log.clear());
            // Left behind at worst: the next supervisor clears it away.
            let _ = stock.give_back(&sheet);
        };
        match tokio::runtime::Handle::try_current() {
            // Whoever waits for the run's last word need not wait for this.
            Ok(runtime) => drop(runtime.spawn_blocking(clear)),
            Err(_) => clear(),
        }
    }
}

/// What is known of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The main process and what its tree hangs on, once there is one.
    pub(crate) process: Option<Process>,
    pub(crate) outcome: Option<Arc<Outcome>>,
    /// Whether nothing of its tree is left.
    pub(crate) swept: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) main: i32,
    pub(crate) root: Root,
    /// When its keeper began.
    pub(crate) began: Option<Timestamp>,
}

/// What was asked of a run; it only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    #[default]
    Nothing,
    HangUp,
    Stop,
    Kill,
}

impl Run {
    /// The key it was started with.
    pub fn key(&self) -> &Key {
        &self.0.record.key
    }

    /// What was run, for people.
    pub fn argv(&self) -> &[String] {
        &self.0.record.argv
    }

    /// Waits until the command runs or cannot, and says its process id, if it ever had one.
    pub async fn started(&self) -> Option<i32> {
        let mut view = self.0.view.subscribe();
        let known = view
            .wait_for(|view| view.process.is_some() || view.outcome.is_some())
            .await;
        known
            .ok()
            .and_then(|view| view.process.map(|process| process.main))
    }

    /// When it began, as far as that is known yet.
    pub fn began(&self) -> Option<Timestamp> {
        self.0
            .view
            .borrow()
            .process
            .and_then(|process| process.began)
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Arc<Outcome>> {
        self.0.view.borrow().outcome.clone()
    }

    /// Waits until it is over. `None` when its supervisor goes first.
    pub async fn ended(&self) -> Option<Arc<Outcome>> {
        let mut view = self.0.view.subscribe();
        view.wait_for(|view| view.outcome.is_some())
            .await
            .ok()
            .and_then(|view| view.outcome.clone())
    }

    /// Its output from `offset` on. As long as the reader lives, the command waits for it
    /// rather than run ahead of what is kept.
    pub fn output(&self, stream: Stream, offset: u64) -> Reader {
        self.log(stream).reader(offset)
    }

    /// How much it has written so far.
    pub fn written(&self, stream: Stream) -> u64 {
        self.log(stream).written()
    }

    fn log(&self, stream: Stream) -> &Arc<Log> {
        match stream {
            Stream::Stdout => &self.0.logs[0],
            Stream::Stderr => &self.0.logs[1],
        }
    }

    /// Stops its whole tree, also what a command that ended left behind: TERM, then KILL.
    pub fn stop(&self) {
        self.ask(Asked::Stop);
    }

    /// Kills at once all that lives in the command's session, also when the command itself has
    /// ended. Who left it for a session of its own meant to live on, as after a logout.
    pub fn hang_up(&self) {
        self.ask(Asked::HangUp);
    }

    /// Kills its whole tree at once.
    pub fn kill(&self) {
        self.ask(Asked::Kill);
    }

    /// What its tree hangs on, while anything of it may be left.
    pub fn root(&self) -> Option<Root> {
        let view = self.0.view.borrow();
        view.process
            .filter(|_| !view.swept)
            .map(|process| process.root)
    }

    /// Whether no process of its tree is left.
    pub fn is_swept(&self) -> bool {
        self.0.view.borrow().swept
    }

    /// Waits until no process of its tree is left.
    pub async fn swept(&self) {
        let mut view = self.0.view.subscribe();
        // A supervisor that goes leaves nobody to wait for.
        let _ = view.wait_for(|view| view.swept).await;
    }

    fn ask(&self, what: Asked) {
        self.0.asked.send_if_modified(|asked| {
            let more = what > *asked;
            *asked = what.max(*asked);
            more
        });
    }

    /// Sends a signal to every process of its tree, once, as soon as there is one. Says how many
    /// there were.
    pub async fn signal(&self, signal: Signal) -> usize {
        // A command may have said something before its keeper says that it runs.
        self.started().await;
        let Some(process) = self.0.view.borrow().process else {
            return 0;
        };
        let sending = tokio::task::spawn_blocking(move || {
            let members = tree::members(process.root);
            tree::signal(process.root, signal);
            members.len()
        });
        sending.await.unwrap_or(0)
    }

    /// Its terminal, if it has one.
    pub fn terminal(&self) -> Option<&Terminal> {
        self.0.terminal.as_ref()
    }
}
