//! Leases: which gateways are alive, and which one sweeps. They run by the database's clock, so
//! that gateways whose clocks differ agree on who holds one.

use std::{collections::BTreeSet, time::Duration};

use super::{Dialect, Ledger, LedgerError, taken, text};

impl Ledger {
    /// Takes or renews a lease for so long. Says whether it is held now.
    pub(crate) async fn hold(
        &self,
        name: &str,
        holder: &str,
        length: Duration,
    ) -> Result<bool, LedgerError> {
        let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX / 2);
        let clock = self.clock();
        let sql = self.sql(&format!(
            "UPDATE t_sandbox_lease SET f_holder = ?, f_expires_at = {clock} + ?
             WHERE f_name = ? AND (f_holder = ? OR f_expires_at < {clock})"
        ));
        let renewed = sqlx::query(sql)
            .bind(holder.to_owned())
            .bind(length)
            .bind(name.to_owned())
            .bind(holder.to_owned())
            .execute(&self.pool)
            .await?;
        if renewed.rows_affected() == 1 {
            return Ok(true);
        }
        let sql = self.sql(&format!(
            "INSERT INTO t_sandbox_lease (f_name, f_holder, f_expires_at) VALUES (?, ?, {clock} + ?)"
        ));
        let made = sqlx::query(sql)
            .bind(name.to_owned())
            .bind(holder.to_owned())
            .bind(length)
            .execute(&self.pool)
            .await;
        match made.map_err(taken) {
            Ok(_) => Ok(true),
            Err(LedgerError::Taken) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Milliseconds since 1970 by the database's own clock, in its words.
    fn clock(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
            Dialect::MySql => "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
            Dialect::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// Lets go of every lease of a holder, so that nobody waits for it to run out.
    pub(crate) async fn let_go(&self, holder: &str) -> Result<(), LedgerError> {
        let sql = self.sql("DELETE FROM t_sandbox_lease WHERE f_holder = ?");
        sqlx::query(sql)
            .bind(holder.to_owned())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Drops every lease, whoever holds it.
    pub(super) async fn drop_leases(&self) -> Result<(), LedgerError> {
        sqlx::query("DELETE FROM t_sandbox_lease")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Who holds a lease that has not run out.
    pub(crate) async fn holders(&self) -> Result<BTreeSet<String>, LedgerError> {
        let clock = self.clock();
        let sql = self.sql(&format!(
            "SELECT f_holder FROM t_sandbox_lease WHERE f_expires_at >= {clock}"
        ));
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        rows.iter().map(|row| text(row, "f_holder")).collect()
    }
}
