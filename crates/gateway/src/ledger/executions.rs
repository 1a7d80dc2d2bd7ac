//! Executions in the database.

use jiff::Timestamp;
use sandlot_decide::session::ExecutionStatus;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::any::AnyRow;

use super::{Ledger, LedgerError, as_text, can_be_kept, json, number, taken, text, unreadable};
use crate::moment::{millis, now, of_millis};

/// An execution.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    pub(crate) id: String,
    pub(crate) session: String,
    pub(crate) status: ExecutionStatus,
    /// The gateway that carries it out.
    pub(crate) gateway: String,
    pub(crate) created: Timestamp,
    pub(crate) request: Request,
    pub(crate) outcome: Outcome,
}

/// An execution that is not over, in short.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay {
    pub(crate) id: String,
    pub(crate) session: String,
    pub(crate) gateway: String,
}

/// What was asked for; enough to ask for it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Request {
    pub(crate) code: String,
    pub(crate) language: String,
    /// In seconds.
    pub(crate) timeout: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) working_directory: String,
    /// How often it is run again when what it ran in is lost.
    pub(crate) max_retries: u32,
    /// Whatever the client wants to know it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<Value>,
}

/// What came of it, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    pub(crate) exit_code: Option<i32>,
    pub(crate) error: Option<String>,
    /// How often it was run again.
    pub(crate) retries: u32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Whether some of the output is left out.
    pub(crate) truncated: bool,
    /// What the handler returned, as the JSON text it was.
    pub(crate) result: Option<String>,
    pub(crate) artifacts: Vec<File>,
    /// Whether there are more files than are listed, or some could not be kept.
    pub(crate) files_left_out: bool,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) completed: Option<Timestamp>,
}

/// A file that an execution left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) modified: Option<Timestamp>,
    pub(crate) checksum: Option<String>,
}

/// What an execution used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Metrics {
    pub(crate) duration_ms: i64,
    pub(crate) cpu_time_ms: i64,
    pub(crate) peak_memory_mb: f64,
    pub(crate) io_read_bytes: u64,
    pub(crate) io_write_bytes: u64,
}

impl Execution {
    /// What its present run is known by to the agent.
    pub(crate) fn key(&self) -> String {
        match self.outcome.retries {
            0 => self.id.clone(),
            retries => format!("{}-{retries}", self.id),
        }
    }

    /// How often it may be run again.
    pub(crate) fn retries_left(&self) -> u32 {
        self.request
            .max_retries
            .saturating_sub(self.outcome.retries)
    }

    /// It is to be run again; `why` is what became of it so far.
    pub(crate) fn begin_again(&mut self, why: String) {
        self.status = ExecutionStatus::Pending;
        self.outcome = Outcome {
            retries: self.outcome.retries + 1,
            error: Some(why),
            ..Outcome::default()
        };
    }

    fn read(row: &AnyRow) -> Result<Self, LedgerError> {
        let status = text(row, "f_status")?;
        Ok(Self {
            id: text(row, "f_id")?,
            session: text(row, "f_session_id")?,
            status: ExecutionStatus::parse(&status)
                .ok_or_else(|| unreadable("f_status", status))?,
            gateway: text(row, "f_gateway")?,
            created: of_millis(number(row, "f_created_at")?).unwrap_or_default(),
            request: json(row, "f_request")?,
            outcome: json(row, "f_outcome")?,
        })
    }
}

impl Ledger {
    /// Notes a new execution. Once this is done, somebody will carry it out.
    pub(crate) async fn add_execution(&self, execution: &Execution) -> Result<(), LedgerError> {
        let sql = self.sql(
            "INSERT INTO t_sandbox_execution (f_id, f_session_id, f_status, f_gateway, f_created_at,
             f_updated_at, f_request, f_outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        );
        sqlx::query(sql)
            .bind(execution.id.clone())
            .bind(execution.session.clone())
            .bind(execution.status.as_str())
            .bind(execution.gateway.clone())
            .bind(millis(Some(execution.created)))
            .bind(millis(Some(execution.created)))
            .bind(as_text(&execution.request)?)
            .bind(as_text(&execution.outcome)?)
            .execute(&self.pool)
            .await
            .map_err(taken)?;
        Ok(())
    }

