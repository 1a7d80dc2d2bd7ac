//! Reports on their way to the cluster: on the disk before they count, sent in order, kept until
//! they are acknowledged.

mod spool;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use jiff::Timestamp;
use sandlot_api::robot::wire::{Acknowledged, News, Report, Reports};
use serde::{Deserialize, Serialize};

use crate::files;
use spool::Spool;

/// So many reports are kept; a robot that is cut off for longer gives up what later ones say too.
const MOST: usize = 10_000;
/// The most bytes of reports in one message.
const MESSAGE: usize = 256 << 10;
/// So many bytes of acknowledged reports may lie in the file before it is written anew.
const WASTE: u64 = 4 << 20;

/// What a line of the file says.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    /// A count begins, at the number before the first report.
    Spool { spool: String, sequence: i64 },
    /// A report.
    Report(Box<Report>),
    /// Everything up to this number was written down by the cluster.
    Acknowledged { sequence: i64 },
}

/// The reports that the cluster has not acknowledged.
pub(crate) struct Outbox {
    file: Spool,
    /// What the numbers are counted in.
    spool: String,
    /// The number of the newest report.
    sequence: i64,
    /// The number of the newest that was found on the disk.
    found: i64,
    waiting: VecDeque<Report>,
    /// How far the reports were sent over the present connection.
    sent: i64,
    /// How many bytes of the file speak of reports that are gone.
    waste: u64,
}

impl Outbox {
    /// Finds what an earlier agent left.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("outbox.jsonl");
        let mut found = Found::default();
        if let Ok(file) = File::open(&path) {
            found.read(BufReader::new(file))?;
        }
        if found.spool.is_empty() {
            found.spool = format!("{:032x}", rand::random::<u128>());
        }
        // Written anew, so that half a line that the power left does not garble the next.
        let content = content(&found.spool, found.sequence, &found.waiting)?;
        files::replace(&path, &content)?;
        Ok(Self {
            file: Spool::open(&path)?,
            spool: found.spool,
            found: found.sequence,
            sequence: found.sequence,
            waiting: found.waiting,
            sent: 0,
            waste: 0,
        })
    }

    /// Takes in what has happened. It can be sent when it is on the disk.
    pub(crate) async fn push(&mut self, at: Timestamp, news: News) -> io::Result<()> {
        let report = Report {
            sequence: self.sequence + 1,
            at,
            news,
        };
        let line = line(&Line::Report(Box::new(report.clone())))?;
        self.sequence = report.sequence;
        self.waiting.push_back(report);
        self.add(line, Some(self.sequence)).await;
        if self.waiting.len() > MOST {
            self.make_room();
        }
        Ok(())
    }

    /// Waits until more can be sent.
    pub(crate) async fn more(&mut self) {
        self.file.more().await;
    }

    /// Waits until everything is on the disk.
    pub(crate) async fn flushed(&mut self) {
        while self.file.written().max(self.found) < self.sequence {
            self.file.more().await;
        }
    }

    /// A connection was made: everything is sent again.
    pub(crate) fn begin(&mut self) {
        self.sent = 0;
    }

    /// The next message, if something is on the disk that was not sent over this connection.
    pub(crate) fn next(&mut self) -> Option<Reports> {
        let kept = self.found.max(self.file.written());
        let mut size = 0;
        let mut sent = self.waiting.iter().rev().map(|report| report.sequence);
        let after = sent.find(|number| *number <= self.sent);
        let unsent = self
            .waiting
            .iter()
            .filter(|report| report.sequence > self.sent && report.sequence <= kept);
        let reports: Vec<Report> = unsent
            .take_while(|report| {
                let first = size == 0;
                // What cannot be counted cannot be sent either; it is as long as nothing.
                size += serde_json::to_vec(report).map_or(0, |bytes| bytes.len()) + 1;
                first || size <= MESSAGE
            })
            .cloned()
            .collect();
        self.sent = reports.last()?.sequence;
        Some(Reports {
            spool: self.spool.clone(),
            after: after.unwrap_or(0),
            reports,
        })
    }

    /// How far the reports were sent over this connection.
    pub(crate) fn sent(&self) -> i64 {
        self.sent
    }

    /// Whoever takes the reports numbers nothing and acknowledges nothing: up to this one they
    /// have been taken.
    pub(crate) async fn forget(&mut self, upto: i64) -> io::Result<()> {
        let told = Acknowledged {
            spool: self.spool.clone(),
            sequence: upto,
        };
        self.acknowledge(&told).await
    }

    /// The cluster has written reports down.
    pub(crate) async fn acknowledge(&mut self, told: &Acknowledged) -> io::Result<()> {
        if told.spool != self.spool || told.sequence > self.sequence {
            return Ok(());
        }
        let before = self.waiting.len();
        while self
            .waiting
            .front()
            .is_some_and(|report| report.sequence <= told.sequence)
        {
            self.waiting.pop_front();
        }
        if self.waiting.len() == before {
            return Ok(());
        }
        let sequence = told.sequence;
        self.add(line(&Line::Acknowledged { sequence })?, None)
            .await;
        if self.waste > WASTE {
            let content = content(&self.spool, self.sequence, &self.waiting)?;
            self.file.replace(content).await;
            self.waste = 0;
        }
        Ok(())
    }

    /// Writes what waits, and ends.
    pub(crate) async fn close(self) {
        self.file.close().await;
    }

    /// How many reports wait.
    pub(crate) fn depth(&self) -> usize {
        self.waiting.len()
    }

    /// Gives up the oldest report of a task that a later one says more of.
    fn make_room(&mut self) {
        let later = |index: usize| {
            let this = attempt(&self.waiting[index]);
            let mut rest = self.waiting.iter().skip(index + 1);
            this.is_some() && rest.any(|report| attempt(report) == this)
        };
        let index = (0..self.waiting.len())
            .find(|index| later(*index))
            .unwrap_or(0);
        self.waiting.remove(index);
    }

    async fn add(&mut self, line: Vec<u8>, upto: Option<i64>) {
        self.waste += line.len() as u64;
        self.file.add(line, upto).await;
    }
}

fn line(line: &Line) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A file with what still counts.
fn content(spool: &str, newest: i64, waiting: &VecDeque<Report>) -> io::Result<Vec<u8>> {
    let before = waiting.front().map_or(newest, |first| first.sequence - 1);
    let mut content = line(&Line::Spool {
        spool: spool.to_owned(),
        sequence: before,
    })?;
    for report in waiting {
        content.extend(line(&Line::Report(Box::new(report.clone())))?);
    }
    Ok(content)
}

/// Which attempt at which task a report is about.
fn attempt(report: &Report) -> Option<&sandlot_api::robot::wire::AttemptKey> {
    match &report.news {
        News::Task(task) => Some(&task.key),
        _ => None,
    }
}

/// What a file says.
#[derive(Default)]
struct Found {
    spool: String,
    sequence: i64,
    waiting: VecDeque<Report>,
}

impl Found {
    fn read(&mut self, file: impl BufRead) -> io::Result<()> {
        for line in file.split(b'\n') {
            // Only the last line can be broken: the power went while it was written, and nobody
            // was told that it counts.
            let Ok(line) = serde_json::from_slice(&line?) else {
                break;
            };
            match line {
                Line::Spool { spool, sequence } => {
                    self.spool = spool;
                    self.sequence = sequence;
                }
                Line::Report(report) => {
                    self.sequence = report.sequence;
                    self.waiting.push_back(*report);
                }
                Line::Acknowledged { sequence } => {
                    self.waiting.retain(|report| report.sequence > sequence);
                }
            }
        }
        Ok(())
    }
}
