//! Starts runs once per key, and forgets old ones.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::fcntl::Flock;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    begin::{Outputs, STREAMS, fork, fork_once, lay_out, make_ready},
    disk::{files_of, forget, private_folder, take_over},
    folders,
    known::Known,
    launch::{Key, Launch, Memory},
    ledger::Ledger,
    log::Log,
    program::{Program, Unrunnable},
    record::Record,
    run::{Asked, Run, Shared, View},
    settle::{self, Settling},
    sheet::Sheet,
    stock::{Owner, Stock},
    tend::Tender,
    terminal::Terminal,
};

/// How much a supervisor takes on and remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Runs that go at the same time.
    pub running: usize,
    /// Runs that are over and still known, with their output. The oldest are forgotten first.
    pub remembered: usize,
    /// Whose runs they are.
    pub owner: Owner,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            running: 512,
            remembered: 1024,
            owner: Owner::One,
        }
    }
}

/// Why a run was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No system could run this.
    #[error(transparent)]
    Unrunnable(#[from] Unrunnable),
    /// The key belongs to another command.
    #[error("the key {key} was used for another command ({argv}): use a new key")]
    KeyTaken {
        /// The key.
        key: Key,
        /// What it was used for.
        argv: String,
    },
    /// There is no room for another run.
    #[error(
        "{0} commands are running already, as many as allowed: wait for one to end or stop one"
    )]
    Busy(usize),
    /// The supervisor is going.
    #[error("the supervisor is shutting down")]
    Closed,
    /// The disk or the kernel refused.
    #[error("the command could not be started: {0}")]
    System(#[from] io::Error),
}

/// Runs commands. Clones are the same supervisor.
#[derive(Clone)]
pub struct Supervisor(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) runs: PathBuf,
    ledger: Ledger,
    pub(crate) stock: Arc<Stock>,
    limits: Limits,
    known: Mutex<Known>,
    tenders: TaskTracker,
    pub(crate) settling: Settling,
    closing: CancellationToken,
    _lock: Flock<File>,
}

impl Supervisor {
    /// A supervisor that keeps its records in `folder`. It takes up the runs that an earlier
    /// one left going; only one at a time has the folder.
    pub async fn open(folder: &Path, limits: Limits) -> io::Result<Self> {
        let lock = take_over(folder).await?;
        let runs = folder.join("runs");
        private_folder(&runs)?;
        folders::clear(&runs)?;
        let (ledger, begun) = Ledger::open(folder, &runs)?;
        let (settling, written) = settle::channel();
        let inner = Inner {
            stock: Arc::new(Stock::new(&runs, limits.owner)),
            runs,
            ledger,
            limits,
            known: Mutex::default(),
            tenders: TaskTracker::new(),
            settling,
            closing: CancellationToken::new(),
            _lock: lock,
        };
        let supervisor = Self(Arc::new(inner));
        let settling = settle::settle(written, supervisor.0.closing.clone());
        supervisor.0.tenders.spawn(settling);
        let live = supervisor.take_up_runs(&begun)?;
        supervisor.take_stock(&live).await?;
        Ok(supervisor)
    }

    /// Starts `launch`, or finds the run that was started with this key before.
    ///
    /// Once begun, the start is completed even if this future is dropped.
    pub async fn start(&self, key: Key, launch: Launch) -> Result<Run, StartError> {
        let argv: Vec<String> = launch
            .argv
            .iter()
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        let cell = self.known().runs.entry(key.clone()).or_default().clone();
        let starting = self.0.tenders.spawn({
            let (this, key) = (self.clone(), key.clone());
            async move {
                let run = cell
                    .get_or_try_init(|| this.find_or_begin(key.clone(), launch))
                    .await
                    .cloned();
                if run.is_err() {
                    this.known().let_go(&key, cell);
                }
                run
            }
        });
        let run = starting.await.map_err(|_| StartError::Closed)??;
        // Of a run that is lost not even the command may be known.
        if run.argv() == argv || run.argv().is_empty() {
            Ok(run)
        } else {
            Err(StartError::KeyTaken {
                key,
                argv: run.argv().join(" "),
            })
        }
    }

