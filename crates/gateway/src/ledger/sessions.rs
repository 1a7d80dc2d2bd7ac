//! Sessions in the database.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sandlot_decide::session::SessionStatus;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;

use super::{Ledger, LedgerError, as_text, can_be_kept, json, number, taken, text, unreadable};
use crate::moment::{millis, now, of_millis};

/// How often a change is tried again when somebody else was faster.
const TRIES: usize = 16;

/// A session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) template: String,
    pub(crate) status: SessionStatus,
    /// Who made it.
    pub(crate) owner: String,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
    pub(crate) active: Timestamp,
    pub(crate) facts: SessionFacts,
    revision: i64,
}

/// What is not asked for by itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SessionFacts {
    pub(crate) cpu: String,
    pub(crate) memory: String,
    pub(crate) disk: String,
    pub(crate) timeout: i64,
    pub(crate) runtime: String,
    /// Whether an interpreter is started before there is code for it.
    pub(crate) prestarted: bool,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) index_url: String,
    pub(crate) requested: Vec<Requirement>,
    pub(crate) installed: Vec<Installed>,
    pub(crate) install: InstallStatus,
    pub(crate) install_error: String,
    pub(crate) install_timeout: i64,
    /// What the installer said last.
    pub(crate) install_progress: String,
    pub(crate) install_started: Option<Timestamp>,
    pub(crate) install_completed: Option<Timestamp>,
    /// The claim on a pod, and the pod that was given.
    pub(crate) claim: String,
    pub(crate) pod: String,
    pub(crate) node: String,
    /// Since when it has that pod.
    pub(crate) pod_since: Option<Timestamp>,
    /// The gateway that sees to it that it gets one.
    pub(crate) gateway: String,
    /// Where its files are kept.
    pub(crate) workspace: String,
    pub(crate) completed: Option<Timestamp>,
    /// Why it ended.
    pub(crate) reason: String,
}

/// A package that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Requirement {
    pub(crate) name: String,
    /// With its operator; empty for any.
    pub(crate) version: String,
}

/// A package that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Installed {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) location: String,
    pub(crate) at: Timestamp,
}

/// How far the packages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InstallStatus {
    Pending,
    Installing,
    #[default]
    Completed,
    Failed,
}

impl Session {
    /// A new one that waits for its pod.
    pub(crate) fn new(id: String, template: String, owner: String, facts: SessionFacts) -> Self {
        let now = now();
        Self {
            id,
            template,
            status: SessionStatus::Creating,
            owner,
            created: now,
            updated: now,
            active: now,
            facts,
            revision: 1,
        }
    }

    fn read(row: &AnyRow) -> Result<Self, LedgerError> {
        let status = text(row, "f_status")?;
        let moment =
            |column| Ok::<_, LedgerError>(of_millis(number(row, column)?).unwrap_or_default());
        Ok(Self {
            id: text(row, "f_id")?,
            template: text(row, "f_template_id")?,
            status: SessionStatus::parse(&status).ok_or_else(|| unreadable("f_status", status))?,
            owner: text(row, "f_created_by")?,
            created: moment("f_created_at")?,
            updated: moment("f_updated_at")?,
            active: moment("f_last_activity_at")?,
            facts: json(row, "f_facts")?,
            revision: number(row, "f_revision")?,
        })
    }
}

/// What sessions to list.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionFilter {
    pub(crate) status: Option<String>,
    pub(crate) template: Option<String>,
    pub(crate) owner: Option<String>,
}

impl SessionFilter {
    /// The conditions, and what is bound to them in order.
    fn conditions(&self) -> (String, Vec<String>) {
        let wanted = [
            ("f_status = ?", &self.status),
            ("f_template_id = ?", &self.template),
            ("f_created_by = ?", &self.owner),
        ];
        let (conditions, values): (Vec<_>, Vec<_>) = wanted
            .into_iter()
            .filter_map(|(condition, value)| Some((condition, value.clone()?)))
            .unzip();
        match conditions.is_empty() {
            true => (String::new(), values),
            false => (format!(" WHERE {}", conditions.join(" AND ")), values),
        }
    }
}

impl Ledger {
    /// Notes a new session.
    pub(crate) async fn add_session(&self, session: &Session) -> Result<(), LedgerError> {
        let sql = self.sql(
            "INSERT INTO t_sandbox_session (f_id, f_template_id, f_status, f_created_by, f_created_at,
             f_updated_at, f_last_activity_at, f_revision, f_facts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        );
        sqlx::query(sql)
            .bind(session.id.clone())
            .bind(session.template.clone())
            .bind(session.status.as_str())
            .bind(session.owner.clone())
            .bind(millis(Some(session.created)))
            .bind(millis(Some(session.updated)))
            .bind(millis(Some(session.active)))
            .bind(session.revision)
            .bind(as_text(&session.facts)?)
            .execute(&self.pool)
            .await
            .map_err(taken)?;
        Ok(())
    }

    /// The session with this id.
    pub(crate) async fn session(&self, id: &str) -> Result<Option<Session>, LedgerError> {
        if !can_be_kept(id) {
            return Ok(None);
        }
        let sql = self.sql("SELECT * FROM t_sandbox_session WHERE f_id = ?");
        let row = sqlx::query(sql)
            .bind(id.to_owned())
            .fetch_optional(&self.pool)
            .await?;
        let session = row.as_ref().map(Session::read).transpose()?;
        // Some databases take trailing blanks for nothing.
        Ok(session.filter(|session| session.id == id))
    }

