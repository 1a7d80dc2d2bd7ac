//! What probes find out, and what follows from it.

use super::{Tending, view_of};
use crate::pod::Unhealthy;
use crate::probe::{self, Verdict};

impl Tending {
    /// Starts what looks after a running container.
    pub(super) fn watch_health(&mut self, name: &str) {
        let (Some(container), Some(sandbox)) = (self.container(name), self.sandbox.clone()) else {
            return;
        };
        let Some(attempt) = self.facts.run(name).map(|run| run.attempt) else {
            return;
        };
        let Some(view) = view_of(&self.view, name) else {
            return;
        };
        let cancel = self.stop.child_token();
        let target = probe::Target {
            shared: self.shared.clone(),
            sandbox,
            container: container.clone(),
            view,
            ip: self.facts.sandbox.clone().flatten(),
        };
        let events = self.events.clone();
        if probe::start(target, attempt, events, cancel.clone()) {
            self.probes.insert(name.to_owned(), cancel);
        }
    }

    pub(super) fn on_probed(&mut self, name: &str, attempt: u32, verdict: Verdict) {
        let Some(run) = self
            .facts
            .runs
            .get_mut(name)
            .filter(|run| run.attempt == attempt && run.is_running())
        else {
            return;
        };
        match verdict {
            Verdict::Started => {
                run.started = true;
                let has_readiness = self
                    .facts
                    .pod
                    .spec
                    .iter()
                    .flat_map(crate::pod::containers)
                    .any(|(_, one)| one.name == name && one.readiness_probe.is_some());
                if let Some(run) = self.facts.runs.get_mut(name).filter(|_| !has_readiness) {
                    run.ready = true;
                }
            }
            Verdict::Ready => run.ready = true,
            Verdict::Unready => run.ready = false,
            Verdict::Failing(message) => {
                let (events, pod) = (&self.shared.events, &self.facts.pod);
                events.warning(pod, Some(name), "Unhealthy", &message);
            }
            Verdict::Dead { probe, grace } => {
                let grace = grace.unwrap_or_else(|| crate::pod::grace(&self.facts.pod));
                run.unhealthy = Some(Unhealthy { probe, grace });
            }
        }
    }
}
