//! Leases: which gateways are alive, and which one sweeps.

use std::{collections::BTreeSet, time::Duration};

use super::{Ledger, LedgerError, taken, text};
use crate::moment::{millis, now};

impl Ledger {
    /// Takes or renews a lease for so long. Says whether it is held now.
    pub(crate) async fn hold(
        &self,
        name: &str,
        holder: &str,
        length: Duration,
    ) -> Result<bool, LedgerError> {
        let now = millis(Some(now()));
        let until = now + i64::try_from(length.as_millis()).unwrap_or(i64::MAX / 2);
        let sql = self.sql(
            "UPDATE t_sandbox_lease SET f_holder = ?, f_expires_at = ?
             WHERE f_name = ? AND (f_holder = ? OR f_expires_at < ?)",
        );
        let renewed = sqlx::query(sql)
            .bind(holder.to_owned())
            .bind(until)
            .bind(name.to_owned())
            .bind(holder.to_owned())
            .bind(now)
            .execute(&self.pool)
            .await?;
        if renewed.rows_affected() == 1 {
            return Ok(true);
        }
        let sql = self
            .sql("INSERT INTO t_sandbox_lease (f_name, f_holder, f_expires_at) VALUES (?, ?, ?)");
        let made = sqlx::query(sql)
            .bind(name.to_owned())
            .bind(holder.to_owned())
            .bind(until)
            .execute(&self.pool)
            .await;
        match made.map_err(taken) {
            Ok(_) => Ok(true),
            Err(LedgerError::Taken) => Ok(false),
            Err(error) => Err(error),
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
        let sql = self.sql("SELECT f_holder FROM t_sandbox_lease WHERE f_expires_at >= ?");
        let rows = sqlx::query(sql)
            .bind(millis(Some(now())))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| text(row, "f_holder")).collect()
    }
}
