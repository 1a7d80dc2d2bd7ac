//! The life of one attempt at one task: from being told of it to its last report.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use sandlot_api::robot::{
    RestartMode, TaskDefinition, TaskState,
    wire::{DesiredTask, InitReport, LOG_TAIL, News, TaskReport},
};
use sandlot_supervisor::{Chunk, End, Key, Outcome, Run, Stream, Supervisor};
use tokio::sync::{mpsc, watch};

use crate::{
    artifacts::{self, Fetcher},
    drivers::{self, Place},
    group::{Group, Groups},
    journal::{Entry, Journal},
    template::{self, Known},
};

/// How long a task waits before it is started again when nothing says so.
const DELAY: Duration = Duration::from_secs(15);
/// How often a task that keeps ending well, and is to be kept running, is started again at most.
const QUICKEST: Duration = Duration::from_secs(1);

/// What all tasks on a robot share.
pub(crate) struct Workshop {
    pub(crate) robot: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) folder: PathBuf,
    pub(crate) supervisor: Supervisor,
    pub(crate) journal: Journal,
    pub(crate) fetcher: Fetcher,
    pub(crate) groups: Groups,
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

/// Lives an attempt. `stop` turns true when it is to end.
pub(crate) async fn live(shop: Arc<Workshop>, task: DesiredTask, stop: watch::Receiver<bool>) {
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
        stop,
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
    run: Option<Run>,
}