    /// A page of sessions, newest first, and how many there are in all.
    pub(crate) async fn sessions(
        &self,
        filter: &SessionFilter,
        limit: i64,
        offset: i64,
    ) -> Result<(Vec<Session>, i64), LedgerError> {
        let (conditions, values) = filter.conditions();
        if !values.iter().all(|value| can_be_kept(value)) {
            return Ok((Vec::new(), 0));
        }
        let count = self.sql(&format!(
            "SELECT COUNT(*) AS f_count FROM t_sandbox_session{conditions}"
        ));
        let mut count = sqlx::query(count);
        let page = self.sql(&format!(
            "SELECT * FROM t_sandbox_session{conditions} ORDER BY f_created_at DESC, f_id DESC LIMIT ? OFFSET ?"
        ));
        let mut page = sqlx::query(page);
        for value in values {
            count = count.bind(value.clone());
            page = page.bind(value);
        }
        let total = number(&count.fetch_one(&self.pool).await?, "f_count")?;
        let rows = page.bind(limit).bind(offset).fetch_all(&self.pool).await?;
        let sessions = rows.iter().map(Session::read).collect::<Result<_, _>>()?;
        Ok((sessions, total))
    }

    /// All sessions with this status.
    pub(crate) async fn sessions_with(
        &self,
        status: SessionStatus,
    ) -> Result<Vec<Session>, LedgerError> {
        let sql = self.sql("SELECT * FROM t_sandbox_session WHERE f_status = ?");
        let rows = sqlx::query(sql)
            .bind(status.as_str())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(Session::read).collect()
    }

    /// How many sessions have this status.
    pub(crate) async fn count_sessions(&self, status: SessionStatus) -> Result<i64, LedgerError> {
        let sql = self.sql("SELECT COUNT(*) AS f_count FROM t_sandbox_session WHERE f_status = ?");
        let counted = sqlx::query(sql)
            .bind(status.as_str())
            .fetch_one(&self.pool)
            .await?;
        number(&counted, "f_count")
    }

    /// Changes a session as `change` says; `change` may refuse by saying no, and is asked anew
    /// when somebody else changed the session meanwhile. Nothing comes back for a session that
    /// is not there; otherwise the session as it is now, and whether it was changed.
    pub(crate) async fn change_session(
        &self,
        id: &str,
        change: impl Fn(&mut Session) -> bool,
    ) -> Result<Option<(Session, bool)>, LedgerError> {
        self.change(id, None, change).await
    }

    /// The same for a session that hardly anybody else has changed since it was like this.
    pub(crate) async fn change_known_session(
        &self,
        known: Session,
        change: impl Fn(&mut Session) -> bool,
    ) -> Result<Option<(Session, bool)>, LedgerError> {
        let id = known.id.clone();
        self.change(&id, Some(known), change).await
    }

    async fn change(
        &self,
        id: &str,
        mut known: Option<Session>,
        change: impl Fn(&mut Session) -> bool,
    ) -> Result<Option<(Session, bool)>, LedgerError> {
        for _ in 0..TRIES {
            let (found, is_fresh) = match known.take() {
                Some(known) => (Some(known), false),
                None => (self.session(id).await?, true),
            };
            let Some(mut session) = found else {
                return Ok(None);
            };
            if !change(&mut session) {
                // A refusal counts for the session as it is, not as it was.
                match is_fresh {
                    true => return Ok(Some((session, false))),
                    false => continue,
                }
            }
            session.updated = now();
            let sql = self.sql(
                "UPDATE t_sandbox_session SET f_status = ?, f_updated_at = ?, f_last_activity_at = ?,
                 f_revision = ?, f_facts = ? WHERE f_id = ? AND f_revision = ?",
            );
            let done = sqlx::query(sql)
                .bind(session.status.as_str())
                .bind(millis(Some(session.updated)))
                .bind(millis(Some(session.active)))
                .bind(session.revision + 1)
                .bind(as_text(&session.facts)?)
                .bind(session.id.clone())
                .bind(session.revision)
                .execute(&self.pool)
                .await?;
            if done.rows_affected() == 1 {
                session.revision += 1;
                return Ok(Some((session, true)));
            }
        }
        Err(LedgerError::Contended)
    }

    /// Notes that a session is being used.
    pub(crate) async fn touch_session(&self, id: &str) -> Result<(), LedgerError> {
        let sql = self.sql("UPDATE t_sandbox_session SET f_last_activity_at = ? WHERE f_id = ?");
        sqlx::query(sql)
            .bind(millis(Some(now())))
            .bind(id.to_owned())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Forgets a session and its executions. Says whether it was there.
    pub(crate) async fn remove_session(&self, id: &str) -> Result<bool, LedgerError> {
        let mut both = self.pool.begin().await?;
        let mut removed = 0;
        for sql in [
            "DELETE FROM t_sandbox_execution WHERE f_session_id = ?",
            "DELETE FROM t_sandbox_session WHERE f_id = ?",
        ] {
            let done = sqlx::query(self.sql(sql))
                .bind(id.to_owned())
                .execute(&mut *both)
                .await?;
            removed = done.rows_affected();
        }
        both.commit().await?;
        Ok(removed > 0)
    }
}
