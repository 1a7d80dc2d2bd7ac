//! The tables, version by version. What has been published once is never changed.

use std::borrow::Cow;

use sqlx::{
    AssertSqlSafe, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::Dialect;

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

/// Brings a database of this kind up to date.
pub(super) fn migrator(dialect: Dialect) -> Migrator {
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
        ..Migrator::DEFAULT
    }
}
