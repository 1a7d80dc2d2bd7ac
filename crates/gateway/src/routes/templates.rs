//! Templates: what sessions are made from.

use std::sync::Arc;

use axum::{Extension, Json, Router, body::Bytes, extract::Path, http::StatusCode, routing::get};
use serde_json::{Value, json};

use super::{Answer, PAGE, Query, State, clamped};
use crate::{
    access::Caller,
    check::Fields,
    gateway::Gateway,
    ledger::{LedgerError, Template, TemplateFacts},
    moment::now,
    pools::object_name,
    refusal::Refusal,
    wire,
};

const RUNTIMES: [&str; 4] = ["python3.11", "nodejs20", "java17", "go1.21"];

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/templates", get(list).post(create))
        .route("/templates/{id}", get(one).put(update).delete(remove))
}

/// Takes over the fields that are there.
fn read(fields: &mut Fields, facts: &mut TemplateFacts) -> Option<String> {
    let name = fields.text("name", 1..=255);
    let set = |value: Option<i64>, place: &mut i64| {
        if let Some(value) = value {
            *place = value;
        }
    };
    set(
        fields.integer("default_memory_mb", 128..=8192),
        &mut facts.memory_mb,
    );
    set(
        fields.integer("default_disk_mb", 256..=51200),
        &mut facts.disk_mb,
    );
    set(
        fields.integer("default_timeout", 60..=3600),
        &mut facts.timeout,
    );
    if let Some(image) = fields.text("image_url", 1..=512) {
        facts.image = image;
    }
    if let Some(cores) = fields.number("default_cpu_cores", 0.1..=4.0) {
        facts.cpu_cores = cores;
    }
    if let Some(env) = fields.variables("default_env_vars") {
        facts.env = env;
    }
    if let Some(is_active) = fields.flag("is_active") {
        facts.is_active = is_active;
    }
    if let Some(prestarted) = fields.flag("prestarted_interpreter") {
        facts.prestarted = prestarted;
    }
    if let Some(warm) = fields.flag("warm_interpreter") {
        facts.warm_interpreter = warm;
    }
    name
}

async fn create(
    gateway: State,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    caller.must_be_admin()?;
    let mut fields = Fields::of_body(&body)?;
    for name in ["id", "name", "image_url", "runtime_type"] {
        fields.require(name);
    }
    let id = fields.id("id").unwrap_or_default();
    let mut facts = TemplateFacts::default();
    if let Some(runtime) = fields.one_of("runtime_type", &RUNTIMES) {
        facts.runtime = runtime;
    }
    let name = read(&mut fields, &mut facts).unwrap_or_default();
    fields.finish()?;
    let template = Template::new(id, name, facts);
    match gateway.ledger.add_template(&template).await {
        Ok(()) => {}
        Err(LedgerError::Taken) => {
            return Err(Refusal::Conflict(format!(
                "There is a template with the id {:?} or the name {:?} already",
                template.id, template.name
            )));
        }
        Err(error) => return Err(error.into()),
    }
    warm(&gateway, &template).await;
    Ok((StatusCode::CREATED, Json(wire::template(&template))))
}

/// Makes a template's pods ready. Where that fails, the first session that wants one tries
/// again and says why.
async fn warm(gateway: &Gateway, template: &Template) {
    if let Err(error) = gateway.pools.keep(template).await {
        tracing::warn!(%error, template = template.id, "its pods could not be made ready");
    }
}

async fn list(gateway: State, query: Query) -> Answer {
    let limit = clamped(&query, "limit", PAGE, 1, 200);
    let offset = clamped(&query, "offset", 0, 0, i64::MAX);
    let templates = gateway.ledger.templates(limit, offset).await?;
    Ok(Json(templates.iter().map(wire::template).collect()))
}

async fn find(gateway: &Gateway, id: &str) -> Result<Template, Refusal> {
    let found = gateway.ledger.template(id).await?;
    found.ok_or_else(|| Refusal::NotFound(format!("Template not found: {id}")))
}

async fn one(gateway: State, Path(id): Path<String>) -> Answer {
    Ok(Json(wire::template(&find(&gateway, &id).await?)))
}

async fn update(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.must_be_admin()?;
    let mut template = find(&gateway, &id).await?;
    let mut fields = Fields::of_body(&body)?;
    if let Some(name) = read(&mut fields, &mut template.facts) {
        template.name = name;
    }
    fields.finish()?;
    template.updated = now();
    match gateway.ledger.write_template(&template).await {
        Ok(true) => {}
        Ok(false) => return Err(Refusal::NotFound(format!("Template not found: {id}"))),
        Err(LedgerError::Taken) => {
            return Err(Refusal::Conflict(format!(
                "There is a template with the name {:?} already",
                template.name
            )));
        }
        Err(error) => return Err(error.into()),
    }
    warm(&gateway, &template).await;
    Ok(Json(wire::template(&template)))
}

async fn remove(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    caller.must_be_admin()?;
    find(&gateway, &id).await?;
    let uses = gateway.ledger.template_uses(&id).await?;
    if uses > 0 {
        return Err(Refusal::Conflict(format!(
            "Template {id} is used by {uses} active session(s): terminate them first"
        )));
    }
    gateway.ledger.remove_template(&id).await?;
    if let Err(error) = gateway.pools.remove(&object_name(&id)).await {
        tracing::warn!(%error, template = id, "its pool could not be removed; delete it by hand");
    }
    Ok(Json(json!({ "message": "Template deleted successfully" })))
}
