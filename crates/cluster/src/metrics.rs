//! The server's numbers, as Prometheus reads them.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sandlot_store::Store;

use crate::record::Facts;

/// The format of [`Metrics::text`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds; watches and streams are not measured.
const DURATIONS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// What a request was about. Only kinds that exist are named, so nobody can make up labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    code: u16,
}

/// What a request was about, as the numbers tell requests apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels {
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
}

/// The server's numbers.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Asked, Histogram, fn() -> Histogram>,
    running: Gauge<i64, AtomicI64>,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::default();
        let requests = Family::default();
        let durations =
            Family::new_with_constructor((|| Histogram::new(DURATIONS)) as fn() -> Histogram);
        let running = Gauge::default();
        registry.register("apiserver_request", "Requests answered", requests.clone());
        registry.register(
            "apiserver_request_duration_seconds",
            "How long requests took, watches and streams aside",
            durations.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests being answered",
            running.clone(),
        );
        Metrics {
            registry,
            requests,
            durations,
            running,
        }
    }

    /// Counts a request as running until the answer is dropped.
    pub(crate) fn begin(&self) -> Running {
        self.running.inc();
        Running(self.running.clone())
    }

    /// Counts a request that was answered.
    pub(crate) fn answered(&self, labels: Labels, code: u16, took: Duration) {
        let Labels {
            verb,
            group,
            version,
            resource,
            subresource,
        } = labels;
        if !matches!(verb, "watch" | "connect") {
            let asked = Asked {
                verb,
                group: group.clone(),
                version: version.clone(),
                resource: resource.clone(),
                subresource: subresource.clone(),
            };
            self.durations
                .get_or_create(&asked)
                .observe(took.as_secs_f64());
        }
        self.requests
            .get_or_create(&Answered {
                verb,
                group,
                version,
                resource,
                subresource,
                code,
            })
            .inc();
    }

    /// Everything as text, with the store's own numbers.
    pub(crate) fn text(&self, store: &Store<Facts>) -> String {
        let mut all = String::new();
        let mut of_store = Registry::default();
        of_store.register_collector(Box::new(StoreNumbers(store.clone())));
        // Writing into a string cannot fail; each part ends with a mark of its own.
        let _ = encode(&mut all, &self.registry);
        all.truncate(all.trim_end_matches("# EOF\n").len());
        let _ = encode(&mut all, &of_store);
        all
    }
}

/// A request that is being answered.
pub(crate) struct Running(Gauge<i64, AtomicI64>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct StoreNumbers(Store<Facts>);

impl std::fmt::Debug for StoreNumbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreNumbers")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    resource: String,
}

impl Collector for StoreNumbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stats = self.0.stats();
        let numbers: [(&str, &str, u64); 5] = [
            ("store_revision", "The newest revision", stats.revision),
            (
                "store_record_bytes",
                "Bytes of all objects",
                stats.record_bytes as u64,
            ),
            (
                "store_history_events",
                "Past changes that can be watched from",
                stats.history_events as u64,
            ),
            (
                "store_disk_bytes",
                "Size of the database file",
                stats.disk_bytes,
            ),
            (
                "apiserver_longrunning_watches",
                "Watches that are open",
                stats.watchers as u64,
            ),
        ];
        for (name, help, value) in numbers {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let kinds = Family::<OfKind, Gauge>::default();
        for (kind, count) in self.0.counts() {
            let label = OfKind {
                resource: kind.to_string(),
            };
            kinds
                .get_or_create(&label)
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let metric = encoder.encode_descriptor(
            "apiserver_storage_objects",
            "Objects of each kind",
            None,
            kinds.metric_type(),
        )?;
        kinds.encode(metric)
    }
}
