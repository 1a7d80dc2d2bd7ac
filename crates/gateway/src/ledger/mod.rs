//! What is known of sessions, executions and templates, in an SQL database: SQLite on one
//! machine, MariaDB, MySQL or PostgreSQL where several gateways share one.
//!
//! The SQL is what all of them understand. What is asked for by itself has a column of its own;
//! the rest of a thing is one JSON text, so that a new field needs no migration.

mod executions;
mod leases;
mod schema;
mod sessions;
mod templates;

use std::{path::Path, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    AnyPool, AssertSqlSafe, Row,
    any::{AnyPoolOptions, AnyRow},
    migrate::MigrateError,
};

pub(crate) use executions::{Execution, File, Metrics, Outcome, Request};
pub(crate) use sessions::{
    InstallStatus, Installed, Requirement, Session, SessionFacts, SessionFilter,
};
pub(crate) use templates::{Template, TemplateFacts};

/// How long a request waits for the database before it is told so.
const PATIENCE: Duration = Duration::from_secs(10);

/// How SQLite is used: durable, and by one process alone. Several gateways share a server.
const PRAGMAS: [&str; 3] = [
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
];

/// The database.
#[derive(Clone)]
pub(crate) struct Ledger {
    pool: AnyPool,
    dialect: Dialect,
}

/// Which SQL is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    MySql,
    Postgres,
}

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// There is one with this id or name already.
    #[error("it is there already")]
    Taken,
    /// Somebody else changed it again and again at the same time.
    #[error("it is being changed by others: try again")]
    Contended,
    /// The address of the database says nothing.
    #[error("{0:?} is no database: use sqlite:, mysql:, mariadb: or postgres:")]
    NoDatabase(String),
    /// What is written there cannot be read.
    #[error("the database holds something that cannot be read: {0}")]
    Unreadable(String),
    /// The database is away, or refused.
    #[error("the database {}", words(.0))]
    Database(#[from] sqlx::Error),
    /// The tables could not be made.
    #[error("the database's tables could not be made: {0}")]
    Migration(#[from] MigrateError),
}

impl LedgerError {
    /// Whether the database may come, or come back, by itself.
    pub(crate) fn is_away(&self) -> bool {
        let error = match self {
            Self::Database(error) => error,
            Self::Migration(MigrateError::Execute(error)) => error,
            _ => return false,
        };
        matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut)
    }
}

/// What a driver's error means to somebody who waits.
fn words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::PoolTimedOut => format!("does not answer: nothing within {PATIENCE:?}"),
        sqlx::Error::Io(error) => format!("does not answer: {error}"),
        error => format!("refused: {error}"),
    }
}

impl Ledger {
    /// Opens the database and brings its tables up to date; whoever comes first does that.
    pub(crate) async fn open(url: &str, connections: u32) -> Result<Self, LedgerError> {
        sqlx::any::install_default_drivers();
        let (dialect, url) = dialect(url)?;
        let options = AnyPoolOptions::new().acquire_timeout(PATIENCE);
        let options = match dialect {
            // SQLite has one writer. Who waits for it waits here, in order. A file does not hang
            // up: its connection is never asked whether it is there, nor let go, and others in.
            Dialect::Sqlite => options
                .max_connections(1)
                .test_before_acquire(false)
                .idle_timeout(None)
                .max_lifetime(None)
                .after_connect(|connection, _| {
                    Box::pin(async move {
                        for pragma in PRAGMAS {
                            sqlx::query(pragma).execute(&mut *connection).await?;
                        }
                        Ok(())
                    })
                }),
            _ => options.max_connections(connections),
        };
        let pool = options.connect(&url).await?;
        schema::bring_up_to_date(&pool, dialect, &url).await?;
        let ledger = Self { pool, dialect };
        if dialect == Dialect::Sqlite {
            // Whoever held them was this database's only user, and is gone.
            ledger.drop_leases().await?;
        }
        Ok(ledger)
    }

