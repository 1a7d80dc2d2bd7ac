//! Bodies as existing clients know them.

use sandlot_decide::session::ExecutionStatus;
use serde_json::{Value, json};

use crate::{
    artifacts::{kind, mime},
    ledger::{Execution, Session, Template},
    moment::{naive, naive_or_null},
    runs::took,
};

/// Where packages are installed in a session's pod.
pub(crate) const PACKAGES: &str = "/opt/sandbox-venv";

/// How many processes a session's code may have at the same time.
pub(crate) const MAX_PROCESSES: u32 = 128;

/// A session.
pub(crate) fn session(session: &Session) -> Value {
    let facts = &session.facts;
    let empty_is_null = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let requested: Vec<_> = facts
        .requested
        .iter()
        .map(|wanted| json!({ "name": wanted.name, "version": empty_is_null(&wanted.version) }))
        .collect();
    let installed: Vec<_> = facts
        .installed
        .iter()
        .map(|there| {
            json!({
                "name": there.name,
                "version": there.version,
                "install_location": there.location,
                "install_time": naive(there.at),
                "is_from_template": false,
            })
        })
        .collect();
    json!({
        "id": session.id,
        "template_id": session.template,
        "status": session.status,
        "resource_limit": {
            "cpu": facts.cpu, "memory": facts.memory, "disk": facts.disk, "max_processes": MAX_PROCESSES,
        },
        "workspace_path": facts.workspace,
        "language_runtime": facts.runtime,
        "runtime_type": facts.runtime,
        "runtime_node": empty_is_null(&facts.node),
        "container_id": empty_is_null(&facts.pod),
        "pod_name": empty_is_null(&facts.pod),
        "env_vars": facts.env,
        "timeout": facts.timeout,
        "python_package_index_url": facts.index_url,
        "requested_dependencies": requested,
        "installed_dependencies": installed,
        "dependency_install_status": facts.install,
        "dependency_install_error": empty_is_null(&facts.install_error),
        "dependency_install_progress": empty_is_null(&facts.install_progress),
        "dependency_install_started_at": naive_or_null(facts.install_started),
        "dependency_install_completed_at": naive_or_null(facts.install_completed),
        "created_at": naive(session.created),
        "updated_at": naive(session.updated),
        "completed_at": naive_or_null(facts.completed),
        "last_activity_at": naive(session.active),
        "status_reason": empty_is_null(&facts.reason),
    })
}

/// An execution.
pub(crate) fn execution(execution: &Execution) -> Value {
    let outcome = &execution.outcome;
    let artifacts: Vec<_> = outcome
        .artifacts
        .iter()
        .map(|file| {
            json!({
                "path": file.path,
                "size": file.size,
                "mime_type": mime(&file.path),
                "type": kind(&file.path),
                "created_at": naive_or_null(file.modified),
                "checksum": file.checksum,
            })
        })
        .collect();
    let returned: Option<Value> = outcome
        .result
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok());
    let metrics = outcome.metrics.map(|metrics| {
        json!({
            "duration_ms": metrics.duration_ms,
            "cpu_time_ms": metrics.cpu_time_ms,
            "peak_memory_mb": metrics.peak_memory_mb,
            "io_read_bytes": metrics.io_read_bytes,
            "io_write_bytes": metrics.io_write_bytes,
        })
    });
    json!({
        "id": execution.id,
        "session_id": execution.session,
        "status": execution.status,
        "code": execution.request.code,
        "language": execution.request.language,
        "timeout": execution.request.timeout,
        "working_directory": execution.request.working_directory,
        "exit_code": outcome.exit_code,
        "error_message": outcome.error,
        "execution_time": took(execution),
        "stdout": outcome.stdout,
        "stderr": outcome.stderr,
        "truncated": outcome.truncated,
        "artifacts": artifacts,
        "artifacts_truncated": outcome.files_left_out,
        "retry_count": outcome.retries,
        "created_at": naive(execution.created),
        "started_at": naive_or_null(outcome.started),
        "completed_at": naive_or_null(outcome.completed),
        "return_value": returned,
        "metrics": metrics,
        "metadata": execution.request.metadata,
    })
}

/// What is answered to who submits without waiting.
pub(crate) fn submitted(execution: &Execution) -> Value {
    json!({
        "execution_id": execution.id,
        "session_id": execution.session,
        "status": ExecutionStatus::Pending,
        "created_at": naive(execution.created),
    })
}

/// A template.
pub(crate) fn template(template: &Template) -> Value {
    let facts = &template.facts;
    json!({
        "id": template.id,
        "name": template.name,
        "image_url": facts.image,
        "runtime_type": facts.runtime,
        "default_cpu_cores": facts.cpu_cores,
        "default_memory_mb": facts.memory_mb,
        "default_disk_mb": facts.disk_mb,
        "default_timeout_sec": facts.timeout,
        "default_env_vars": facts.env,
        "is_active": facts.is_active,
        "prestarted_interpreter": facts.prestarted,
        "warm_interpreter": facts.warm_interpreter,
        "created_at": naive(template.created),
        "updated_at": naive(template.updated),
    })
}
