//! What goes on longer than a request: exec, attach, port-forward and logs.
//!
//! The [`Kubelet`] does the work at the far end; here are the wire protocols that clients
//! speak.

mod forward;
mod in_process;
mod logs;
mod options;
mod outcome;
mod outlet;
mod remote;
mod sessions;
mod spdy;
mod target;
mod upgrade;
mod websocket;

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use serde_json::Value;

pub(crate) use logs::logs;
pub(crate) use sessions::Sessions;

use crate::admission::{Admission, Operation};
use crate::answer::Answer;
use crate::call::Call;
use crate::kubelet::Kubelet;
use crate::object;
use crate::status::ApiError;
use crate::verbs::{Part, admission_request};
use options::Remote;
use remote::InContainer;
use upgrade::Upgrade;

/// Runs a command in a container or, for `attach`, joins its main process.
pub(crate) async fn remote(call: &mut Call, attach: bool) -> Result<Answer, ApiError> {
    let (pod, kubelet) = (pod(call)?, kubelet(call)?);
    let asked = Remote::parse(&call.request.options.raw, attach)?;
    let container = target::container(&pod, &asked.container)?;
    if attach && !is_running(&pod) {
        let phase = object::text(&pod, &["status", "phase"]);
        return Err(ApiError::bad_request(format!(
            "cannot attach a container in a completed pod; current phase is {phase}"
        )));
    }
    let (name, kind) = if attach {
        ("attach", "PodAttachOptions")
    } else {
        ("exec", "PodExecOptions")
    };
    admit(call, name, kind).await?;
    let (upgrade, answer) =
        Upgrade::agree(&call.headers, &websocket::PROTOCOLS, &remote::PROTOCOLS)?;
    let work = InContainer {
        kubelet,
        container,
        command: asked.command.clone(),
    };
    let connection = connection(call)?;
    call.api.sessions.begin(connection, move |io| async move {
        match upgrade {
            Upgrade::WebSocket(_) => websocket::serve(io, &asked, work).await,
            Upgrade::Spdy => remote::serve_spdy(io, &asked, work).await,
        }
    })?;
    Ok(Answer::Response(Box::new(answer)))
}

/// Connects the client to ports inside a pod.
pub(crate) async fn forward(call: &mut Call) -> Result<Answer, ApiError> {
    let (pod, kubelet) = (pod(call)?, kubelet(call)?);
    if !is_running(&pod) {
        let phase = object::text(&pod, &["status", "phase"]);
        return Err(ApiError::bad_request(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        )));
    }
    admit(call, "portforward", "PodPortForwardOptions").await?;
    let ports = options::ports(&call.request.options.raw)?;
    let protocols = [forward::TUNNELLED, forward::CHANNELS];
    let (upgrade, answer) = Upgrade::agree(&call.headers, &protocols, &[forward::SPDY])?;
    let by_channels = matches!(upgrade, Upgrade::WebSocket(forward::CHANNELS));
    if by_channels && (ports.is_empty() || ports.len() > 127) {
        return Err(ApiError::bad_request(
            "query parameter \"ports\" is required, with 1 to 127 ports",
        ));
    }
    let pod = forward::Pod {
        kubelet,
        namespace: object::namespace(&pod).to_owned(),
        name: object::name(&pod).to_owned(),
    };
    let connection = connection(call)?;
    call.api.sessions.begin(connection, move |io| async move {
        match upgrade {
            Upgrade::Spdy => forward::serve_spdy(io, &pod).await,
            Upgrade::WebSocket(forward::TUNNELLED) => forward::serve_tunnelled(io, &pod).await,
            Upgrade::WebSocket(_) => forward::serve_channels(io, &pod, &ports).await,
        }
    })?;
    Ok(Answer::Response(Box::new(answer)))
}

/// Shows a connection, with its options, to admission.
async fn admit(call: &mut Call, subresource: &'static str, kind: &str) -> Result<(), ApiError> {
    let mut request = admission_request(call, Operation::Connect, Part::Sub(subresource), None);
    let mut options = serde_json::json!({"apiVersion": "v1", "kind": kind});
    for (key, value) in &call.request.options.raw {
        match (
            key.as_str(),
            options.get_mut(key).and_then(Value::as_array_mut),
        ) {
            ("command" | "ports", Some(values)) => values.push(value.as_str().into()),
            ("command" | "ports", None) => options[key] = [value.as_str()].into_iter().collect(),
            ("stdin" | "stdout" | "stderr" | "tty", _) => {
                options[key] = (value != "false" && value != "0").into()
            }
            ("container", _) => options[key] = value.as_str().into(),
            _ => {}
        }
    }
    request.object = Some(options);
    let api = Arc::clone(&call.api);
    let changed = api.admission.mutate(&mut request).await?;
    let judged = api.admission.validate(&request).await?;
    call.warnings.extend(changed.into_iter().chain(judged));
    Ok(())
}

/// The pod that a request is about.
fn pod(call: &Call) -> Result<Value, ApiError> {
    let name = call.request.name();
    let key = call.api.key(&call.kind, call.namespace(), name);
    call.api.read(&key).ok_or_else(|| call.not_found(name))
}

fn kubelet(call: &Call) -> Result<Arc<dyn Kubelet>, ApiError> {
    let kubelet = call.api.kubelet.get().cloned();
    kubelet.ok_or_else(|| ApiError::unavailable("no node runs pods here yet"))
}

fn is_running(pod: &Value) -> bool {
    !matches!(
        object::text(pod, &["status", "phase"]),
        "Succeeded" | "Failed"
    )
}

fn connection(call: &mut Call) -> Result<OnUpgrade, ApiError> {
    let upgrade = call.upgrade.take();
    upgrade.ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded: use HTTP/1.1"))
}
