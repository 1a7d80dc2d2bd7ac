//! Templates in the database.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;

use super::{Ledger, LedgerError, as_text, can_be_kept, json, number, taken, text};
use crate::moment::{millis, now, of_millis};

/// What sessions are made from.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
    pub(crate) facts: TemplateFacts,
}

/// What is not asked for by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TemplateFacts {
    pub(crate) image: String,
    pub(crate) runtime: String,
    pub(crate) cpu_cores: f64,
    pub(crate) memory_mb: i64,
    pub(crate) disk_mb: i64,
    pub(crate) timeout: i64,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) is_active: bool,
    /// Whether sessions have an interpreter started before there is code for it.
    pub(crate) prestarted: bool,
    /// Whether one waits in each warm pod for a session's first code, where that may be Python.
    pub(crate) warm_interpreter: bool,
}

impl TemplateFacts {
    /// Whether an interpreter waits in pods that are nobody's yet.
    pub(crate) fn has_interpreter_wait(&self) -> bool {
        self.warm_interpreter && self.runtime.starts_with("python")
    }
}

impl Default for TemplateFacts {
    fn default() -> Self {
        Self {
            image: String::new(),
            runtime: "python3.11".to_owned(),
            cpu_cores: 0.5,
            memory_mb: 512,
            disk_mb: 1024,
            timeout: 300,
            env: BTreeMap::new(),
            is_active: true,
            prestarted: false,
            warm_interpreter: true,
        }
    }
}

impl Template {
    /// A new one.
    pub(crate) fn new(id: String, name: String, facts: TemplateFacts) -> Self {
        let now = now();
        Self {
            id,
            name,
            created: now,
            updated: now,
            facts,
        }
    }

    fn read(row: &AnyRow) -> Result<Self, LedgerError> {
        let moment =
            |column| Ok::<_, LedgerError>(of_millis(number(row, column)?).unwrap_or_default());
        Ok(Self {
            id: text(row, "f_id")?,
            name: text(row, "f_name")?,
            created: moment("f_created_at")?,
            updated: moment("f_updated_at")?,
            facts: json(row, "f_facts")?,
        })
    }
}

impl Ledger {
    /// Notes a new template.
    pub(crate) async fn add_template(&self, template: &Template) -> Result<(), LedgerError> {
        let sql = self.sql(
            "INSERT INTO t_sandbox_template (f_id, f_name, f_created_at, f_updated_at, f_facts)
             VALUES (?, ?, ?, ?, ?)",
        );
        sqlx::query(sql)
            .bind(template.id.clone())
            .bind(template.name.clone())
            .bind(millis(Some(template.created)))
            .bind(millis(Some(template.updated)))
            .bind(as_text(&template.facts)?)
            .execute(&self.pool)
            .await
            .map_err(taken)?;
        Ok(())
    }

    /// Writes a template as it is now. Says whether it was there.
    pub(crate) async fn write_template(&self, template: &Template) -> Result<bool, LedgerError> {
        let sql = self.sql(
            "UPDATE t_sandbox_template SET f_name = ?, f_updated_at = ?, f_facts = ? WHERE f_id = ?",
        );
        let done = sqlx::query(sql)
            .bind(template.name.clone())
            .bind(millis(Some(template.updated)))
            .bind(as_text(&template.facts)?)
            .bind(template.id.clone())
            .execute(&self.pool)
            .await
            .map_err(taken)?;
        Ok(done.rows_affected() == 1)
    }

    /// The template with this id.
    pub(crate) async fn template(&self, id: &str) -> Result<Option<Template>, LedgerError> {
        if !can_be_kept(id) {
            return Ok(None);
        }
        let sql = self.sql("SELECT * FROM t_sandbox_template WHERE f_id = ?");
        let row = sqlx::query(sql)
            .bind(id.to_owned())
            .fetch_optional(&self.pool)
            .await?;
        let template = row.as_ref().map(Template::read).transpose()?;
        Ok(template.filter(|template| template.id == id))
    }

    /// A page of templates, by name.
    pub(crate) async fn templates(
        &self,
        limit: i64,
        offset: i64,
    ) -> Result<Vec<Template>, LedgerError> {
        let sql =
            self.sql("SELECT * FROM t_sandbox_template ORDER BY f_name, f_id LIMIT ? OFFSET ?");
        let rows = sqlx::query(sql)
            .bind(limit)
            .bind(offset)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(Template::read).collect()
    }

    /// Forgets a template. Says whether it was there.
    pub(crate) async fn remove_template(&self, id: &str) -> Result<bool, LedgerError> {
        let sql = self.sql("DELETE FROM t_sandbox_template WHERE f_id = ?");
        let done = sqlx::query(sql)
            .bind(id.to_owned())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// How many sessions that have, or wait for, a pod are made from a template.
    pub(crate) async fn template_uses(&self, id: &str) -> Result<i64, LedgerError> {
        let sql = self.sql(
            "SELECT COUNT(*) AS f_count FROM t_sandbox_session
             WHERE f_template_id = ? AND f_status IN ('creating', 'running')",
        );
        let row = sqlx::query(sql)
            .bind(id.to_owned())
            .fetch_one(&self.pool)
            .await?;
        number(&row, "f_count")
    }
}
