//! Writes kept in SQLite: one table of records, one transaction per batch, one fsync each.

mod folding;

use std::{
    collections::HashSet, fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc,
};

use bytes::Bytes;
use rusqlite::{Connection, TransactionBehavior, params};

use folding::Folding;

use crate::{
    error::OpenError,
    intake::{Accepted, Unsettled},
    lock::Lock,
    record::{Key, Record},
    storage::{Refusal, Storage},
};

/// Marks the file as ours; the letters are "Sdlt".
const APPLICATION: i64 = 0x5364_6c74;
/// The format this version reads and writes.
const FORMAT: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE records (
        kind TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        revision INTEGER NOT NULL,
        value BLOB NOT NULL,
        UNIQUE (kind, namespace, name)
    );
    CREATE TABLE newest (revision INTEGER NOT NULL);
    INSERT INTO newest (revision) VALUES (0);
";

const PUT: &str = "
    INSERT INTO records (kind, namespace, name, revision, value) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (kind, namespace, name)
    DO UPDATE SET revision = excluded.revision, value = excluded.value";
const DELETE: &str = "DELETE FROM records WHERE kind = ?1 AND namespace = ?2 AND name = ?3";
const ADVANCE: &str = "UPDATE newest SET revision = ?1";

/// A record as it lies on disk.
pub(crate) struct Row {
    pub(crate) key: Key,
    pub(crate) revision: u64,
    pub(crate) value: Bytes,
}

/// The database, held by this process alone. Dropping it folds SQLite's write-ahead log into
/// the file.
pub(crate) struct Disk {
    // Dropped in this order: the last connection to go folds in all that is left of the log.
    folding: Folding,
    connection: Connection,
    /// How many writes of the next batch are in the transaction that is open; none is without any.
    begun: usize,
    _lock: Lock,
}

impl Disk {
    /// Opens or creates a database, recovering what a crash may have left half done.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let lock = Lock::take(path)?;
        // Created here and not by SQLite, because it may hold secrets.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| OpenError::Io {
                path: path.to_owned(),
                source,
            })?;
        let unreadable = |source| OpenError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let mut connection = Connection::open(path).map_err(unreadable)?;
        prepare(&mut connection, path)?;
        let folding = Folding::beside(&connection, path).map_err(unreadable)?;
        Ok(Disk {
            folding,
            connection,
            begun: 0,
            _lock: lock,
        })
    }

    /// The newest revision ever committed, also if that write was a deletion.
    pub(crate) fn revision(&self) -> Result<u64, rusqlite::Error> {
        let newest = self
            .connection
            .query_row("SELECT revision FROM newest", [], |row| row.get(0));
        newest.map(i64::cast_unsigned)
    }

    /// Hands over every record, in no particular order.
    pub(crate) fn load(&self, mut each: impl FnMut(Row)) -> Result<(), rusqlite::Error> {
        // A hundred thousand records share a few dozen kinds and namespaces.
        let mut words = Words::default();
        let mut query = self
            .connection
            .prepare("SELECT kind, namespace, name, revision, value FROM records")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let key = Key {
                kind: words.share(row.get_ref(0)?.as_str()?),
                namespace: words.share(row.get_ref(1)?.as_str()?),
                name: row.get_ref(2)?.as_str()?.into(),
            };
            let revision = row.get::<_, i64>(3)?.cast_unsigned();
            each(Row {
                key,
                revision,
                value: Bytes::copy_from_slice(row.get_ref(4)?.as_blob()?),
            });
        }
        Ok(())
    }

    fn try_begin<F>(&mut self, writes: &[Unsettled<F>]) -> Result<(), rusqlite::Error> {
        for Unsettled { record, deleted } in writes {
            self.write(record, *deleted)?;
        }
        Ok(())
    }

    fn try_commit<F>(&mut self, batch: &[Accepted<F>]) -> Result<(), rusqlite::Error> {
        let Some(newest) = batch.last() else {
            return Ok(());
        };
        for write in &batch[self.begun..] {
            self.write(&write.record, write.deleted)?;
        }
        let revision = newest.record.revision.cast_signed();
        self.connection
            .prepare_cached(ADVANCE)?
            .execute([revision])?;
        self.connection.execute_batch("COMMIT")?;
        self.begun = 0;
        let bytes = batch.iter().map(|write| write.record.value.len()).sum();
        self.folding.committed(&self.connection, batch.len(), bytes);
        Ok(())
    }

    /// Writes the next record of a transaction, or the first.
    fn write<F>(&mut self, record: &Record<F>, deleted: bool) -> Result<(), rusqlite::Error> {
        if self.begun == 0 {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
        }
        self.begun += 1;
        let Key {
            kind,
            namespace,
            name,
        } = &record.key;
        if deleted {
            let mut delete = self.connection.prepare_cached(DELETE)?;
            delete.execute(params![kind, namespace, name])?;
        } else {
            let mut put = self.connection.prepare_cached(PUT)?;
            let revision = record.revision.cast_signed();
            put.execute(params![kind, namespace, name, revision, &record.value[..]])?;
        }
        Ok(())
    }

    /// Nothing of the transaction has happened.
    fn turn_back(&mut self) {
        if std::mem::take(&mut self.begun) > 0
            && !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be turned back");
        }
    }
}

impl<F: Send + Sync> Storage<F> for Disk {
    fn begin(&mut self, writes: &[Unsettled<F>]) -> bool {
        let begun = self.try_begin(writes);
        if let Err(error) = &begun {
            tracing::debug!(%error, "writes that have time could not be begun on");
            self.turn_back();
        }
        begun.is_ok()
    }

    fn commit(&mut self, batch: &[Accepted<F>]) -> Result<(), Refusal> {
        self.try_commit(batch).map_err(|error| {
            self.turn_back();
            error.to_string().into()
        })
    }
}

/// Sets the connection up and makes sure that the file is ours and of a format we know.
fn prepare(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let unreadable = |source| OpenError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let pragma = |connection: &Connection, name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(unreadable)
    };
    let (application, format) = (
        pragma(connection, "application_id")?,
        pragma(connection, "user_version")?,
    );
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(unreadable)?;
    if application != APPLICATION && (application != 0 || tables > 0) {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
        });
    }
    if format > FORMAT {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found: format,
            known: FORMAT,
        });
    }
    configure(connection).map_err(unreadable)?;
    if application == 0 {
        create(connection).map_err(unreadable)
    } else {
        Ok(())
    }
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Every commit is fsynced before it is acknowledged.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    // Somebody may be looking into the database.
    connection.busy_timeout(std::time::Duration::from_secs(5))
}

fn create(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

/// Strings that are each kept once.
#[derive(Default)]
struct Words(HashSet<Arc<str>>);

impl Words {
    fn share(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.0.get(word) {
            return known.clone();
        }
        let word: Arc<str> = word.into();
        self.0.insert(word.clone());
        word
    }
}

#[cfg(test)]
mod tests;