    /// The execution with this id.
    pub(crate) async fn execution(&self, id: &str) -> Result<Option<Execution>, LedgerError> {
        if !can_be_kept(id) {
            return Ok(None);
        }
        let sql = self.sql("SELECT * FROM t_sandbox_execution WHERE f_id = ?");
        let row = sqlx::query(sql)
            .bind(id.to_owned())
            .fetch_optional(&self.pool)
            .await?;
        let execution = row.as_ref().map(Execution::read).transpose()?;
        Ok(execution.filter(|execution| execution.id == id))
    }

    /// A page of a session's executions, newest first, and how many there are in all.
    pub(crate) async fn executions(
        &self,
        session: &str,
        limit: i64,
        offset: i64,
    ) -> Result<(Vec<Execution>, i64), LedgerError> {
        let count =
            self.sql("SELECT COUNT(*) AS f_count FROM t_sandbox_execution WHERE f_session_id = ?");
        let count = sqlx::query(count)
            .bind(session.to_owned())
            .fetch_one(&self.pool)
            .await?;
        let page = self.sql(
            "SELECT * FROM t_sandbox_execution WHERE f_session_id = ?
             ORDER BY f_created_at DESC, f_id DESC LIMIT ? OFFSET ?",
        );
        let rows = sqlx::query(page)
            .bind(session.to_owned())
            .bind(limit)
            .bind(offset)
            .fetch_all(&self.pool)
            .await?;
        let executions = rows.iter().map(Execution::read).collect::<Result<_, _>>()?;
        Ok((executions, number(&count, "f_count")?))
    }

    /// A session's executions that are not over.
    pub(crate) async fn open_executions(
        &self,
        session: &str,
    ) -> Result<Vec<Execution>, LedgerError> {
        let sql = self.sql(
            "SELECT * FROM t_sandbox_execution
             WHERE f_status IN ('pending', 'running') AND f_session_id = ?",
        );
        let rows = sqlx::query(sql)
            .bind(session.to_owned())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(Execution::read).collect()
    }

    /// All executions that are not over, without what they run: that may be a lot.
    pub(crate) async fn under_way(&self) -> Result<Vec<UnderWay>, LedgerError> {
        let sql = self.sql(
            "SELECT f_id, f_session_id, f_gateway FROM t_sandbox_execution
             WHERE f_status IN ('pending', 'running')",
        );
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        let read = |row| {
            Ok(UnderWay {
                id: text(row, "f_id")?,
                session: text(row, "f_session_id")?,
                gateway: text(row, "f_gateway")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Notes where an execution is. One that is over stays as it is: whether it was noted.
    pub(crate) async fn note_execution(&self, execution: &Execution) -> Result<bool, LedgerError> {
        let sql = self.sql(
            "UPDATE t_sandbox_execution SET f_status = ?, f_updated_at = ?, f_outcome = ?
             WHERE f_id = ? AND f_status IN ('pending', 'running')",
        );
        let done = sqlx::query(sql)
            .bind(execution.status.as_str())
            .bind(millis(Some(now())))
            .bind(as_text(&execution.outcome)?)
            .bind(execution.id.clone())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Takes over an execution from a gateway that is gone. Only one of several succeeds.
    pub(crate) async fn adopt_execution(
        &self,
        id: &str,
        from: &str,
        by: &str,
    ) -> Result<bool, LedgerError> {
        let sql = self.sql(
            "UPDATE t_sandbox_execution SET f_gateway = ? WHERE f_id = ? AND f_gateway = ?
             AND f_status IN ('pending', 'running')",
        );
        let done = sqlx::query(sql)
            .bind(by.to_owned())
            .bind(id.to_owned())
            .bind(from.to_owned())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
