//! What a robot's agent counts, for a Prometheus on the robot or near it.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64},
    },
};

use axum::{Router, routing::get};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use tokio::net::TcpListener;

/// Everything that is counted.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) connected: Gauge<i64, AtomicI64>,
    pub(crate) connections: Counter<u64, AtomicU64>,
    pub(crate) beats: Counter<u64, AtomicU64>,
    pub(crate) reports: Counter<u64, AtomicU64>,
    pub(crate) waiting: Gauge<i64, AtomicI64>,
    pub(crate) tasks: Gauge<i64, AtomicI64>,
    pub(crate) postponed: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("k8s4r_agent"),
            connected: Gauge::default(),
            connections: Counter::default(),
            beats: Counter::default(),
            reports: Counter::default(),
            waiting: Gauge::default(),
            tasks: Gauge::default(),
            postponed: Counter::default(),
        };
        let Self {
            registry,
            connected,
            connections,
            beats,
            reports,
            waiting,
            tasks,
            postponed,
        } = &mut metrics;
        let connected_help = "Whether the broker is connected";
        registry.register("connected", connected_help, connected.clone());
        let connections_help = "Connections to the broker that were made";
        registry.register("connections", connections_help, connections.clone());
        registry.register("beats", "Beats that were sent", beats.clone());
        let reports_help = "Things that happened and were reported";
        registry.register("reports", reports_help, reports.clone());
        let waiting_help = "Reports that the cluster has not written down yet";
        registry.register("reports_waiting", waiting_help, waiting.clone());
        registry.register("tasks", "Tasks that are wanted here", tasks.clone());
        let postponed_help = "Times that an update was ready and found the robot busy";
        registry.register("updates_postponed", postponed_help, postponed.clone());
        metrics
    }
}

impl Metrics {
    /// All of it, as Prometheus reads it.
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Serves the page for as long as this is waited for.
pub(crate) async fn serve(address: SocketAddr, metrics: Arc<Metrics>) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let page = move || async move { metrics.text() };
    let router = Router::new().route("/metrics", get(page));
    axum::serve(listener, router).await
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_as_prometheus_wants_them() {
        let metrics = super::Metrics::default();
        metrics.beats.inc();
        metrics.waiting.set(3);
        let text = metrics.text();
        assert!(text.contains("k8s4r_agent_beats_total 1\n"), "{text}");
        assert!(text.contains("k8s4r_agent_reports_waiting 3\n"), "{text}");
    }
}
