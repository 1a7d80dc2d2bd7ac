//! The task executor: keeps a pod's tasks as a controller wants them, over HTTP.

mod door;
mod neighbour;
mod plan;
mod wire;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub(crate) use door::router;
use jiff::Timestamp;
pub use neighbour::Site;
use plan::{Present, plan};
use sandlot_supervisor::{Key, Launch, Run};
use serde::{Deserialize, Serialize};
use wire::{Status, Task};

use crate::{agent::Agent, environment::Environment};

/// How long the status of something that just began may take.
const GLANCE: Duration = Duration::from_secs(2);

/// A task that is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    task: Task,
    /// Sets it apart from earlier tasks of the same name.
    key: Key,
}

/// Keeps the tasks.
pub(crate) struct Tasks {
    agent: Arc<Agent>,
    /// Where they run.
    site: Site,
    /// Where the list of tasks is kept.
    path: PathBuf,
    entries: Mutex<Vec<Entry>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Tasks {
    /// The tasks noted in `state`. Those that were being stopped go on being stopped, and one
    /// that was noted but not begun begins.
    pub(crate) async fn open(
        agent: Arc<Agent>,
        site: Site,
        state: &Path,
    ) -> std::io::Result<Arc<Self>> {
        let path = state.join("tasks.json");
        let entries: Vec<Entry> = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let tasks = Arc::new(Self {
            agent,
            site,
            path,
            entries: Mutex::new(entries.clone()),
            changing: tokio::sync::Mutex::default(),
        });
        for entry in entries {
            if entry.task.deletion_timestamp.is_some() {
                tasks.see_off(entry);
            } else if let Err(error) = tasks.begin(&entry).await {
                eprintln!("sandlot-agent: task {}: {error}", entry.task.name);
            }
        }
        Ok(tasks)
    }

    /// Makes these the tasks. Complaints name the tasks that could not be had.
    pub(crate) async fn set(self: &Arc<Self>, wanted: Vec<Task>) -> Result<(), Vec<String>> {
        let _turn = self.changing.lock().await;
        self.arrange(wanted).await
    }

    /// The same, for whoever has the turn.
    async fn arrange(self: &Arc<Self>, wanted: Vec<Task>) -> Result<(), Vec<String>> {
        let present = self.present().await;
        let names: Vec<&str> = wanted.iter().map(|task| task.name.as_str()).collect();
        let views: Vec<Present<'_>> = present
            .iter()
            .map(|(entry, over)| Present {
                name: &entry.task.name,
                going: entry.task.deletion_timestamp.is_some(),
                over: *over,
            })
            .collect();
        let plan = plan(&names, &views);
        let mut complaints: Vec<String> = plan
            .refuse
            .iter()
            .map(|index| format!("task {}: another task is active", names[*index]))
            .collect();
        for name in &plan.stop {
            complaints.extend(self.stop(name).err());
        }
        for index in plan.start {
            complaints.extend(self.start(wanted[index].clone()).await.err());
        }
        if complaints.is_empty() {
            Ok(())
        } else {
            Err(complaints)
        }
    }

    /// Adds one task.
    pub(crate) async fn create(self: &Arc<Self>, task: Task) -> Result<Task, String> {
        let name = task.name.clone();
        // Held from the look at what is there on: who comes meanwhile must not be taken for unwanted.
        let _turn = self.changing.lock().await;
        let mut wanted: Vec<Task> = self
            .list()
            .await
            .into_iter()
            .filter(|t| t.deletion_timestamp.is_none())
            .collect();
        if wanted.iter().any(|there| there.name == name) {
            return Err(format!("task {name} exists"));
        }
        wanted.push(task);
        self.arrange(wanted)
            .await
            .map_err(|complaints| complaints.join("; "))?;
        self.get(&name)
            .await
            .ok_or_else(|| format!("task {name} is gone already"))
    }

    /// Stops one task, if it is there.
    pub(crate) async fn delete(self: &Arc<Self>, name: &str) -> Result<(), String> {
        let _turn = self.changing.lock().await;
        self.stop(name)
    }

    /// All tasks as they are.
    pub(crate) async fn list(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for entry in self.snapshot() {
            tasks.push(self.status(entry).await);
        }
        tasks
    }

    /// The task of this name that is not being stopped, or the one that is.
    pub(crate) async fn get(&self, name: &str) -> Option<Task> {
        let mut found: Vec<Task> = self
            .list()
            .await
            .into_iter()
            .filter(|task| task.name == name)
            .collect();
        found.sort_by_key(|task| task.deletion_timestamp.is_some());
        found.into_iter().next()
    }

    async fn present(&self) -> Vec<(Entry, bool)> {
        let mut present = Vec::new();
        for entry in self.snapshot() {
            let over = self
                .run(&entry.key)
                .await
                .is_none_or(|run| run.outcome().is_some());
            present.push((entry, over));
        }
        present
    }

    async fn status(&self, entry: Entry) -> Task {
        let status = match self.run(&entry.key).await {
            None => Status::Waiting {
                reason: "Unknown".to_owned(),
                message: "nothing is known of its process".to_owned(),
            },
            Some(run) => {
                // What was just started has begun or failed in no time.
                let _ = tokio::time::timeout(GLANCE, run.started()).await;
                match run.outcome() {
                    Some(outcome) => Status::of(&outcome),
                    None => Status::Running {
                        started_at: run.began(),
                    },
                }
            }
        };
        Task {
            process_status: Some(status),
            ..entry.task
        }
    }

    async fn run(&self, key: &Key) -> Option<Run> {
        self.agent.supervisor.find(key).await.ok().flatten()
    }

    async fn start(&self, task: Task) -> Result<(), String> {
        let name = task.name.clone();
        let told = |error: &dyn std::fmt::Display| format!("task {name}: {error}");
        let unique = self.agent.next_key();
        let key = Key::new(format!("task/{unique}")).map_err(|error| told(&error))?;
        let task = Task {
            process_status: None,
            deletion_timestamp: None,
            ..task
        };
        let entry = Entry { task, key };
        self.launch(&entry.task).map_err(|error| told(&error))?;
        // Noted first: who comes back after a crash begins it, and the key keeps it to once.
        self.change(|entries| entries.push(entry.clone()))
            .map_err(|error| told(&error))?;
        if let Err(error) = self.begin(&entry).await {
            self.change(|entries| entries.retain(|other| other.key != entry.key))
                .map_err(|error| told(&error))?;
            return Err(told(&error));
        }
        Ok(())
    }

    async fn begin(&self, entry: &Entry) -> Result<(), String> {
        let launch = self.launch(&entry.task)?;
        let started = self.agent.supervisor.start(entry.key.clone(), launch).await;
        started.map(drop).map_err(|error| error.to_string())
    }

    fn stop(self: &Arc<Self>, name: &str) -> Result<(), String> {
        let mut going = None;
        let noted = self.change(|entries| {
            let wanted = |entry: &&mut Entry| {
                entry.task.name == name && entry.task.deletion_timestamp.is_none()
            };
            if let Some(entry) = entries.iter_mut().find(wanted) {
                entry.task.deletion_timestamp = Some(Timestamp::now());
                going = Some(entry.clone());
            }
        });
        noted.map_err(|error| format!("task {name}: {error}"))?;
        if let Some(entry) = going {
            self.see_off(entry);
        }
        Ok(())
    }

    /// Stops a task's whole tree, and forgets the task when nobody of it is left.
    fn see_off(self: &Arc<Self>, entry: Entry) {
        let this = self.clone();
        tokio::spawn(async move {
            if let Some(run) = this.run(&entry.key).await {
                run.stop();
                run.swept().await;
            }
            if let Err(error) =
                this.change(|entries| entries.retain(|other| other.key != entry.key))
            {
                eprintln!("sandlot-agent: task {}: {error}", entry.task.name);
            }
        });
    }

    /// Changes the list, on the disk first.
    fn change(&self, change: impl FnOnce(&mut Vec<Entry>)) -> std::io::Result<()> {
        let mut entries = self.entries();
        let mut changed = entries.clone();
        change(&mut changed);
        let unfinished = self.path.with_extension("new");
        let file = std::fs::File::create(&unfinished)?;
        serde_json::to_writer(&file, &changed)?;
        file.sync_data()?;
        std::fs::rename(&unfinished, &self.path)?;
        *entries = changed;
        Ok(())
    }

    fn snapshot(&self) -> Vec<Entry> {
        self.entries().clone()
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        // The list is replaced as a whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tasks {
    /// The command of a task, in the container it is meant for.
    fn launch(&self, task: &Task) -> Result<Launch, String> {
        let Some(process) = task.process.clone() else {
            return Err("only tasks with a process can be run here".to_owned());
        };
        if process.command.is_empty() {
            return Err("the command is empty: give at least a program".to_owned());
        }
        let neighbour = self.site.neighbour()?;
        let mut launch = Launch::new(process.command.into_iter().chain(process.args));
        let wanted = process.env.into_iter();
        let wanted = wanted.map(|variable| (variable.name, variable.value));
        match neighbour {
            None => {
                launch.env = self.agent.environment.with(wanted.collect());
                launch.cwd = Some(self.agent.directory(&process.working_dir));
            }
            Some(neighbour) => {
                launch.env = Environment::new(neighbour.env).with(wanted.collect());
                launch.cwd = Some(neighbour.directory.join(process.working_dir));
                launch.user = Some(neighbour.user);
                launch.inside = Some(neighbour.inside);
            }
        }
        let seconds = process
            .timeout_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0);
        launch.timeout = seconds.map(Duration::from_secs);
        Ok(launch)
    }
}
