//! The file that reports are kept in, and the thread that writes it: what comes together is on the
//! disk together, and nobody else waits for the disk.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use tokio::sync::{mpsc, watch};

use crate::files;

/// So many things may wait to be written; then whoever reports waits too.
const BACKLOG: usize = 256;

/// Something to write.
enum Order {
    /// Lines to add. The last report that they hold, if they hold one.
    Add { lines: Vec<u8>, upto: Option<i64> },
    /// The file is to be this.
    Replace(Vec<u8>),
}

/// The file, as those who report see it.
pub(super) struct Spool {
    /// Nothing once it is closed.
    orders: Option<mpsc::Sender<Order>>,
    written: watch::Receiver<i64>,
    writer: Option<JoinHandle<()>>,
}

impl Spool {
    /// Begins to write a file that is there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (orders, mut asked) = mpsc::channel(BACKLOG);
        let (tell, written) = watch::channel(0);
        let mut writer = Writer {
            file: File::options().append(true).open(path)?,
            path: path.to_owned(),
        };
        let work = move || {
            while let Some(first) = asked.blocking_recv() {
                let rest = std::iter::from_fn(|| asked.try_recv().ok()).take(BACKLOG);
                if let Some(upto) = writer.write(std::iter::once(first).chain(rest)) {
                    tell.send_replace(upto);
                }
            }
        };
        let writer = std::thread::Builder::new()
            .name("outbox".to_owned())
            .stack_size(256 << 10)
            .spawn(work)?;
        Ok(Self {
            orders: Some(orders),
            written,
            writer: Some(writer),
        })
    }

    /// Adds lines, the last of which may be a report's.
    pub(super) async fn add(&self, lines: Vec<u8>, upto: Option<i64>) {
        self.ask(Order::Add { lines, upto }).await;
    }

    /// Puts something else in place of all that is in the file.
    pub(super) async fn replace(&self, content: Vec<u8>) {
        self.ask(Order::Replace(content)).await;
    }

    async fn ask(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // The thread goes only when this does.
            let _ = orders.send(order).await;
        }
    }

    /// The last report that was written.
    pub(super) fn written(&self) -> i64 {
        *self.written.borrow()
    }

    /// Waits until more is written.
    pub(super) async fn more(&mut self) {
        if self.written.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Writes what waits, and ends.
    pub(super) async fn close(mut self) {
        self.orders = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so.
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }
}

/// Who writes.
struct Writer {
    path: PathBuf,
    file: File,
}

impl Writer {
    /// Writes all of it; the last report among it. One that cannot be kept counts as written: it
    /// is in memory, and better sent than lost.
    fn write(&mut self, orders: impl Iterator<Item = Order>) -> Option<i64> {
        let (mut lines, mut last) = (Vec::new(), None);
        let mut kept = Ok(());
        for order in orders {
            match order {
                Order::Add { lines: more, upto } => {
                    lines.extend(more);
                    last = last.max(upto);
                }
                Order::Replace(content) => match self.replace(&content) {
                    // What was to be added before is in there, as far as it still counts.
                    Ok(()) => lines.clear(),
                    Err(error) => kept = Err(error),
                },
            }
        }
        if !lines.is_empty() {
            kept = kept.and(self.add(&lines));
        }
        if let Err(error) = kept {
            tracing::error!(%error, "reports cannot be kept on the disk; they are lost if the power goes");
        }
        last
    }

    fn add(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.file.sync_data()
    }

    fn replace(&mut self, content: &[u8]) -> io::Result<()> {
        files::replace(&self.path, content)?;
        self.file = File::options().append(true).open(&self.path)?;
        Ok(())
    }
}
