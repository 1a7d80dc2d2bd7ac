//! What the robot does: tasks, commands and installations, begun and ended as the document says.

use std::{collections::HashSet, fs, time::Duration};

use jiff::Timestamp;
use sandlot_api::robot::{
    DisconnectAction,
    wire::{AttemptKey, Desired, DesiredCommand, DesiredDeployment, DesiredTask},
};
use sandlot_supervisor::{Key, Run};
use tokio::{sync::watch, task::JoinError};
use tokio_util::sync::CancellationToken;

use super::{Agent, Installing, Living};
use crate::{
    apps::{self, Signs},
    journal::is_safe,
    task::{Told, live},
};

/// How long a task whose robot is cut off waits before it is stopped, where its group wants that.
const CUT_OFF: Duration = Duration::from_secs(300);

impl Agent {
    /// Begins what is wanted and does not go, and stops what goes and is not wanted.
    pub(super) async fn settle(&mut self) {
        let document = self.wanted.document().clone();
        if let Some(labels) = &document.labels {
            renew(&self.labels, labels);
        }
        let came = Timestamp::now();
        let mut known = HashSet::new();
        for task in &self.told_tasks() {
            if !is_safe(&task.key) {
                tracing::warn!(
                    task = task.name,
                    "a task's uid makes no sense; it is passed over"
                );
                continue;
            }
            let key = task.key.to_string();
            known.insert(key.clone());
            let living = self.tasks.entry(key).or_insert_with(|| {
                let (stop, stopped) = watch::channel(task.stop);
                let (notes, noted) = watch::channel(task.meta.clone());
                let told = Told { stopped, noted };
                let life = tokio::spawn(live(self.shop.clone(), task.clone(), told));
                Living {
                    stop,
                    notes,
                    said: None,
                    life,
                }
            });
            renew(&living.notes, &task.meta);
            if task.stop {
                living.stop.send_replace(true);
            }
        }
        self.forget(known).await;
        // What is not wanted any more is known from the disk, should it ever be again.
        let open: HashSet<String> = errands(&document).collect();
        self.begun
            .retain(|name, over| !*over || open.contains(name));
        for command in document.commands {
            let name = command_name(&command);
            if !self.begun.contains_key(&name) {
                self.begun.insert(name.clone(), false);
                let (commands, shop) = (self.commands.clone(), self.shop.clone());
                self.errands.spawn(async move {
                    commands.take(&shop, command, came).await;
                    (name, true)
                });
            }
        }
        for one in self.installing.values() {
            if !open.contains(&one.errand) {
                one.unwanted.cancel();
            }
        }
        self.install(document.deployments);
    }

    /// Begins installations. Of each program one goes on at a time: the next has its turn when that is
    /// over, so that what was wanted last is what is there in the end.
    fn install(&mut self, wanted: Vec<DesiredDeployment>) {
        for wanted in wanted {
            let errand = app_name(&wanted);
            if self.begun.contains_key(&errand) || self.installing.contains_key(&wanted.name) {
                continue;
            }
            self.begun.insert(errand.clone(), false);
            let unwanted = CancellationToken::new();
            let signs = Signs {
                busy: self.busy.clone(),
                unwanted: unwanted.clone(),
                metrics: self.metrics.clone(),
            };
            let (program, named) = (wanted.name.clone(), errand.clone());
            let installing = apps::install(self.shop.clone(), signs, wanted);
            let task = self.errands.spawn(async move { (named, installing.await) });
            let installing = Installing {
                errand,
                unwanted,
                task,
            };
            self.installing.insert(program, installing);
        }
    }

    /// All tasks that the robot was told of: those of the document, and those that were ordered one
    /// by one. Of a task that is both, the document says the truth.
    fn told_tasks(&self) -> Vec<DesiredTask> {
        let document = &self.wanted.document().tasks;
        let ordered = self.orders.tasks().iter();
        let ordered = ordered.filter(|task| document.iter().all(|one| one.key.uid != task.key.uid));
        document.iter().chain(ordered).cloned().collect()
    }

