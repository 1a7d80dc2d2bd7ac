//! Sessions: made, listed, ended.

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::Path,
    http::StatusCode,
    routing::{get, post},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Answer, PAGE, Query, State, clamped, session_of};
use crate::{
    access::Caller,
    check::Fields,
    dependencies::{self, PLAIN_INDEX},
    gateway::Gateway,
    install::InstallError,
    ledger::{InstallStatus, LedgerError, Session, SessionFacts, SessionFilter, Template},
    moment::now,
    open::first_claim,
    pools::{cpu, mebibytes},
    refusal::Refusal,
    wire,
};

/// How often another id is thought up when one is taken.
const TRIES: usize = 4;

pub(super) fn routes() -> Router<std::sync::Arc<Gateway>> {
    Router::new()
        .route("/sessions", post(create).get(list))
        .route("/sessions/{id}", get(one).delete(remove))
        .route("/sessions/{id}/terminate", post(terminate))
        .route("/sessions/{id}/dependencies/install", post(install))
}

/// What a client asks for.
struct Wanted {
    id: Option<String>,
    template: Option<String>,
    timeout: Option<i64>,
    cpu: Option<String>,
    memory: Option<String>,
    disk: Option<String>,
    facts: SessionFacts,
}

impl Wanted {
    fn read(body: &[u8], longest: i64) -> Result<Self, Refusal> {
        let mut fields = Fields::of_body(body)?;
        let wanted = Self {
            id: fields.id("id"),
            template: fields.text("template_id", 1..=64),
            timeout: fields.integer("timeout", 1..=longest),
            cpu: fields.text("cpu", 1..=16),
            memory: fields.text("memory", 1..=16),
            disk: fields.text("disk", 1..=16),
            facts: SessionFacts {
                env: fields.variables("env_vars").unwrap_or_default(),
                install_timeout: fields.integer("install_timeout", 30..=1800).unwrap_or(300),
                index_url: dependencies::index_url(&mut fields)
                    .unwrap_or_else(|| PLAIN_INDEX.to_owned()),
                requested: dependencies::wanted(&mut fields, 0),
                ..SessionFacts::default()
            },
        };
        fields.object("event");
        for name in ["fail_on_dependency_error", "allow_version_conflicts"] {
            fields.flag(name);
        }
        fields.finish()?;
        Ok(wanted)
    }

    /// With what the template says where the client says nothing.
    fn on(self, template: &Template, gateway: &Gateway) -> Result<SessionFacts, Refusal> {
        let defaults = &template.facts;
        let mut facts = self.facts;
        facts.cpu = self.cpu.unwrap_or_else(|| defaults.cpu_cores.to_string());
        facts.memory = self.memory.unwrap_or_else(|| size(defaults.memory_mb));
        facts.disk = self.disk.unwrap_or_else(|| size(defaults.disk_mb));
        facts.timeout = self
            .timeout
            .unwrap_or(defaults.timeout)
            .min(gateway.settings.timeouts.1);
        facts.runtime.clone_from(&defaults.runtime);
        facts.prestarted = defaults.prestarted;
        if cpu(&facts.cpu).is_none() {
            return Err(Refusal::bad(format!(
                "Invalid cpu {:?}: give a number of cores greater than 0, such as \"0.5\"",
                facts.cpu
            )));
        }
        for (name, size) in [("memory", &facts.memory), ("disk", &facts.disk)] {
            if mebibytes(size).is_none() {
                return Err(Refusal::bad(format!(
                    "Invalid {name} {size:?}: give a whole number of Mi or Gi, such as \"512Mi\""
                )));
            }
        }
        facts.gateway.clone_from(&gateway.me);
        if !facts.requested.is_empty() {
            facts.install = InstallStatus::Installing;
        }
        Ok(facts)
    }
}

/// Mebibytes as clients write them.
fn size(mebibytes: i64) -> String {
    match mebibytes % 1024 {
        0 => format!("{}Gi", mebibytes / 1024),
        _ => format!("{mebibytes}Mi"),
    }
}

fn new_id() -> String {
    let day = Timestamp::now().strftime("%Y%m%d");
    format!("sess_{day}_{:08x}", rand::random::<u32>())
}

