//! What is counted of robots, for Prometheus.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use sandlot_api::robot::RobotPhase;

use crate::broker::refused::Refused;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Phase {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// Everything that is counted. Nothing is counted by robot or task: that would grow without
/// bound.
pub(crate) struct Metrics {
    registry: Registry,
    robots: Family<Phase, Gauge<i64, AtomicI64>>,
    pub(crate) connected: Gauge<i64, AtomicI64>,
    pub(crate) beats: Counter<u64, AtomicU64>,
    pub(crate) messages: Counter<u64, AtomicU64>,
    refused: Family<Reason, Counter<u64, AtomicU64>>,
    pub(crate) writes: Counter<u64, AtomicU64>,
    pub(crate) failed_writes: Counter<u64, AtomicU64>,
    pub(crate) told: Counter<u64, AtomicU64>,
    tasks: Family<State, Counter<u64, AtomicU64>>,
    pub(crate) restarts: Counter<u64, AtomicU64>,
    pub(crate) start_latency: Histogram,
    pub(crate) waiting: Gauge<i64, AtomicI64>,
    pub(crate) oldest_beat: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            robots: Family::default(),
            connected: Gauge::default(),
            beats: Counter::default(),
            messages: Counter::default(),
            refused: Family::default(),
            writes: Counter::default(),
            failed_writes: Counter::default(),
            told: Counter::default(),
            tasks: Family::default(),
            restarts: Counter::default(),
            start_latency: Histogram::new([
                0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0,
            ]),
            waiting: Gauge::default(),
            oldest_beat: Gauge::default(),
        };
        let r = &mut metrics.registry;
        r.register("k8s4r_robots", "Robots by phase", metrics.robots.clone());
        r.register(
            "k8s4r_broker_connected",
            "1 while the broker can be reached",
            metrics.connected.clone(),
        );
        r.register("k8s4r_beats", "Heartbeats heard", metrics.beats.clone());
        r.register(
            "k8s4r_messages",
            "Messages of robots heard",
            metrics.messages.clone(),
        );
        r.register(
            "k8s4r_messages_refused",
            "Messages of robots not listened to, by why",
            metrics.refused.clone(),
        );
        r.register(
            "k8s4r_api_writes",
            "Writes to the Kubernetes API",
            metrics.writes.clone(),
        );
        r.register(
            "k8s4r_api_write_failures",
            "Writes to the Kubernetes API that failed",
            metrics.failed_writes.clone(),
        );
        r.register(
            "k8s4r_desired_documents",
            "Documents of what a robot is to do that were said",
            metrics.told.clone(),
        );
        r.register(
            "k8s4r_task_state",
            "Tasks that came to this state",
            metrics.tasks.clone(),
        );
        r.register(
            "k8s4r_task_restarts",
            "Times that tasks were started again on their robots",
            metrics.restarts.clone(),
        );
        r.register(
            "k8s4r_task_start_seconds",
            "From a task's creation to its start on the robot",
            metrics.start_latency.clone(),
        );
        r.register(
            "k8s4r_reports_waiting",
            "Reports of robots that are not written down yet",
            metrics.waiting.clone(),
        );
        r.register(
            "k8s4r_oldest_beat_seconds",
            "How long ago that Online robot was heard of that has been silent longest",
            metrics.oldest_beat.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Counts what an embedded broker did not pass on, too.
    pub(crate) fn count_broker(&mut self, refused: &Refused) {
        self.registry.register(
            "k8s4r_broker_messages_refused",
            "Messages that the embedded broker did not pass on, by why",
            refused.counts.clone(),
        );
    }

    /// Something was not listened to.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// A task came to a state.
    pub(crate) fn task(&self, state: &'static str) {
        self.tasks.get_or_create(&State { state }).inc();
    }

    /// How many robots stand where.
    pub(crate) fn phases(&self, counts: &[(RobotPhase, i64)]) {
        for (phase, count) in counts {
            let phase = match phase {
                RobotPhase::Pending => "Pending",
                RobotPhase::Online => "Online",
                RobotPhase::Offline => "Offline",
                RobotPhase::Unknown => "Unknown",
            };
            self.robots.get_or_create(&Phase { phase }).set(*count);
        }
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
