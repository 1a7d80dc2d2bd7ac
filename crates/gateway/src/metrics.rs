//! What is counted for Prometheus, under the names that dashboards of this system know. Each
//! gateway counts what it has done itself; what all of them share it looks up when it is asked.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use sandlot_decide::session::{ExecutionStatus, SessionStatus};

/// Bounds of how long a session takes to start, in seconds: from a warm pod, or a new one.
const STARTS: [f64; 9] = [0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];
/// Bounds of how long code takes, in seconds.
const RUNS: [f64; 10] = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

/// Everything that is counted. Sessions are counted together and not by name: a name for each
/// would grow without bound.
pub(crate) struct Metrics {
    registry: Registry,
    started: Histogram,
    sessions: Family<StatusLabels, Counter>,
    active: Family<StatusLabels, Gauge>,
    executions: Family<StatusLabels, Counter>,
    running: Gauge,
    took: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            started: Histogram::new(STARTS),
            sessions: Family::default(),
            active: Family::default(),
            executions: Family::default(),
            running: Gauge::default(),
            took: Histogram::new(RUNS),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "sandbox_session_start_duration_seconds",
            "From a session asked for to one that runs",
            metrics.started.clone(),
        );
        registry.register(
            "sandbox_sessions",
            "Sessions that came to this status",
            metrics.sessions.clone(),
        );
        registry.register(
            "sandbox_sessions_active",
            "Sessions that are not over, of all gateways",
            metrics.active.clone(),
        );
        registry.register(
            "sandbox_executions",
            "Executions that ended so",
            metrics.executions.clone(),
        );
        registry.register(
            "sandbox_executions_running",
            "Executions that this gateway carries out now",
            metrics.running.clone(),
        );
        registry.register(
            "sandbox_execution_duration_seconds",
            "How long code ran",
            metrics.took.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// A session came to run, this long after it was asked for where it was its first time.
    pub(crate) fn session_runs(&self, after: Option<f64>) {
        self.session_is(SessionStatus::Running);
        if let Some(seconds) = after {
            self.started.observe(seconds);
        }
    }

    /// A session came to this status.
    pub(crate) fn session_is(&self, status: SessionStatus) {
        let status = status.as_str();
        self.sessions.get_or_create(&StatusLabels { status }).inc();
    }

    /// An execution ended, after this long.
    pub(crate) fn execution_ended(&self, status: ExecutionStatus, took: Option<f64>) {
        let status = status.as_str();
        self.executions
            .get_or_create(&StatusLabels { status })
            .inc();
        if let Some(seconds) = took {
            self.took.observe(seconds);
        }
    }

    /// All of it as text, with what is looked up now.
    pub(crate) fn text(&self, active: &[(SessionStatus, i64)], running: usize) -> String {
        for (status, count) in active {
            let status = status.as_str();
            self.active
                .get_or_create(&StatusLabels { status })
                .set(*count);
        }
        self.running.set(i64::try_from(running).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_told_as_prometheus_reads_it() {
        let metrics = Metrics::default();
        metrics.session_runs(Some(0.012));
        metrics.execution_ended(ExecutionStatus::Completed, Some(0.2));
        metrics.execution_ended(ExecutionStatus::Crashed, None);
        let text = metrics.text(&[(SessionStatus::Running, 3)], 2);
        for line in [
            "sandbox_sessions_total{status=\"running\"} 1",
            "sandbox_sessions_active{status=\"running\"} 3",
            "sandbox_executions_total{status=\"completed\"} 1",
            "sandbox_executions_total{status=\"crashed\"} 1",
            "sandbox_executions_running 2",
            "sandbox_execution_duration_seconds_count 1",
            "sandbox_session_start_duration_seconds_bucket{le=\"0.02\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
