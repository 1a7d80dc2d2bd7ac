//! Tasks that were ordered one by one, as servers of the published protocol do it: kept, so that
//! the robot goes on with them after it was switched off.

use std::{
    io,
    path::{Path, PathBuf},
};

use sandlot_api::robot::wire::{
    AttemptKey, DesiredTask,
    upstream::{Action, Dispatch, State},
};

use crate::files;

/// So many orders are kept; those that are over make room.
const MOST: usize = 256;

/// The orders, oldest first.
pub(crate) struct Orders {
    path: PathBuf,
    tasks: Vec<DesiredTask>,
}

impl Orders {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("orders.json");
        let tasks = files::read_json(&path)?.unwrap_or_default();
        Ok(Self { path, tasks })
    }

    /// The tasks that were ordered.
    pub(crate) fn tasks(&self) -> &[DesiredTask] {
        &self.tasks
    }

    /// Takes an order: to run a task, or to stop it. Says whether that is news.
    pub(crate) async fn take(
        &mut self,
        order: Dispatch,
        over: impl Fn(&AttemptKey) -> bool,
    ) -> io::Result<bool> {
        let task = DesiredTask::of(&order.task, 1);
        let known = self
            .tasks
            .iter_mut()
            .find(|known| known.key.uid == task.key.uid);
        let news = match (order.action, known) {
            (Action::Create, None) => self.add(task, over),
            // Ordered once more: an attempt takes effect once.
            (Action::Create, Some(known)) if known.key == task.key => false,
            (Action::Create, Some(known)) => {
                *known = task;
                true
            }
            (Action::Delete, Some(known)) => !std::mem::replace(&mut known.stop, true),
            (Action::Delete, None) => false,
        };
        if news {
            files::keep_json(&self.path, &self.tasks).await?;
        }
        Ok(news)
    }

    /// Takes all tasks at once, as they are retained for a robot that was away. One that is missing
    /// is not ended for that: only an order ends a task.
    pub(crate) async fn take_all(
        &mut self,
        state: State,
        over: impl Fn(&AttemptKey) -> bool,
    ) -> io::Result<bool> {
        let mut news = false;
        for task in state.tasks {
            let order = Dispatch {
                action: Action::Create,
                task,
            };
            news |= self.take(order, &over).await?;
        }
        Ok(news)
    }

    fn add(&mut self, task: DesiredTask, over: impl Fn(&AttemptKey) -> bool) -> bool {
        if self.tasks.len() >= MOST {
            self.tasks.retain(|known| !over(&known.key));
        }
        if self.tasks.len() >= MOST {
            tracing::warn!(
                task = task.name,
                "too many tasks were ordered; this one is passed over"
            );
            return false;
        }
        self.tasks.push(task);
        true
    }
}

#[cfg(test)]
mod tests {
    use sandlot_api::robot::Task;
    use serde_json::json;

    use super::*;

    fn task(uid: &str) -> Task {
        serde_json::from_value(json!({
            "metadata": { "name": "hello", "namespace": "default", "uid": uid },
            "spec": { "name": "hello", "driver": "raw_exec", "config": { "execConfig": { "command": "true" } } },
        }))
        .unwrap()
    }

    fn order(action: Action, uid: &str) -> Dispatch {
        Dispatch {
            action,
            task: task(uid),
        }
    }

    #[tokio::test]
    async fn an_order_counts_once_and_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut orders = Orders::open(folder.path()).unwrap();
        let none = |_: &AttemptKey| false;
        assert!(orders.take(order(Action::Create, "a"), none).await.unwrap());
        assert!(!orders.take(order(Action::Create, "a"), none).await.unwrap());
        let both = State {
            tasks: vec![task("a"), task("b")],
        };
        assert!(orders.take_all(both, none).await.unwrap());
        assert!(orders.take(order(Action::Delete, "a"), none).await.unwrap());
        assert!(!orders.take(order(Action::Delete, "a"), none).await.unwrap());
        let orders = Orders::open(folder.path()).unwrap();
        let stopped: Vec<bool> = orders.tasks().iter().map(|task| task.stop).collect();
        assert_eq!(stopped, [true, false]);
    }

    #[tokio::test]
    async fn what_is_over_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut orders = Orders::open(folder.path()).unwrap();
        for number in 0..MOST {
            assert!(orders.add(DesiredTask::of(&task(&number.to_string()), 1), |_| false));
        }
        let more = DesiredTask::of(&task("more"), 1);
        assert!(!orders.add(more.clone(), |_| false));
        assert!(orders.add(more, |key| key.uid == "0"));
        assert_eq!(orders.tasks().len(), MOST);
    }
}