    /// The run that was started with this key, if it is still known.
    pub async fn find(&self, key: &Key) -> io::Result<Option<Run>> {
        let cell = self.known().runs.entry(key.clone()).or_default().clone();
        // Waits for a start that is under way, so that nobody takes the run up twice.
        let found = cell.get_or_try_init(|| async {
            let (this, wanted) = (self.clone(), key.clone());
            let found = blocking(move || this.recall(&wanted)).await;
            found.transpose().unwrap_or(Err(gone()))
        });
        match found.await {
            Ok(run) => Ok(Some(run.clone())),
            Err(error) => {
                self.known().let_go(key, cell);
                if error.kind() == io::ErrorKind::NotFound {
                    Ok(None)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// The runs that go, and those that ended lately.
    pub fn runs(&self) -> Vec<Run> {
        self.known()
            .runs
            .values()
            .filter_map(|cell| cell.get().cloned())
            .collect()
    }

    /// Kills every run with its whole tree, also what ended runs left behind, and waits until
    /// all are gone.
    pub async fn kill_all(&self) {
        let runs = self.runs();
        runs.iter().for_each(Run::kill);
        for run in runs {
            run.swept().await;
        }
    }

    /// Kills what goes and forgets every run, with its output.
    pub async fn forget_all(&self) -> io::Result<()> {
        self.kill_all().await;
        let (runs, live, stock) = (self.0.runs.clone(), self.live(), self.0.stock.clone());
        let left = blocking(move || {
            let left = forget(&runs, &live, 0, &stock)?;
            stock.clear()?;
            Ok::<_, io::Error>(left)
        });
        let left = left.await?;
        let mut known = self.known();
        known.sheets = left;
        known.over.clear();
        let stays = |run: &Run| !run.0.view.borrow().swept;
        known.runs.retain(|_, cell| cell.get().is_none_or(stays));
        Ok(())
    }

    /// Lets go of everything and leaves the runs alone: the next supervisor takes them up.
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.tenders.close();
        self.0.tenders.wait().await;
    }

    async fn find_or_begin(&self, key: Key, launch: Launch) -> Result<Run, StartError> {
        if self.0.closing.is_cancelled() {
            return Err(StartError::Closed);
        }
        self.forget_old().await?;
        let this = self.clone();
        blocking(move || {
            if launch.memory == Memory::Durable
                && let Some(run) = this.recall(&key)?
            {
                return Ok(run);
            }
            let place = Place::take(&this)?;
            this.begin(key, &launch, place)
        })
        .await
    }

    /// A run that is on the disk and not in memory.
    fn recall(&self, key: &Key) -> io::Result<Option<Run>> {
        let found = self.on_disk(key)?;
        if found.as_ref().is_some_and(|run| run.outcome().is_some()) {
            self.known().retire(key.clone(), false);
        }
        Ok(found)
    }

    fn begin(&self, key: Key, launch: &Launch, place: Place) -> Result<Run, StartError> {
        let sheet = Sheet::of(&self.0.runs, &key);
        let mut program = make_ready(launch, &sheet)?;
        // What was recorded and never begun, or the rest of a failed start.
        files_of(&sheet)?.remove(&sheet)?;
        let mut record = Record::new(key, launch)?;
        let stock = &self.0.stock;
        // From here on nothing ends without giving them back.
        let pipes = stock.pipes()?;
        record.pipes = pipes;
        let begun = self.begin_recorded(record, launch, &sheet, &mut program);
        match begun {
            Ok((shared, tender)) => {
                self.known().sheets += 1;
                self.tend(shared.clone(), tender, place);
                Ok(Run(shared))
            }
            Err(error) => {
                // Left behind at worst: the next start under this key, or the next supervisor,
                // clears them away.
                let _ = (sheet.remove(), stock.take_back(pipes));
                Err(error.into())
            }
        }
    }

    fn begin_recorded(
        &self,
        record: Record,
        launch: &Launch,
        sheet: &Sheet,
        program: &mut Program,
    ) -> io::Result<(Arc<Shared>, Tender)> {
        let (ends, descriptors) = lay_out(sheet, &record, &self.0.stock, launch)?;
        let terminal = match &ends.outputs {
            Outputs::Terminal(master) => Some(Terminal::new(master.try_clone()?)?),
            _ => None,
        };
        let log = |stream| Log::fresh(sheet.beside(stream), record.keep, self.0.stock.clone());
        let logs = STREAMS.map(log);
        let shared = self.shared(record, sheet.clone(), logs, terminal, View::default());
        let mut tender = Tender::new(shared.clone(), ends, self.0.settling.clone())?;
        // The last that can fail: what is forked is tended.
        let keeper = match launch.memory {
            Memory::Durable => fork_once(program, descriptors, &self.0.ledger, sheet.name()),
            Memory::Passing => fork(program, &descriptors),
        }?;
        tender.is_kept_by(keeper);
        Ok((shared, tender))
    }

    pub(crate) fn tend(&self, shared: Arc<Shared>, tender: Tender, place: Place) {
        let closing = self.0.closing.clone();
        let this = Arc::downgrade(&self.0);
        self.0.tenders.spawn(async move {
            let (key, passing) = (shared.record.key.clone(), shared.passing);
            drop(shared);
            if closing.run_until_cancelled(tender.tend()).await.is_some()
                && let Some(inner) = this.upgrade()
            {
                Self(inner).known().retire(key, passing);
            }
            drop(place);
        });
    }

    pub(crate) fn shared(
        &self,
        record: Record,
        sheet: Sheet,
        logs: [Arc<Log>; 2],
        terminal: Option<Terminal>,
        view: View,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            passing: record.memory == Memory::Passing,
            logs,
            view: watch::Sender::new(view),
            asked: watch::Sender::new(Asked::Nothing),
            terminal,
            record,
            sheet,
            stock: self.0.stock.clone(),
        })
    }

    /// Removes the oldest runs that are over, once there are clearly too many.
    async fn forget_old(&self) -> io::Result<()> {
        let limit = self.0.limits.remembered;
        if self.known().sheets <= limit + limit / 8 + self.0.limits.running {
            return Ok(());
        }
        let (runs, live, stock) = (self.0.runs.clone(), self.live(), self.0.stock.clone());
        let left = blocking(move || forget(&runs, &live, limit, &stock)).await?;
        self.known().sheets = left;
        Ok(())
    }

    /// The sheets of the runs of which something is left.
    fn live(&self) -> Vec<Sheet> {
        let live = |run: &Run| !run.0.view.borrow().swept;
        self.runs()
            .iter()
            .filter(|run| live(run))
            .map(|run| run.0.sheet.clone())
            .collect()
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is complete before anything can panic.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one run that goes.
pub(crate) struct Place(Supervisor);

impl Place {
    fn take(supervisor: &Supervisor) -> Result<Self, StartError> {
        let mut known = supervisor.known();
        if known.running >= supervisor.0.limits.running {
            return Err(StartError::Busy(known.running));
        }
        known.running += 1;
        drop(known);
        Ok(Self(supervisor.clone()))
    }

    /// A place for a run that is there already, whatever the limit.
    pub(crate) fn more(supervisor: &Supervisor) -> Self {
        supervisor.known().running += 1;
        Self(supervisor.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.0.known();
        known.running = known.running.saturating_sub(1);
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotFound.into()
}

pub(crate) async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<io::Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) => Err(io::Error::other(stopped).into()),
    }
}
