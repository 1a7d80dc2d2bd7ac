//! The tables, version by version. What has been published once is never changed.

use std::borrow::Cow;

use sqlx::{
    AnyConnection, AnyPool, AssertSqlSafe, Connection, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::{Dialect, LedgerError, number};

/// The versions. `LONGTEXT` is what each database calls text of any length, and `BYTEWISE` how
/// it compares text by its bytes alone: `A1` and `a1` are two sessions everywhere.
const VERSIONS: [(i64, &str, &str); 1] = [(
    1,
    "sessions, executions, templates",
    "CREATE TABLE t_sandbox_session (
        f_id VARCHAR(64) BYTEWISE NOT NULL PRIMARY KEY,
        f_template_id VARCHAR(64) BYTEWISE NOT NULL,
        f_status VARCHAR(20) BYTEWISE NOT NULL,
        f_created_by VARCHAR(64) BYTEWISE NOT NULL,
        f_created_at BIGINT NOT NULL,
        f_updated_at BIGINT NOT NULL,
        f_last_activity_at BIGINT NOT NULL,
        f_revision BIGINT NOT NULL,
        f_facts LONGTEXT NOT NULL
    );
    CREATE INDEX i_sandbox_session_created ON t_sandbox_session (f_created_at);
    CREATE INDEX i_sandbox_session_status ON t_sandbox_session (f_status, f_created_at);
    CREATE TABLE t_sandbox_execution (
        f_id VARCHAR(64) BYTEWISE NOT NULL PRIMARY KEY,
        f_session_id VARCHAR(64) BYTEWISE NOT NULL,
        f_status VARCHAR(20) BYTEWISE NOT NULL,
        f_gateway VARCHAR(64) BYTEWISE NOT NULL,
        f_created_at BIGINT NOT NULL,
        f_updated_at BIGINT NOT NULL,
        f_request LONGTEXT NOT NULL,
        f_outcome LONGTEXT NOT NULL
    );
    CREATE INDEX i_sandbox_execution_session ON t_sandbox_execution (f_session_id, f_created_at);
    CREATE INDEX i_sandbox_execution_status ON t_sandbox_execution (f_status);
    CREATE TABLE t_sandbox_template (
        f_id VARCHAR(64) BYTEWISE NOT NULL PRIMARY KEY,
        f_name VARCHAR(255) BYTEWISE NOT NULL UNIQUE,
        f_created_at BIGINT NOT NULL,
        f_updated_at BIGINT NOT NULL,
        f_facts LONGTEXT NOT NULL
    );
    CREATE TABLE t_sandbox_lease (
        f_name VARCHAR(96) BYTEWISE NOT NULL PRIMARY KEY,
        f_holder VARCHAR(64) BYTEWISE NOT NULL,
        f_expires_at BIGINT NOT NULL
    );",
)];

/// What the first version makes. Where that broke off, nobody has kept anything there yet.
const FIRST: [&str; 4] = [
    "t_sandbox_session",
    "t_sandbox_execution",
    "t_sandbox_template",
    "t_sandbox_lease",
];

/// Brings the tables up to date. Of several gateways that start at once one does it, and the
/// others wait for it.
pub(super) async fn bring_up_to_date(
    pool: &AnyPool,
    dialect: Dialect,
    url: &str,
) -> Result<(), LedgerError> {
    let migrator = migrator(dialect);
    if dialect != Dialect::MySql {
        return Ok(migrator.run(pool).await?);
    }
    // The migrator's own lock is to wait for ever, which MariaDB takes for not at all. This one
    // has a connection of its own, so that a pool of one does not wait for itself.
    let mut guard = AnyConnection::connect(url).await?;
    let locked = sqlx::query("SELECT GET_LOCK('t_sandbox_migration', 60) AS f_held");
    let locked = locked.fetch_one(&mut guard).await?;
    if number(&locked, "f_held")? != 1 {
        return Err(LedgerError::Contended);
    }
    clear_torn(pool).await?;
    migrator.run(pool).await?;
    // The lock goes with its connection.
    Ok(guard.close().await?)
}

/// MySQL and MariaDB make tables one by one: a gateway that was killed in between left some of
/// them.
async fn clear_torn(pool: &AnyPool) -> Result<(), LedgerError> {
    let known = "SELECT COUNT(*) AS f_count FROM information_schema.tables
         WHERE table_schema = DATABASE() AND table_name = 't_sandbox_migration'";
    let torn = "SELECT COUNT(*) AS f_count FROM t_sandbox_migration
         WHERE version = 1 AND success = FALSE";
    for question in [known, torn] {
        let answer = sqlx::query(question).fetch_one(pool).await?;
        if number(&answer, "f_count")? == 0 {
            return Ok(());
        }
    }
    tracing::warn!("a gateway was killed while it made the tables; they are made anew");
    for table in FIRST {
        let drop = AssertSqlSafe(format!("DROP TABLE IF EXISTS {table}"));
        sqlx::query(drop).execute(pool).await?;
    }
    sqlx::query("DELETE FROM t_sandbox_migration WHERE version = 1 AND success = FALSE")
        .execute(pool)
        .await?;
    Ok(())
}

/// The versions as a database of this kind makes them.
fn migrator(dialect: Dialect) -> Migrator {
    let (long, bytewise) = match dialect {
        Dialect::MySql => ("LONGTEXT", "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
        Dialect::Postgres => ("TEXT", "COLLATE \"C\""),
        Dialect::Sqlite => ("TEXT", "COLLATE BINARY"),
    };
    let migrations = VERSIONS.map(|(version, name, sql)| {
        Migration::new(
            version,
            Cow::Borrowed(name),
            MigrationType::Simple,
            AssertSqlSafe(sql.replace("LONGTEXT", long).replace("BYTEWISE", bytewise))
                .into_sql_str(),
            false,
        )
    });
    Migrator {
        migrations: Cow::Owned(migrations.to_vec()),
        table_name: Cow::Borrowed("t_sandbox_migration"),
        locking: dialect != Dialect::MySql,
        ..Migrator::DEFAULT
    }
}
