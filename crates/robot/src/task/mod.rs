//! The life of one attempt at one task: from being told of it to its last report.

mod ending;
mod prepare;
mod restart;
mod templates;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use sandlot_api::robot::{
    Driver, TaskDefinition, TaskState,
    wire::{DesiredTask, News},
};
use sandlot_supervisor::{End, Key, Launch, Outcome, Run, Supervisor};
use tokio::sync::{mpsc, watch};

use crate::{
    artifacts::Fetcher,
    drivers::{self, Engine, Place},
    files,
    group::{Group, Groups},
    journal::{Entry, Journal},
};

pub(crate) use ending::tail;

/// The labels of a robot.
pub(crate) type Labels = BTreeMap<String, String>;
/// What a job notes for its tasks.
pub(crate) type Notes = BTreeMap<String, String>;

/// What an attempt is told while it lives.
pub(crate) struct Told {
    /// Turns true when it is to end.
    pub(crate) stopped: watch::Receiver<bool>,
    /// Its job's notes, as they are now.
    pub(crate) noted: watch::Receiver<Notes>,
}

/// What all tasks on a robot share.
pub(crate) struct Workshop {
    pub(crate) robot: String,
    /// As the cluster knows them now.
    pub(crate) labels: watch::Receiver<Labels>,
    pub(crate) folder: PathBuf,
    pub(crate) supervisor: Supervisor,
    pub(crate) journal: Journal,
    pub(crate) fetcher: Fetcher,
    pub(crate) groups: Groups,
    /// What runs containers, where that was said.
    pub(crate) engine: Option<PathBuf>,
    pub(crate) news: mpsc::Sender<(Timestamp, News)>,
}

impl Workshop {
    /// Says what has happened.
    pub(crate) async fn tell(&self, news: News) {
        // Nobody hears it any more when the agent stops; the journal tells the next one.
        let _ = self.news.send((Timestamp::now(), news)).await;
    }

    /// The folder of an attempt.
    pub(crate) fn folder_of(&self, task: &DesiredTask) -> PathBuf {
        self.folder.join("tasks").join(task.key.to_string())
    }
}

/// Why an attempt is over before its program was.
enum Over {
    /// Somebody wants it to end.
    Stopped,
    /// It cannot be run here at all.
    Rejected(&'static str, String),
    /// It was not possible this time.
    Failed(&'static str, String),
    /// The robot itself failed; another agent may go on.
    Broken(io::Error),
}

impl From<io::Error> for Over {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Lives an attempt.
pub(crate) async fn live(shop: Arc<Workshop>, task: DesiredTask, told: Told) {
    let entry = match shop.journal.find(&task.key) {
        Ok(Some(entry)) => entry,
        Ok(None) => Entry {
            key: task.key.clone(),
            ..Entry::default()
        },
        Err(error) => {
            tracing::error!(task = task.name, %error, "what is known of a task cannot be read");
            return;
        }
    };
    if entry.over {
        // Its last report may have been lost with the agent that made it.
        return shop.tell(News::Task(Box::new(entry.report))).await;
    }
    let member = shop.groups.join(&task, &shop.folder.join("groups"));
    let mut life = Life {
        shop: &shop,
        task: &task,
        group: &member.group,
        folder: shop.folder_of(&task),
        entry,
        stop: told.stopped,
        notes: told.noted,
        run: None,
    };
    let over = life.go().await;
    life.end(over).await;
}

/// An attempt that is being lived.
struct Life<'a> {
    shop: &'a Workshop,
    task: &'a DesiredTask,
    group: &'a Group,
    folder: PathBuf,
    entry: Entry,
    stop: watch::Receiver<bool>,
    notes: watch::Receiver<Notes>,
    run: Option<Run>,
}

impl Life<'_> {
    /// Everything up to the end of the program that counts.
    async fn go(&mut self) -> Result<Arc<Outcome>, Over> {
        if self.entry.start == 0 && !self.entry.prepared {
            self.say(TaskState::Accepted, "Assigned", None).await;
        }
        // What does not fit here is said before anything is fetched for it.
        self.launch(&self.task.definition, &self.folder, &self.container())?;
        unless_stopped(self.stop.clone(), self.prepare()).await?;
        unless_stopped(self.stop.clone(), self.begin_group()).await?;
        loop {
            let outcome = self.run_once().await?;
            if self.is_stopped() {
                return Err(Over::Stopped);
            }
            let Some(outcome) = outcome else {
                let why = "a template has changed; it starts anew".to_owned();
                self.begin_again(why).await?;
                continue;
            };
            let Some(pause) = self.restart_after(&outcome, Timestamp::now()) else {
                return Ok(outcome);
            };
            let why = format!(
                "{}; it starts again in {}s",
                outcome.reason,
                pause.as_secs()
            );
            self.begin_again(why).await?;
            let mut stop = self.stop.clone();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = told_to_stop(&mut stop) => return Err(Over::Stopped),
            }
        }
    }

