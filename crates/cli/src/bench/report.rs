//! What a benchmark says: each promise with its bar, what was measured, and on what.

use std::{fmt, time::Duration};

use serde::Serialize;

/// Durations of one thing done many times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub(crate) fn add(&mut self, one: Duration) {
        self.0.push(one);
    }

    /// Adds those of another.
    pub(crate) fn extend(&mut self, others: Samples) {
        self.0.extend(others.0);
    }

    /// The value that this share of the samples does not exceed.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        sorted.get(index.min(last)).copied().unwrap_or_default()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// What a promise demands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    /// The value may not be larger.
    AtMost(f64),
    /// The value may not be smaller.
    AtLeast(f64),
}

impl Bar {
    fn met(self, value: f64) -> bool {
        match self {
            Bar::AtMost(limit) => value <= limit,
            Bar::AtLeast(limit) => value >= limit,
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bar::AtMost(limit) => write!(f, "≤ {limit}"),
            Bar::AtLeast(limit) => write!(f, "≥ {limit}"),
        }
    }
}

/// One measured number.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bar: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<usize>,
}

/// All that one run of a benchmark measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    benchmark: &'static str,
    build: &'static str,
    machine: Machine,
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// What the numbers were measured on.
#[derive(Debug, Serialize)]
struct Machine {
    cores: usize,
    cpu: String,
    kernel: String,
}

impl Report {
    /// An empty report.
    pub(crate) fn new(benchmark: &'static str) -> Report {
        let build = if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        };
        Report {
            benchmark,
            build,
            machine: Machine::here(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A single number.
    pub(crate) fn number(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        bar: Option<Bar>,
    ) {
        self.rows.push(Row {
            what: what.into(),
            value,
            unit,
            bar: bar.map(|bar| bar.to_string()),
            met: bar.map(|bar| bar.met(value)),
            samples: None,
        });
    }

    /// The p50 and p99 of samples, in milliseconds, each with its bar.
    pub(crate) fn latency(
        &mut self,
        what: &str,
        samples: &Samples,
        p50: Option<f64>,
        p99: Option<f64>,
    ) {
        for (share, label, bar) in [(0.5, "p50", p50), (0.99, "p99", p99)] {
            let value = samples.percentile(share).as_secs_f64() * 1e3;
            self.number(
                format!("{what}, {label}"),
                value,
                "ms",
                bar.map(Bar::AtMost),
            );
            if let Some(row) = self.rows.last_mut() {
                row.samples = Some(samples.count());
            }
        }
    }

    /// Something a reader of the numbers must know.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Prints it for people, or as JSON.
    pub(crate) fn print(&self, json: bool) -> serde_json::Result<()> {
        if json {
            println!("{}", serde_json::to_string_pretty(self)?);
        } else {
            print!("{self}");
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cores, cpu, kernel } = &self.machine;
        writeln!(
            f,
            "{} ({} build; {cores} × {cpu}; Linux {kernel})",
            self.benchmark, self.build
        )?;
        for row in &self.rows {
            let mark = match row.met {
                Some(true) => "✓",
                Some(false) => "✗",
                None => " ",
            };
            let bar = row.bar.as_deref().unwrap_or("");
            writeln!(
                f,
                "{mark} {:<58} {:>12.2} {:<6} {bar}",
                row.what, row.value, row.unit
            )?;
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        Ok(())
    }
}

impl Machine {
    fn here() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown CPU", |(_, name)| name.trim());
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: cpu.to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_taken_from_the_sorted_samples() {
        let mut samples = Samples::default();
        for millis in (1..=100).rev() {
            samples.add(Duration::from_millis(millis));
        }
        assert_eq!(samples.percentile(0.0), Duration::from_millis(1));
        assert_eq!(samples.percentile(0.99), Duration::from_millis(99));
        assert_eq!(samples.percentile(1.0), Duration::from_millis(100));
        assert_eq!(Samples::default().percentile(0.5), Duration::ZERO);
    }

    #[test]
    fn a_missed_bar_is_marked() {
        let mut report = Report::new("test");
        report.number("slow", 3.0, "ms", Some(Bar::AtMost(2.0)));
        report.number("fast", 9.0, "/s", Some(Bar::AtLeast(2.0)));
        let text = report.to_string();
        assert!(text.contains("✗ slow") && text.contains("✓ fast"), "{text}");
    }
}
