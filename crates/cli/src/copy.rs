//! `sandlot cp`: files into and out of a sandbox, as a tar stream through exec.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::AttachParams};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    process::Command,
};

use crate::{
    args::Copy,
    claim,
    process::{executor, exit_code},
    target,
};

/// One end of a copy.
#[derive(Debug, PartialEq)]
enum Place {
    Here(PathBuf),
    There { sandbox: String, path: String },
}

impl Place {
    fn parse(text: &str) -> Place {
        match text.split_once(':') {
            // A colon behind a slash belongs to a path, as in ./a:b.
            Some((sandbox, path)) if !sandbox.is_empty() && !sandbox.contains('/') => {
                Place::There {
                    sandbox: sandbox.to_owned(),
                    path: path.to_owned(),
                }
            }
            _ => Place::Here(PathBuf::from(text)),
        }
    }
}

/// Copies in the direction that the two places say.
pub(crate) async fn run(options: &Copy) -> Result<()> {
    match (Place::parse(&options.from), Place::parse(&options.to)) {
        (Place::There { sandbox, path }, _) | (_, Place::There { sandbox, path })
            if path.is_empty() =>
        {
            bail!("say where in the sandbox: {sandbox}:PATH")
        }
        (Place::Here(from), Place::There { sandbox, path }) => {
            if let Err(error) = tokio::fs::symlink_metadata(&from).await {
                bail!("cannot read {}: {error}", from.display());
            }
            let (pods, pod) = pod(options, &sandbox).await?;
            send(&pods, &pod, &from, &path).await
        }
        (Place::There { sandbox, path }, Place::Here(to)) => {
            let (pods, pod) = pod(options, &sandbox).await?;
            fetch(&pods, &pod, &path, &to).await
        }
        _ => bail!("one of the two places must be SANDBOX:PATH, and only one"),
    }
}

async fn pod(options: &Copy, sandbox: &str) -> Result<(Api<Pod>, String)> {
    let (client, namespace) = target::connect(&options.target).await?;
    let pod = claim::pod_of(&client, &namespace, sandbox).await?;
    Ok((Api::namespaced(client, &namespace), pod))
}

/// Folder and last name of a path; tar packs the name relative to the folder.
fn split(path: &Path) -> Result<(&Path, &str)> {
    let name = path.file_name().and_then(|n| n.to_str());
    let name = name.with_context(|| format!("{} does not end in a file name", path.display()))?;
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Ok((folder, name))
}

async fn send(pods: &Api<Pod>, pod: &str, from: &Path, to: &str) -> Result<()> {
    let (folder, name) = split(from)?;
    let mut packing = Command::new("tar")
        .args(["-cf", "-", "-C"])
        .arg(folder)
        .args(["--", name])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run tar here")?;
    // Into the folder when the target is one, else under the target's own name.
    let unpack = "if [ -d \"$1\" ]; then exec tar -xf - -C \"$1\"; fi; d=$(dirname \"$1\"); mkdir -p \"$d\" && \
                  t=$(mktemp -d \"$d/.copy.XXXXXX\") && tar -xf - -C \"$t\" && mv \"$t/$2\" \"$1\" && rmdir \"$t\"";
    let command = ["sh", "-c", unpack, "sh", to, name];
    let parameters = AttachParams::default()
        .container(executor(pods, pod).await?)
        .stdin(true)
        .stdout(false)
        .stderr(true);
    let mut process = pods.exec(pod, command, &parameters).await?;
    let status = process.take_status();
    let complaint = process.stderr();
    if let (Some(mut packed), Some(mut input)) = (packing.stdout.take(), process.stdin()) {
        copy(&mut packed, &mut input)
            .await
            .context("the connection to the sandbox broke")?;
        input.shutdown().await?;
    }
    if !packing.wait().await?.success() {
        bail!("tar could not read {}", from.display());
    }
    finish(status, complaint, to).await
}

async fn fetch(pods: &Api<Pod>, pod: &str, from: &str, to: &Path) -> Result<()> {
    let (folder, name) = split(Path::new(from))?;
    let folder = folder.to_str().unwrap_or(".");
    let command = ["tar", "-cf", "-", "-C", folder, "--", name];
    let parameters = AttachParams::default()
        .container(executor(pods, pod).await?)
        .stdin(false)
        .stdout(true)
        .stderr(true);
    let mut process = pods.exec(pod, command, &parameters).await?;
    let status = process.take_status();
    let complaint = process.stderr();
    let into_folder = to.is_dir();
    let target = if into_folder { to } else { split(to)?.0 };
    let mut unpacking = Command::new("tar");
    // Two copies into one folder do not meet.
    let unpacked_to = format!(".sandlot-copy-{}", std::process::id());
    // What a sandbox sends is not trusted: no links out of the folder, no owners, no devices.
    unpacking.args(["-xf", "-", "--no-same-owner", "--no-same-permissions"]);
    let mut unpacking = unpacking
        .arg(format!("--one-top-level={unpacked_to}"))
        .arg("-C")
        .arg(target)
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run tar here")?;
    if let (Some(mut packed), Some(mut input)) = (process.stdout(), unpacking.stdin.take()) {
        copy(&mut packed, &mut input)
            .await
            .context("the copy could not be written here")?;
        input.shutdown().await?;
    }
    let unpacked = unpacking.wait().await?.success();
    let landed = target.join(unpacked_to);
    let done = finish(status, complaint, from).await;
    if done.is_ok() && unpacked {
        let place = if into_folder {
            to.join(name)
        } else {
            to.to_owned()
        };
        tokio::fs::rename(landed.join(name), &place)
            .await
            .with_context(|| format!("cannot write {}", place.display()))?;
    }
    let _ = tokio::fs::remove_dir_all(&landed).await;
    done?;
    anyhow::ensure!(unpacked, "tar could not unpack what came from the sandbox");
    Ok(())
}

async fn finish<S, C>(status: Option<S>, complaint: Option<C>, what: &str) -> Result<()>
where
    S: Future<Output = Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>>,
    C: tokio::io::AsyncRead + Unpin,
{
    let mut said = String::new();
    if let Some(complaint) = complaint {
        let _ = complaint.take(64 * 1024).read_to_string(&mut said).await;
    }
    let ended = match status {
        Some(status) => status.await,
        None => None,
    };
    match exit_code(ended)? {
        0 => Ok(()),
        code => bail!(
            "tar in the sandbox exited with {code} for {what}: {}",
            said.trim()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_after_a_slash_is_part_of_a_path() {
        assert_eq!(Place::parse("./a:b"), Place::Here("./a:b".into()));
        let there = Place::There {
            sandbox: "box".into(),
            path: "/tmp/x".into(),
        };
        assert_eq!(Place::parse("box:/tmp/x"), there);
    }
}