    /// The address of an SQLite database in a file.
    pub(crate) fn in_file(path: &Path) -> String {
        format!("sqlite://{}?mode=rwc", path.display())
    }

    /// Whether the database answers.
    pub(crate) async fn answers(&self) -> Result<(), LedgerError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Lets go of the database once what is under way is done.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// SQL with its `?` as this database wants them.
    fn sql(&self, text: &str) -> AssertSqlSafe<String> {
        if self.dialect != Dialect::Postgres {
            return AssertSqlSafe(text.to_owned());
        }
        let mut numbered = String::with_capacity(text.len() + 16);
        for (index, part) in text.split('?').enumerate() {
            if index > 0 {
                numbered += &format!("${index}");
            }
            numbered += part;
        }
        AssertSqlSafe(numbered)
    }
}

/// Which database an address means, and the address as the driver wants it.
fn dialect(url: &str) -> Result<(Dialect, String), LedgerError> {
    let (scheme, rest) = url
        .split_once(':')
        .ok_or_else(|| LedgerError::NoDatabase(hidden(url)))?;
    // As Python programs write it: mysql+aiomysql://…
    let plain = scheme.split('+').next().unwrap_or(scheme);
    match plain {
        "sqlite" => Ok((Dialect::Sqlite, format!("sqlite:{rest}"))),
        "mysql" | "mariadb" => Ok((Dialect::MySql, format!("mysql:{rest}"))),
        "postgres" | "postgresql" => Ok((Dialect::Postgres, format!("postgres:{rest}"))),
        _ => Err(LedgerError::NoDatabase(hidden(url))),
    }
}

/// An address without the password that may be in it.
pub(crate) fn hidden(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, place)) => format!("…@{place}"),
        None => url.to_owned(),
    }
}

/// What a failed insert means.
fn taken(error: sqlx::Error) -> LedgerError {
    match error.as_database_error() {
        Some(refused) if refused.is_unique_violation() => LedgerError::Taken,
        _ => LedgerError::Database(error),
    }
}

/// A text column. Some drivers give long text as bytes.
fn text(row: &AnyRow, column: &str) -> Result<String, LedgerError> {
    match row.try_get::<String, _>(column) {
        Ok(text) => Ok(text),
        Err(_) => {
            let bytes: Vec<u8> = row.try_get(column)?;
            String::from_utf8(bytes).map_err(|_| unreadable(column, "it is not text"))
        }
    }
}

fn number(row: &AnyRow, column: &str) -> Result<i64, LedgerError> {
    Ok(row.try_get(column)?)
}

/// A column that holds JSON.
fn json<T: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, LedgerError> {
    serde_json::from_str(&text(row, column)?).map_err(|error| unreadable(column, error))
}

fn unreadable(column: &str, why: impl std::fmt::Display) -> LedgerError {
    LedgerError::Unreadable(format!("{column}: {why}"))
}

/// Whether a row can have this in a text column: PostgreSQL keeps no zero bytes, and refuses
/// to look for one.
fn can_be_kept(text: &str) -> bool {
    !text.contains('\0')
}

/// As JSON text. The types of this module always have one.
fn as_text(value: &impl Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(value).map_err(|error| LedgerError::Unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them_and_passwords_are_not_repeated() {
        let known = |url| dialect(url).unwrap();
        assert_eq!(known("sqlite:///a/b.db").0, Dialect::Sqlite);
        assert_eq!(
            known("mysql+aiomysql://u:p@h:3306/d"),
            (Dialect::MySql, "mysql://u:p@h:3306/d".to_owned())
        );
        assert_eq!(known("postgresql://h/d").1, "postgres://h/d");
        let refused = dialect("oracle://u:secret@h/d").unwrap_err().to_string();
        assert!(
            refused.contains("h/d") && !refused.contains("secret"),
            "{refused}"
        );
    }
}
