//! What is counted, under the names that dashboards of this API know.

use jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use sandlot_decide::pool::Counts;

use crate::{agents::Report, index::Key};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    namespace: String,
    pool: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabels {
    controller: &'static str,
}

/// Everything that is counted. Tasks and sandboxes are counted together and not by name: a name
/// per task would grow without bound.
pub(crate) struct Metrics {
    registry: Registry,
    pools: Family<PoolLabels, Gauge>,
    task_states: Family<StateLabels, Counter>,
    task_duration: Histogram,
    claims: Histogram,
    removed: Counter,
    robot_jobs: Family<StateLabels, Counter>,
    looks: Family<ControllerLabels, Counter>,
    errors: Family<ControllerLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            pools: Family::default(),
            task_states: Family::default(),
            task_duration: Histogram::new([
                0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0,
            ]),
            claims: Histogram::new([0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0]),
            removed: Counter::default(),
            robot_jobs: Family::default(),
            looks: Family::default(),
            errors: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "arl_pool_utilization",
            "Pods of a pool by status",
            metrics.pools.clone(),
        );
        registry.register(
            "arl_task_state",
            "Tasks that came to this state",
            metrics.task_states.clone(),
        );
        registry.register(
            "arl_task_duration_seconds",
            "From a task's first step to its last",
            metrics.task_duration.clone(),
        );
        registry.register(
            "arl_sandbox_allocation_duration_seconds",
            "From a sandbox first seen to its pod given",
            metrics.claims.clone(),
        );
        registry.register(
            "arl_task_cleanup",
            "Finished tasks removed",
            metrics.removed.clone(),
        );
        registry.register(
            "k8s4r_job_state",
            "Jobs of robots that came to this state",
            metrics.robot_jobs.clone(),
        );
        registry.register(
            "arl_reconcile",
            "Looks of a controller at an object",
            metrics.looks.clone(),
        );
        registry.register(
            "arl_reconcile_errors",
            "Writes of a controller that failed",
            metrics.errors.clone(),
        );
        metrics
    }
}

impl Metrics {
    pub(crate) fn pool(&self, key: &Key, counts: &Counts) {
        for (status, count) in [
            ("idle", counts.idle),
            ("ready", counts.ready),
            ("allocated", counts.taken),
        ] {
            let labels = PoolLabels {
                namespace: key.namespace.to_string(),
                pool: key.name.to_string(),
                status,
            };
            self.pools.get_or_create(&labels).set(i64::from(count));
        }
    }

    /// A pool is gone, and its numbers with it.
    pub(crate) fn forget_pool(&self, key: &Key) {
        for status in ["idle", "ready", "allocated"] {
            self.pools.remove(&PoolLabels {
                namespace: key.namespace.to_string(),
                pool: key.name.to_string(),
                status,
            });
        }
    }

    pub(crate) fn task_ended(&self, report: &Report) {
        let state = if report.succeeded {
            "Succeeded"
        } else {
            "Failed"
        };
        self.task_states.get_or_create(&StateLabels { state }).inc();
        if let Some(duration) = &report.status.duration {
            self.task_duration.observe(duration.0.as_secs_f64());
        }
    }

    pub(crate) fn robot_job(&self, state: sandlot_api::robot::JobState) {
        let state = state.name();
        self.robot_jobs.get_or_create(&StateLabels { state }).inc();
    }

    pub(crate) fn task_removed(&self) {
        self.removed.inc();
    }

    pub(crate) fn claimed(&self, seen: Timestamp, now: Timestamp) {
        self.claims.observe(now.duration_since(seen).as_secs_f64());
    }

    pub(crate) fn looked(&self, controller: &'static str, times: usize) {
        if times > 0 {
            self.looks
                .get_or_create(&ControllerLabels { controller })
                .inc_by(times as u64);
        }
    }

    pub(crate) fn failed(&self, controller: &'static str) {
        self.errors
            .get_or_create(&ControllerLabels { controller })
            .inc();
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
