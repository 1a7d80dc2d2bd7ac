//! Reports on their way to the cluster: on the disk before they count, sent in order, kept until
//! they are acknowledged.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sandlot_api::robot::wire::{Acknowledged, News, Report, Reports};
use serde::{Deserialize, Serialize};

use crate::files;

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
    path: PathBuf,
    file: File,
    /// What the numbers are counted in.
    spool: String,
    /// The number of the newest report.
    sequence: i64,
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
        let mut outbox = Self {
            file: File::options().create(true).append(true).open(&path)?,
            path,
            spool: found.spool,
            sequence: found.sequence,
            waiting: found.waiting,
            sent: 0,
            waste: 0,
        };
        // Written anew, so that half a line that the power left does not garble the next.
        outbox.rewrite()?;
        Ok(outbox)
    }

    /// Takes in what has happened. It is on the disk when this returns.
    pub(crate) fn push(&mut self, at: Timestamp, news: News) -> io::Result<()> {
        let report = Report {
            sequence: self.sequence + 1,
            at,
            news,
        };
        self.append(&Line::Report(Box::new(report.clone())))?;
        self.sequence = report.sequence;
        self.waiting.push_back(report);
        if self.waiting.len() > MOST {
            self.make_room();
        }
        Ok(())
    }

    /// A connection was made: everything is sent again.
    pub(crate) fn begin(&mut self) {
        self.sent = 0;
    }

    /// The next message, if something waits that was not sent over this connection.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        let mut size = 0;
        let mut sent = self.waiting.iter().rev().map(|report| report.sequence);
        let after = sent.find(|number| *number <= self.sent);
        let unsent = self
            .waiting
            .iter()
            .filter(|report| report.sequence > self.sent);
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
        serde_json::to_vec(&Reports {
            spool: self.spool.clone(),
            after: after.unwrap_or(0),
            reports,
        })
        .ok()
    }

    /// The cluster has written reports down.
    pub(crate) fn acknowledge(&mut self, told: &Acknowledged) -> io::Result<()> {
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
        self.append(&Line::Acknowledged {
            sequence: told.sequence,
        })?;
        match self.waste > WASTE {
            true => self.rewrite(),
            false => Ok(()),
        }
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

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)?;
        self.waste += bytes.len() as u64;
        self.file.sync_data()
    }

    /// Writes the file anew with what still counts.
    fn rewrite(&mut self) -> io::Result<()> {
        let before = self
            .waiting
            .front()
            .map_or(self.sequence, |first| first.sequence - 1);
        let mut content = serde_json::to_vec(&Line::Spool {
            spool: self.spool.clone(),
            sequence: before,
        })?;
        content.push(b'\n');
        for report in &self.waiting {
            serde_json::to_writer(&mut content, &Line::Report(Box::new(report.clone())))?;
            content.push(b'\n');
        }
        files::replace(&self.path, &content)?;
        self.file = File::options().append(true).open(&self.path)?;
        self.waste = 0;
        Ok(())
    }

    /// Removes the file: for a robot that is told to forget everything.
    #[cfg(test)]
    fn lose(&self) {
        std::fs::remove_file(&self.path).unwrap();
    }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use sandlot_api::robot::{
        TaskState,
        wire::{AttemptKey, TaskReport},
    };

    use super::*;

    fn news(uid: &str, state: TaskState) -> News {
        News::Task(Box::new(TaskReport {
            key: AttemptKey {
                uid: uid.to_owned(),
                ..AttemptKey::default()
            },
            state,
            ..TaskReport::default()
        }))
    }

    fn sent(outbox: &mut Outbox) -> Vec<i64> {
        let mut numbers = Vec::new();
        while let Some(message) = outbox.next() {
            let reports: Reports = serde_json::from_slice(&message).unwrap();
            numbers.extend(reports.reports.iter().map(|report| report.sequence));
        }
        numbers
    }

    fn acknowledged(outbox: &Outbox, sequence: i64) -> Acknowledged {
        Acknowledged {
            spool: outbox.spool.clone(),
            sequence,
        }
    }

    #[test]
    fn reports_wait_for_their_acknowledgement_over_connections_and_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path()).unwrap();
        for uid in ["a", "b", "c"] {
            outbox
                .push(Timestamp::UNIX_EPOCH, news(uid, TaskState::Running))
                .unwrap();
        }
        assert_eq!(sent(&mut outbox), [1, 2, 3]);
        assert!(sent(&mut outbox).is_empty(), "once over each connection");
        outbox.begin();
        assert_eq!(sent(&mut outbox), [1, 2, 3]);
        outbox.acknowledge(&acknowledged(&outbox, 2)).unwrap();
        drop(outbox);

        let mut outbox = Outbox::open(folder.path()).unwrap();
        assert_eq!(sent(&mut outbox), [3]);
        outbox
            .push(Timestamp::UNIX_EPOCH, news("d", TaskState::Running))
            .unwrap();
        assert_eq!(sent(&mut outbox), [4]);
        outbox.acknowledge(&acknowledged(&outbox, 4)).unwrap();
        drop(outbox);
        let mut outbox = Outbox::open(folder.path()).unwrap();
        outbox
            .push(Timestamp::UNIX_EPOCH, news("e", TaskState::Running))
            .unwrap();
        assert_eq!(sent(&mut outbox), [5], "numbers are never used twice");
    }

    #[test]
    fn an_acknowledgement_of_another_count_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path()).unwrap();
        outbox
            .push(Timestamp::UNIX_EPOCH, news("a", TaskState::Running))
            .unwrap();
        let old = acknowledged(&outbox, 1);
        outbox.lose();
        drop(outbox);
        let mut outbox = Outbox::open(folder.path()).unwrap();
        outbox
            .push(Timestamp::UNIX_EPOCH, news("b", TaskState::Running))
            .unwrap();
        outbox.acknowledge(&old).unwrap();
        assert_eq!(outbox.depth(), 1);
    }

    #[test]
    fn a_full_outbox_gives_up_what_later_reports_say_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path()).unwrap();
        outbox
            .push(Timestamp::UNIX_EPOCH, news("alone", TaskState::Completed))
            .unwrap();
        for _ in 0..3 {
            outbox
                .push(Timestamp::UNIX_EPOCH, news("often", TaskState::Running))
                .unwrap();
        }
        outbox.make_room();
        assert_eq!(sent(&mut outbox), [1, 3, 4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn wherever_the_power_goes_whole_lines_are_found_again(
            count in 1usize..20, cut in 0usize..4000, known in 0i64..20
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut outbox = Outbox::open(folder.path()).unwrap();
            for number in 0..count {
                outbox.push(Timestamp::UNIX_EPOCH, news(&number.to_string(), TaskState::Running)).unwrap();
            }
            outbox.acknowledge(&acknowledged(&outbox, known)).unwrap();
            let path = outbox.path.clone();
            let whole = fs::read(&path).unwrap();
            drop(outbox);
            fs::write(&path, &whole[..cut.min(whole.len())]).unwrap();

            let mut outbox = Outbox::open(folder.path()).unwrap();
            let numbers = sent(&mut outbox);
            prop_assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
            prop_assert!(numbers.last().is_none_or(|last| *last <= count as i64));
            if cut >= whole.len() {
                let first = if known <= count as i64 { known + 1 } else { 1 };
                let expected: Vec<_> = (first..=count as i64).collect();
                prop_assert_eq!(numbers, expected);
            }
        }
    }
}