impl Life<'_> {
    /// Everything up to the end of the program that counts.
    async fn go(&mut self) -> Result<Arc<Outcome>, Over> {
        if self.entry.start == 0 && !self.entry.prepared {
            self.say(TaskState::Accepted, "Assigned", None).await;
        }
        // What does not fit here is said before anything is fetched for it.
        self.launch(&self.task.definition, &self.folder)?;
        unless_stopped(self.stop.clone(), self.prepare()).await?;
        unless_stopped(self.stop.clone(), self.begin_group()).await?;
        loop {
            let outcome = self.run_once().await?;
            if self.is_stopped() {
                return Err(Over::Stopped);
            }
            let Some(pause) = self.restart_after(&outcome, Timestamp::now()) else {
                return Ok(outcome);
            };
            self.entry.start += 1;
            self.entry.report.restart_count = i32::try_from(self.entry.start).ok();
            self.entry.report.last_restart_at = Some(Timestamp::now());
            self.note().await?;
            let why = format!(
                "{}; it starts again in {}s",
                outcome.reason,
                pause.as_secs()
            );
            self.say(TaskState::Starting, "Restarting", Some(why)).await;
            let mut stop = self.stop.clone();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = told_to_stop(&mut stop) => return Err(Over::Stopped),
            }
        }
    }

    /// Runs the program to its end, or finds it running and waits for that.
    async fn run_once(&mut self) -> Result<Arc<Outcome>, Over> {
        if self.is_stopped() {
            return Err(Over::Stopped);
        }
        let launch = self.launch(&self.task.definition, &self.folder)?;
        let key = run_key(&format!("{}#{}", self.task.key, self.entry.start))?;
        let started = self.shop.supervisor.start(key, launch).await;
        let run = started.map_err(|error| Over::Failed("StartFailed", error.to_string()))?;
        self.run = Some(run.clone());
        run.started().await;
        self.entry.report.started_at = run.began().or_else(|| Some(Timestamp::now()));
        if run.outcome().is_none() {
            self.say(TaskState::Running, "Started", None).await;
        }
        let mut stop = self.stop.clone();
        let ended = tokio::select! {
            ended = run.ended() => ended,
            () = told_to_stop(&mut stop) => {
                self.say(TaskState::Stopping, "Stopping", None).await;
                run.stop();
                run.ended().await
            }
        };
        match ended {
            Some(outcome) => Ok(outcome),
            None => Err(io::Error::other("the agent stops").into()),
        }
    }

    /// How long to wait before the program is started again, if it is.
    fn restart_after(&mut self, outcome: &Outcome, now: Timestamp) -> Option<Duration> {
        let well = outcome.end.is_success();
        if well && !self.task.service {
            return None;
        }
        if matches!(outcome.end, End::Stopped { .. }) {
            return None;
        }
        let policy = self.task.restart_policy.clone().unwrap_or_default();
        let delay = policy.delay.map_or(DELAY, |delay| delay.0);
        if well {
            return Some(delay.max(QUICKEST));
        }
        let budget = usize::try_from(policy.attempts.unwrap_or(0)).unwrap_or(0);
        let interval = policy.interval.map(|interval| interval.0);
        let pause = restart_pause(&mut self.entry.restarts, budget, interval, now);
        match (pause, policy.mode.unwrap_or_default()) {
            (Some(pause), _) if pause.is_zero() => {}
            (Some(pause), RestartMode::Delay) if budget > 0 => return Some(pause.max(delay)),
            _ => return None,
        }
        self.entry.restarts.push(now);
        Some(delay)
    }

    /// Fetches and writes what the task finds in its folder.
    async fn prepare(&mut self) -> Result<(), Over> {
        let has_artifacts = self
            .task
            .definition
            .artifacts
            .iter()
            .flatten()
            .next()
            .is_some();
        if has_artifacts && !self.entry.prepared {
            self.say(TaskState::Downloading, "Downloading", None).await;
        }
        if !self.entry.prepared {
            self.fill(&self.task.definition, &self.folder).await?;
        }
        if has_artifacts && !self.entry.prepared {
            self.entry.prepared = true;
            self.note().await?;
            self.say(TaskState::Starting, "Downloaded", None).await;
        }
        Ok(())
    }

    /// Runs what comes before the group's tasks, in order, once.
    async fn begin_group(&mut self) -> Result<(), Over> {
        if self.task.init_tasks.is_empty() {
            return Ok(());
        }
        let begun = self.group.begun.get_or_init(|| async {
            for init in &self.task.init_tasks {
                self.init(init).await?;
            }
            Ok(())
        });
        let begun = begun.await.clone();
        let state = if begun.is_ok() {
            TaskState::Completed
        } else {
            TaskState::Failed
        };
        let reports = self.task.init_tasks.iter().map(|init| InitReport {
            name: init.name.clone(),
            state,
            exit_code: None,
        });
        self.entry.report.init_tasks = reports.collect();
        begun.map_err(|why| Over::Failed("InitTaskFailed", why))
    }

    async fn init(&self, init: &TaskDefinition) -> Result<(), String> {
        let failed = |why: String| format!("init task {} failed: {why}", init.name);
        let said = |over: Over| {
            failed(match over {
                Over::Stopped => "it was stopped".to_owned(),
                Over::Rejected(_, why) | Over::Failed(_, why) => why,
                Over::Broken(error) => error.to_string(),
            })
        };
        let folder = self.group.folder.join(safe_name(&init.name));
        let done = folder.with_extension("prepared");
        if !done.exists() {
            self.fill(init, &folder).await.map_err(said)?;
            fs::write(&done, "").map_err(|error| failed(error.to_string()))?;
        }
        let launch = self.launch(init, &folder).map_err(said)?;
        let key = run_key(&format!("{}/{}", self.group.name, init.name)).map_err(said)?;
        let run = self.shop.supervisor.start(key, launch).await;
        let run = run.map_err(|error| failed(error.to_string()))?;
        if init.daemon == Some(true) {
            self.group.keep(run);
            return Ok(());
        }
        match run.ended().await {
            Some(outcome) if outcome.end.is_success() => Ok(()),
            Some(outcome) => {
                let printed = tail(&run, Stream::Stderr).await;
                Err(failed(format!("{}: {}", outcome.reason, printed.trim())))
            }
            None => Err(failed("the agent stopped".to_owned())),
        }
    }

    /// Makes a folder and puts artifacts and templates into it.
    async fn fill(&self, definition: &TaskDefinition, folder: &Path) -> Result<(), Over> {
        fs::create_dir_all(folder)?;
        fs::create_dir_all(&self.group.folder)?;
        for artifact in definition.artifacts.iter().flatten() {
            let fetched = self.shop.fetcher.fetch(artifact, folder).await;
            fetched.map_err(|error| {
                Over::Failed(
                    "DownloadFailed",
                    format!("{}: {error}", artifact.getter_source),
                )
            })?;
        }
        self.write_templates(definition, folder)
            .map_err(|why| Over::Failed("TemplateFailed", why))
    }

    fn write_templates(&self, definition: &TaskDefinition, folder: &Path) -> Result<(), String> {
        let mut env = self.facts();
        env.extend(definition.env.clone().unwrap_or_default());
        let known = Known {
            env: &env,
            meta: &self.task.meta,
            labels: &self.shop.labels,
            robot: &self.shop.robot,
        };
        for template in definition.templates.iter().flatten() {
            let wrong = |why: String| format!("template {}: {why}", template.dest_path);
            let text = match (&template.embedded_tmpl, &template.source_path) {
                (Some(text), _) => text.clone(),
                (None, Some(source)) => artifacts::read_within(folder, source, template::LONGEST)
                    .map_err(|error| wrong(error.to_string()))?,
                (None, None) => {
                    return Err(wrong(
                        "it has neither embeddedTmpl nor sourcePath".to_owned(),
                    ));
                }
            };
            let text = template::render(&text, template, &known);
            let text = text.map_err(|error| wrong(error.to_string()))?;
            let mode = template.perms.as_deref().unwrap_or("0644");
            let mode = u32::from_str_radix(mode, 8)
                .map_err(|_| wrong(format!("{mode:?} is no file mode")))?;
            artifacts::write_within(folder, &template.dest_path, text.as_bytes(), mode & 0o777)
                .map_err(|error| wrong(error.to_string()))?;
        }
        Ok(())
    }

    fn launch(
        &self,
        definition: &TaskDefinition,
        folder: &Path,
    ) -> Result<sandlot_supervisor::Launch, Over> {
        let facts = self.facts();
        let name = format!("k8s4r-{}-{}", self.task.key, self.entry.start);
        let place = Place {
            folder,
            shared: &self.group.folder,
            site: &self.shop.folder.join("cell"),
            facts: &facts,
            name: &name,
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
        for (key, value) in &task.meta {
            facts.insert(
                format!("META_{}", key.to_uppercase().replace(['-', '.'], "_")),
                value.clone(),
            );
        }
        facts
    }

    /// The last report, which says how it all ended.
    async fn end(&mut self, over: Result<Arc<Outcome>, Over>) {
        let report = &mut self.entry.report;
        let (state, event, reason, message) = match over {
            Ok(outcome) => {
                report.exit_code = Some(outcome.end.code());
                report.signal = outcome.end.signal();
                report.finished_at = Some(outcome.finished);
                let (state, event, reason) = verdict(outcome.end);
                (state, event, reason, Some(outcome.reason.clone()))
            }
            Err(Over::Stopped) => {
                if let Some(outcome) = self.run.as_ref().and_then(Run::outcome) {
                    report.exit_code = Some(outcome.end.code());
                    report.signal = outcome.end.signal();
                }
                (
                    TaskState::Cancelled,
                    "Stopped",
                    Some("Stopped"),
                    Some("stopped on request".to_owned()),
                )
            }
            Err(Over::Rejected(reason, why)) => {
                (TaskState::Rejected, "StartFailed", Some(reason), Some(why))
            }
            Err(Over::Failed(reason, why)) => (TaskState::Failed, reason, Some(reason), Some(why)),
            Err(Over::Broken(error)) => {
                tracing::warn!(task = self.task.name, %error, "a task is left to the next agent");
                return;
            }
        };
        report.finished_at.get_or_insert_with(Timestamp::now);
        report.reason = reason.map(str::to_owned);
        self.entry.over = true;
        if let Some(run) = self.run.take() {
            self.entry.report.stdout = Some(tail(&run, Stream::Stdout).await);
            self.entry.report.stderr = Some(tail(&run, Stream::Stderr).await);
        }
        self.fill_report(state, event, message);
        if let Err(error) = self.note().await {
            tracing::error!(task = self.task.name, %error, "the end of a task cannot be noted");
        }
        self.shop
            .tell(News::Task(Box::new(self.entry.report.clone())))
            .await;
    }

    async fn say(&mut self, state: TaskState, event: &str, message: Option<String>) {
        self.fill_report(state, event, message);
        self.shop
            .tell(News::Task(Box::new(self.entry.report.clone())))
            .await;
    }

    fn fill_report(&mut self, state: TaskState, event: &str, message: Option<String>) {
        self.entry.report = TaskReport {
            key: self.task.key.clone(),
            name: self.task.name.clone(),
            namespace: self.task.namespace.clone(),
            state,
            event: Some(event.to_owned()),
            message,
            ..std::mem::take(&mut self.entry.report)
        };
    }

    async fn note(&self) -> io::Result<()> {
        let (journal, entry) = (self.shop.journal.clone(), self.entry.clone());
        let noting = tokio::task::spawn_blocking(move || journal.note(&entry));
        noting.await.map_err(io::Error::other)?
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }
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

/// What an end means: the state, the published word for it, and the reason.
fn verdict(end: End) -> (TaskState, &'static str, Option<&'static str>) {
    match end {
        End::Exited(0) => (TaskState::Completed, "Completed", None),
        End::Exited(_) => (TaskState::Failed, "Failed", Some("ExitCode")),
        End::Signalled(_) => (TaskState::Failed, "Failed", Some("Signalled")),
        End::TimedOut { .. } => (TaskState::Failed, "Timeout", Some("Timeout")),
        End::Stopped { .. } => (TaskState::Cancelled, "Stopped", Some("Stopped")),
        End::NotFound | End::NotStartable => {
            (TaskState::Failed, "StartFailed", Some("StartFailed"))
        }
        End::Lost => (TaskState::Failed, "Failed", Some("Lost")),
    }
}

/// Whether the budget of restarts allows another one: zero when it does, how long until it does,
/// or nothing when it never will.
fn restart_pause(
    restarts: &mut Vec<Timestamp>,
    budget: usize,
    interval: Option<Duration>,
    now: Timestamp,
) -> Option<Duration> {
    if let Some(interval) = interval {
        restarts.retain(|then| now.duration_since(*then).unsigned_abs() < interval);
    }
    if restarts.len() < budget {
        return Some(Duration::ZERO);
    }
    let oldest = restarts.first()?;
    let passed = now.duration_since(*oldest).unsigned_abs();
    Some(
        interval?
            .saturating_sub(passed)
            .max(Duration::from_millis(1)),
    )
}

fn run_key(text: &str) -> Result<Key, Over> {
    Key::new(text).map_err(|error| Over::Rejected("CannotRun", error.to_string()))
}

/// A name as a folder.
fn safe_name(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    name.chars().take(63).map(plain).collect()
}

/// The end of what a run has printed.
pub(crate) async fn tail(run: &Run, stream: Stream) -> String {
    let from = run.written(stream).saturating_sub(LOG_TAIL as u64);
    let mut reader = run.output(stream, from);
    let mut bytes = Vec::new();
    // What is no longer there, or cannot be read, is left out: it is for people to look at.
    while let Ok(Some(chunk)) = reader.read() {
        if let Chunk::Bytes(piece) = chunk {
            bytes.extend_from_slice(&piece);
        }
        if bytes.len() > 4 * LOG_TAIL {
            break;
        }
    }
    let from = bytes.len().saturating_sub(LOG_TAIL);
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn restarts_are_counted_within_their_interval() {
        let minute = Some(Duration::from_secs(60));
        let mut restarts = vec![];
        assert_eq!(restart_pause(&mut restarts, 0, minute, at(0)), None);
        for second in [0, 10] {
            assert_eq!(
                restart_pause(&mut restarts, 2, minute, at(second)),
                Some(Duration::ZERO)
            );
            restarts.push(at(second));
        }
        assert_eq!(
            restart_pause(&mut restarts, 2, minute, at(20)),
            Some(Duration::from_secs(40))
        );
        assert_eq!(
            restart_pause(&mut restarts, 2, minute, at(61)),
            Some(Duration::ZERO)
        );
        assert_eq!(restarts, [at(10)]);
        assert_eq!(
            restart_pause(&mut vec![at(0), at(1)], 2, None, at(99)),
            None
        );
    }

    #[test]
    fn names_make_folders_that_lead_nowhere_else() {
        assert_eq!(safe_name("../../etc"), "______etc");
        assert_eq!(safe_name("warm-up 1"), "warm-up_1");
    }
}
