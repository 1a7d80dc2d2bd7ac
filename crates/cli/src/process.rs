//! A command in a sandbox's container, joined to this terminal or to these pipes.

use std::io::IsTerminal;

use anyhow::{Context, Result, bail};
use futures::SinkExt;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api, Client,
    api::{AttachParams, TerminalSize},
};
use tokio::io::{AsyncWriteExt, copy, stdin, stdout};

use crate::{args::Output, terminal::RawTerminal, transcript};

/// The container that user commands run in, by the name that the documents give it.
pub(crate) const EXECUTOR: &str = "executor";

/// The container of a pod that user commands run in: where the agent is.
pub(crate) async fn executor(pods: &Api<Pod>, pod: &str) -> Result<String> {
    let found = pods
        .get(pod)
        .await
        .with_context(|| format!("cannot read pod {pod}"))?;
    let containers = found.spec.map(|spec| spec.containers).unwrap_or_default();
    let names: Vec<String> = containers.into_iter().map(|one| one.name).collect();
    let named = names.iter().find(|name| *name == EXECUTOR);
    let first = named.or_else(|| names.first()).cloned();
    first.with_context(|| format!("pod {pod} has no containers"))
}

/// Runs a command with our own input and output, to its exit code.
pub(crate) async fn run(
    client: &Client,
    namespace: &str,
    pod: &str,
    command: &[String],
    output: Output,
) -> Result<i32> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    // A terminal's input would be read away from whoever comes after us.
    let forward = !std::io::stdin().is_terminal();
    let parameters = AttachParams::default()
        .container(executor(&pods, pod).await?)
        .stdin(forward)
        .stdout(true)
        .stderr(true);
    let mut process = pods
        .exec(pod, command, &parameters)
        .await
        .with_context(|| format!("cannot run in pod {pod}"))?;
    if let Some(mut to) = process.stdin() {
        tokio::spawn(async move {
            let _ = copy(&mut stdin(), &mut to).await;
            let _ = to.shutdown().await;
        });
    }
    let status = process.take_status();
    if let (Some(out), Some(err)) = (process.stdout(), process.stderr()) {
        transcript::pass_on(out, err, output).await?;
    }
    let ended = match status {
        Some(status) => status.await,
        None => None,
    };
    exit_code(ended)
}

/// Opens the shell in a terminal, to its exit code.
pub(crate) async fn shell(client: &Client, namespace: &str, pod: &str) -> Result<i32> {
    if !std::io::stdin().is_terminal() {
        bail!("`sandlot shell` needs a terminal; use `sandlot exec` in scripts");
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let choose = "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi";
    let parameters = AttachParams::default()
        .container(executor(&pods, pod).await?)
        .stdin(true)
        .stdout(true)
        .stderr(false)
        .tty(true);
    let mut process = pods.exec(pod, ["sh", "-c", choose], &parameters).await?;
    let terminal = RawTerminal::enter()?;
    let sizes = process.terminal_size();
    let resizing = tokio::spawn(async move {
        let Some(mut sizes) = sizes else { return };
        let Ok(mut changes) = terminal_changes() else {
            return;
        };
        loop {
            if let Some((width, height)) = crate::terminal::size()
                && sizes.send(TerminalSize { width, height }).await.is_err()
            {
                return;
            }
            if changes.recv().await.is_none() {
                return;
            }
        }
    });
    let typing = process
        .stdin()
        .map(|mut to| tokio::spawn(async move { copy(&mut stdin(), &mut to).await }));
    let status = process.take_status();
    if let Some(mut from) = process.stdout() {
        copy(&mut from, &mut stdout()).await?;
        stdout().flush().await?;
    }
    let ended = match status {
        Some(status) => status.await,
        None => None,
    };
    resizing.abort();
    if let Some(typing) = typing {
        typing.abort();
    }
    drop(terminal);
    exit_code(ended)
}

fn terminal_changes() -> std::io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change())
}

/// Reads the code that the API puts into the closing status.
pub(crate) fn exit_code(ended: Option<Status>) -> Result<i32> {
    let Some(status) = ended else {
        bail!("the connection ended before the command did")
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status
        .details
        .and_then(|details| details.causes)
        .unwrap_or_default();
    let code = causes
        .iter()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    if let Some(code) = code.and_then(|cause| cause.message.as_ref()?.parse().ok()) {
        return Ok(code);
    }
    let why = status
        .message
        .unwrap_or_else(|| "the command could not be run".to_owned());
    let Some(code) = code_of_failed_start(&why) else {
        bail!("{why}")
    };
    eprintln!("sandlot: {}", plain(&why));
    Ok(code)
}

/// A container runtime's words without those of everybody who passed them on.
fn plain(why: &str) -> &str {
    why.find("exec: ").map_or(why, |at| &why[at..])
}

/// What a shell would end with, where a container runtime's words say that the program is at
/// fault and not the way to it.
fn code_of_failed_start(why: &str) -> Option<i32> {
    let says = |words: &[&str]| words.iter().any(|words| why.contains(words));
    if !why.contains("exec: ") {
        None
    } else if says(&["executable file not found", "no such file or directory"]) {
        Some(127)
    } else {
        says(&["permission denied", "exec format error"]).then_some(126)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_start_has_the_code_a_shell_would_give() {
        let said = |words: &str| Status {
            status: Some("Failure".to_owned()),
            message: Some(words.to_owned()),
            ..Status::default()
        };
        let missing = "OCI runtime exec failed: exec: \"x\": executable file not found in $PATH";
        assert_eq!(exit_code(Some(said(missing))).unwrap(), 127);
        assert_eq!(
            plain(missing),
            "exec: \"x\": executable file not found in $PATH"
        );
        let denied = "exec: \"/etc/passwd\": permission denied";
        assert_eq!(exit_code(Some(said(denied))).unwrap(), 126);
        assert!(exit_code(Some(said("the kubelet is gone"))).is_err());
        assert!(exit_code(None).is_err());
    }
}