    /// The next run of the program is another one.
    async fn begin_again(&mut self, why: String) -> Result<(), Over> {
        self.entry.start += 1;
        self.entry.report.restart_count = i32::try_from(self.entry.start).ok();
        self.entry.report.last_restart_at = Some(Timestamp::now());
        self.note().await?;
        self.say(TaskState::Starting, "Restarting", Some(why)).await;
        Ok(())
    }

    /// Runs the program to its end, or finds it running and waits for that. Nothing when it was
    /// ended because a template has changed.
    async fn run_once(&mut self) -> Result<Option<Arc<Outcome>>, Over> {
        if self.is_stopped() {
            return Err(Over::Stopped);
        }
        let (mut labels, mut notes) = (self.shop.labels.clone(), self.notes.clone());
        labels.borrow_and_update();
        notes.borrow_and_update();
        let key = self.key()?;
        let known = self.shop.supervisor.find(&key).await?;
        let running = known.filter(|run| run.outcome().is_none());
        // What has changed since the last start, or while no agent was there to see it.
        let change = self.renew_templates();
        if let Some((run, change)) = running.zip(change)
            && self.tell_change(&run, &change).await?
        {
            return Ok(None);
        }
        let launch = self.launch(&self.task.definition, &self.folder, &self.container())?;
        give(&self.task.definition, &launch, &self.folder)
            .map_err(|why| Over::Failed("StartFailed", why))?;
        let started = self.shop.supervisor.start(key, launch).await;
        let run = started.map_err(|error| Over::Failed("StartFailed", error.to_string()))?;
        self.run = Some(run.clone());
        run.started().await;
        self.entry.report.started_at = run.began().or_else(|| Some(Timestamp::now()));
        if run.outcome().is_none() {
            self.say(TaskState::Running, "Started", None).await;
        }
        let mut stop = self.stop.clone();
        let ended = loop {
            tokio::select! {
                ended = run.ended() => break ended,
                () = told_to_stop(&mut stop) => {
                    self.say(TaskState::Stopping, "Stopping", None).await;
                    run.stop();
                    break run.ended().await;
                }
                Ok(()) = labels.changed() => {}
                Ok(()) = notes.changed() => {}
            }
            // What templates show is another now.
            if let Some(change) = self.renew_templates()
                && self.tell_change(&run, &change).await?
            {
                return Ok(None);
            }
        };
        match ended {
            Some(outcome) => {
                self.clear_away(&outcome).await;
                Ok(Some(outcome))
            }
            None => Err(io::Error::other("the agent stops").into()),
        }
    }

    /// What the present run of the program is started with.
    fn key(&self) -> Result<Key, Over> {
        run_key(&format!("{}#{}", self.task.key, self.entry.start))
    }

    /// What the container of the present run is called, where the task is one.
    fn container(&self) -> String {
        format!("k8s4r-{}-{}", self.task.key, self.entry.start)
    }