    /// Stops and forgets tasks that are not wanted any more.
    async fn forget(&mut self, known: HashSet<String>) {
        let mut folders = Vec::new();
        self.tasks.retain(|key, living| {
            if known.contains(key) {
                return true;
            }
            living.stop.send_replace(true);
            let ended = living.life.is_finished();
            if ended {
                folders.push(self.shop.folder.join("tasks").join(key));
            }
            !ended
        });
        let (shop, commands) = (self.shop.clone(), self.commands.clone());
        let clearing = tokio::task::spawn_blocking(move || {
            for folder in folders {
                // What stays is cleared away when the agent next forgets a task of that name.
                drop(fs::remove_dir_all(folder));
            }
            let wanted = |key: &AttemptKey| known.contains(&key.to_string());
            if let Err(error) = shop.journal.tidy(wanted) {
                tracing::warn!(%error, "old attempts cannot be forgotten");
            }
            let tidied = shop.groups.tidy(&shop.folder.join("groups"));
            if let Err(error) = tidied.and_then(|()| commands.tidy()) {
                tracing::warn!(%error, "what old groups and commands left cannot be cleared away");
            }
        });
        // One that panics has said so, and is done again with the next document.
        let _ = clearing.await;
    }

    /// A command or an installation is over.
    pub(super) fn errand_done(&mut self, done: Result<(String, bool), JoinError>) {
        match done {
            Ok((name, true)) => {
                self.begun.insert(name, true);
            }
            // It gave up, and begins anew should it be wanted again.
            Ok((name, false)) => {
                self.begun.remove(&name);
            }
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "a command or an installation panicked"),
        }
        let before = self.installing.len();
        self.installing.retain(|_, one| !one.task.is_finished());
        if self.installing.len() < before {
            self.install(self.wanted.document().deployments.clone());
        }
    }

    /// The present run of a task, or its last; also of one that is over and not wanted any more, as
    /// long as the robot remembers it.
    pub(super) async fn run_of(&self, uid: &str) -> Option<Run> {
        let told = self.told_tasks();
        let told = told.iter().rfind(|task| task.key.uid == uid);
        let entry = match told {
            Some(task) => self.shop.journal.find(&task.key),
            None => self.shop.journal.last_of(uid),
        };
        let entry = entry.ok().flatten();
        let (start, attempt) = match (&entry, told) {
            (Some(entry), _) => (entry.start, &entry.key),
            (None, Some(task)) => (0, &task.key),
            (None, None) => return None,
        };
        let key = Key::new(format!("{attempt}#{start}")).ok()?;
        self.shop.supervisor.find(&key).await.ok().flatten()
    }

    /// Stops tasks whose group wants that while the robot is cut off.
    pub(super) fn stop_those_cut_off(&mut self) {
        let Some(since) = self.alone_since else {
            return;
        };
        for task in &self.told_tasks() {
            let policy = task.disconnect.clone().unwrap_or_default();
            let patience = policy.after.map_or(CUT_OFF, |after| after.0);
            if policy.action == Some(DisconnectAction::Stop)
                && since.elapsed() >= patience
                && let Some(living) = self.tasks.get(&task.key.to_string())
            {
                living.stop.send_replace(true);
            }
        }
    }
}

/// Tells what is new to those who look on.
fn renew<T: Clone + PartialEq>(told: &watch::Sender<T>, fresh: &T) {
    told.send_if_modified(|known| {
        let changed = known != fresh;
        known.clone_from(fresh);
        changed
    });
}

/// What a document asks to be done once.
fn errands(document: &Desired) -> impl Iterator<Item = String> {
    let commands = document.commands.iter().map(command_name);
    commands.chain(document.deployments.iter().map(app_name))
}

fn command_name(command: &DesiredCommand) -> String {
    format!("command {}", command.uid)
}

fn app_name(wanted: &DesiredDeployment) -> String {
    format!("app {} {}", wanted.uid, wanted.generation)
}