async fn create(
    gateway: State,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let mut wanted = Wanted::read(&body, gateway.settings.timeouts.1)?;
    let chosen = wanted.id.take();
    let template = wanted
        .template
        .take()
        .unwrap_or_else(|| gateway.settings.default_template.clone());
    let template = match gateway.ledger.template(&template).await? {
        Some(template) if template.facts.is_active => template,
        _ => return Err(Refusal::bad(format!("Template not found: {template}"))),
    };
    let facts = wanted.on(&template, &gateway)?;
    for _ in 0..TRIES {
        let id = chosen.clone().unwrap_or_else(new_id);
        let mut facts = facts.clone();
        facts.claim = first_claim(&id);
        facts.workspace = gateway.files.address(&id);
        let session = Session::new(id.clone(), template.id.clone(), caller.name.clone(), facts);
        let (note, noted) = oneshot::channel();
        let (opening, template, fresh) = (gateway.0.clone(), template.clone(), session.clone());
        // An id that we thought up is nobody else's.
        let is_ours = chosen.is_none();
        gateway.tasks.spawn(async move {
            opening
                .open_new_session(fresh, &template, is_ours, noted)
                .await;
        });
        let added = gateway.ledger.add_session(&session).await;
        if !matches!(added, Err(LedgerError::Database(_))) {
            // Who opens it may be gone: the gateway is about to stop.
            let _ = note.send(added.is_ok());
        }
        match added {
            Ok(()) => return Ok((StatusCode::CREATED, Json(wire::session(&session)))),
            Err(LedgerError::Taken) if chosen.is_some() => {
                return Err(Refusal::Conflict(format!("Session already exists: {id}")));
            }
            Err(LedgerError::Taken) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::Broken("no free id was found".to_owned()))
}

async fn list(gateway: State, Extension(caller): Extension<Caller>, query: Query) -> Answer {
    let limit = clamped(&query, "limit", PAGE, 1, 200);
    let offset = clamped(&query, "offset", 0, 0, i64::MAX);
    let filter = SessionFilter {
        status: query.get("status").cloned(),
        template: query.get("template_id").cloned(),
        owner: caller.sees_only(),
    };
    let (sessions, total) = gateway.ledger.sessions(&filter, limit, offset).await?;
    let has_more = offset.saturating_add(limit) < total;
    let items: Vec<_> = sessions.iter().map(wire::session).collect();
    Ok(Json(json!({
        "items": items, "total": total, "limit": limit, "offset": offset, "has_more": has_more,
    })))
}

async fn one(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let session = session_of(&gateway, &caller, &id).await?;
    Ok(Json(wire::session(&session)))
}

async fn terminate(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let session = session_of(&gateway, &caller, &id).await?;
    gateway.terminate(&session, "somebody asked for it").await?;
    let session = session_of(&gateway, &caller, &id).await?;
    Ok(Json(wire::session(&session)))
}

async fn remove(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let session = session_of(&gateway, &caller, &id).await?;
    gateway.terminate(&session, "it was deleted").await?;
    gateway.ledger.remove_session(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Installs packages and answers when that is done.
async fn install(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let mut fields = Fields::of_body(&body)?;
    let index = dependencies::index_url(&mut fields);
    fields.require("dependencies");
    let wanted = dependencies::wanted(&mut fields, 1);
    let timeout = fields.integer("install_timeout", 30..=1800).unwrap_or(300);
    fields.finish()?;
    let session = session_of(&gateway, &caller, &id).await?;
    if !session.status.is_active() {
        return Err(Refusal::Conflict(format!(
            "Session {id} is {}: packages can be installed in an active session only",
            session.status.as_str()
        )));
    }
    let changed = gateway.ledger.change_session(&id, |session| {
        let facts = &mut session.facts;
        let is_free = facts.install != InstallStatus::Installing;
        if is_free && session.status.is_active() && !facts.pod.is_empty() {
            facts.requested = dependencies::merged(&facts.requested, &wanted);
            if let Some(index) = &index {
                facts.index_url.clone_from(index);
            }
            facts.install = InstallStatus::Installing;
            facts.gateway.clone_from(&gateway.me);
            facts.install_timeout = timeout;
            facts.install_started = Some(now());
            session.active = now();
            return true;
        }
        false
    });
    let session = match changed.await? {
        Some((session, true)) => session,
        Some((session, false)) if session.facts.pod.is_empty() => {
            return Err(Refusal::Conflict(format!(
                "Session {id} has no container yet: wait until it is running"
            )));
        }
        Some(_) => {
            return Err(Refusal::Conflict(format!(
                "Session {id} is installing packages already: wait until that is done"
            )));
        }
        None => return Err(Refusal::no_session(&id)),
    };
    // It goes on when the client goes.
    let installer = gateway.0.clone();
    let installing = gateway
        .tasks
        .spawn(async move { installer.install(&session).await });
    let installed = installing
        .await
        .map_err(|error| Refusal::Broken(error.to_string()))??;
    match installed.outcome {
        Ok(()) => Ok(Json(wire::session(&installed.session))),
        Err(InstallError::Refused(why)) => Err(Refusal::bad(why)),
        Err(InstallError::Unanswered(why)) => {
            Err(Refusal::Plain(StatusCode::SERVICE_UNAVAILABLE, why))
        }
    }
}
