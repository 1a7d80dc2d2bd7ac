//! Taking over a pod that a node before this one started.

use std::sync::Arc;
use std::time::Duration;

use super::ending::explain;
use super::launch::{id_of, parse_id};
use super::view::ContainerView;
use super::{Making, Tending, volumes};
use crate::images;
use crate::keeper::message::{ContainerState, Tell};
use crate::pod::Facts;
use crate::sandbox::Sandbox;

/// A keeper that lives answers at once.
const PATIENCE: Duration = Duration::from_secs(10);

impl Tending {
    /// Takes over a sandbox from before: what runs goes on, what ended is learnt.
    pub(super) async fn adopt(&mut self, found: Sandbox) {
        let sandbox = Arc::new(found);
        let making = volumes::Making {
            shared: &self.shared,
            pod: &self.facts.pod,
            sandbox: &sandbox,
            tokens: &self.freshness.tokens,
        };
        let ready = volumes::find(&making).await;
        // What they show may have changed while nobody watched.
        self.freshness.soil();
        self.volumes = Some(ready);
        self.making = Making::Ready;
        self.facts.sandbox = Some(self.shared.pod_ip(&sandbox.record));
        self.sandbox = Some(sandbox.clone());
        for (name, state) in states_of(&sandbox, &self.facts).await {
            self.adopt_container(&sandbox, &name.0, name.1, state);
        }
        let goes_on = self.facts.runs.values().any(|run| run.finished().is_none());
        if goes_on && !sandbox.record.keeper_lives() {
            // The machine was restarted, or the node was stopped with its pods.
            return self.begin_anew();
        }
        self.follow();
        self.watch_storage();
    }

    fn adopt_container(
        &mut self,
        sandbox: &Arc<Sandbox>,
        name: &str,
        attempt: u32,
        state: ContainerState,
    ) {
        let id = id_of(name, attempt);
        let Ok(plan) = crate::sandbox::read_plan(&sandbox.container_dir(&id)) else {
            return;
        };
        let image = images::noted(&sandbox.container_dir(&id));
        if let Some(run) = self.facts.runs.get_mut(name) {
            run.attempt = attempt + 1;
            if run.image_id.is_empty() {
                run.image_id = image.iter().map(|image| image.id.clone()).collect();
            }
        }
        if let Some(image) = image {
            self.images.insert(name.to_owned(), image);
        }
        let previous_log = self.log_before(name, attempt);
        self.show_container(
            name,
            ContainerView {
                id: id.clone(),
                pid: state.pid(),
                running: true,
                log: self.shared.logs.path(&self.facts.pod, &id),
                previous_log,
                group: self.shared.cgroups.sandbox(sandbox.id()).container(&id),
                plan: Arc::new(plan),
            },
        );
        match state {
            ContainerState::Running { since, .. } => {
                self.facts.on_running(name, since);
                self.watch_health(name);
            }
            ContainerState::Ended(ended) => {
                let end = explain(
                    &self.facts.pod,
                    Some(sandbox),
                    &self.shared,
                    name,
                    &id,
                    &ended,
                );
                self.end_of(name, end);
            }
        }
    }
}

/// The last run of each container, from the keeper if it lives and from its notes if not.
async fn states_of(sandbox: &Sandbox, facts: &Facts) -> Vec<((String, u32), ContainerState)> {
    let mut states = std::collections::BTreeMap::new();
    let mut put = |id: &str, state: ContainerState| {
        if let Some((name, attempt)) = parse_id(id) {
            let newest = states.get(&name).is_none_or(|(known, _)| *known <= attempt);
            if newest {
                states.insert(name, (attempt, state));
            }
        }
    };
    for name in facts.runs.keys() {
        for (attempt, ended) in crate::sandbox::ended_runs(&sandbox.dir, name) {
            put(&id_of(name, attempt), ContainerState::Ended(ended));
        }
    }
    let told = async {
        let channel = sandbox.watch().await?;
        while let (Tell::State { container, state }, _) = channel.receive::<Tell>().await? {
            put(&container, state);
        }
        Ok::<_, std::io::Error>(())
    };
    // A keeper that has gone tells nothing; its notes are all there is.
    let _ = tokio::time::timeout(PATIENCE, told).await;
    states
        .into_iter()
        .map(|(name, (attempt, state))| ((name, attempt), state))
        .collect()
}