    /// Takes away what may be left of the present run's container: one whose client was killed, or
    /// went with the robot, may still be there.
    async fn clear_away(&self, outcome: &Outcome) {
        let by_itself = matches!(outcome.end, End::Exited(_));
        if by_itself || self.task.definition.driver != Driver::Docker {
            return;
        }
        let Some(engine) = Engine::find(self.shop.engine.as_deref()) else {
            return;
        };
        let launch = engine.clear_away(&self.container());
        let Ok(key) = run_key(&format!("gone/{}-{}", self.task.key, self.entry.start)) else {
            return;
        };
        match self.shop.supervisor.start(key, launch).await {
            Ok(run) => drop(run.ended().await),
            Err(error) => {
                tracing::error!(task = self.task.name, %error, "its container may still be there");
            }
        }
    }

    fn launch(
        &self,
        definition: &TaskDefinition,
        folder: &Path,
        name: &str,
    ) -> Result<Launch, Over> {
        let facts = self.facts();
        let place = Place {
            folder,
            shared: &self.group.folder,
            site: &self.shop.folder.join("cell"),
            facts: &facts,
            name,
            engine: self.shop.engine.as_deref(),
        };
        drivers::launch(definition, &place)
            .map_err(|unfit| Over::Rejected("CannotRun", unfit.to_string()))
    }

    /// What a task's environment says of where and what it is.
    fn facts(&self) -> BTreeMap<String, String> {
        let task = self.task;
        let mut facts = BTreeMap::from([
            ("ROBOT_ID".to_owned(), self.shop.robot.clone()),
            ("TASK_NAME".to_owned(), task.definition.name.clone()),
            ("TASK_UID".to_owned(), task.key.uid.clone()),
            ("TASK_ATTEMPT".to_owned(), task.key.attempt.to_string()),
            (
                "ALLOC_DIR".to_owned(),
                self.group.folder.display().to_string(),
            ),
        ]);
        if let Some(place) = &task.group {
            facts.insert("JOB_NAME".to_owned(), place.job.clone());
            facts.insert("GROUP_NAME".to_owned(), place.name.clone());
            facts.insert("REPLICA_INDEX".to_owned(), place.replica.to_string());
        }
        for (key, value) in &*self.notes.borrow() {
            facts.insert(
                format!("META_{}", key.to_uppercase().replace(['-', '.'], "_")),
                value.clone(),
            );
        }
        facts
    }

    async fn note(&self) -> io::Result<()> {
        let (journal, entry) = (self.shop.journal.clone(), self.entry.clone());
        files::aside(move || journal.note(&entry)).await
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Lets a program that runs as somebody else write in its own folder.
fn give(definition: &TaskDefinition, launch: &Launch, folder: &Path) -> Result<(), String> {
    let runs_as = launch.user.as_ref().map(|user| (user.uid, user.gid));
    let Some((user, group)) = runs_as.or_else(|| drivers::owner_in_container(definition)) else {
        return Ok(());
    };
    let given = files::give(folder, user, group);
    given.map_err(|error| format!("its folder cannot be given to its user: {error}"))
}

/// Does something, unless the attempt is stopped meanwhile.
async fn unless_stopped(
    mut stop: watch::Receiver<bool>,
    what: impl Future<Output = Result<(), Over>>,
) -> Result<(), Over> {
    tokio::select! {
        done = what => done,
        () = told_to_stop(&mut stop) => Err(Over::Stopped),
    }
}

/// Waits until an attempt is to end; for ever when nobody is left who could say so.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let told = stop.wait_for(|stop| *stop).await.is_ok();
    if !told {
        std::future::pending::<()>().await;
    }
}

fn run_key(text: &str) -> Result<Key, Over> {
    Key::new(text).map_err(|error| Over::Rejected("CannotRun", error.to_string()))
}
