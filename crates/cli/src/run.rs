//! `sandlot run`, `exec` and `shell`: commands in sandboxes, with the command's own exit code.

use anyhow::Result;
use kube::Client;

use crate::{
    args::{Exec, Output, Run, Shell},
    claim::{self, Claim},
    pool, process, target, transcript,
};

/// Claims a sandbox, runs the command, and gives the sandbox back.
pub(crate) async fn run(options: &Run) -> Result<i32> {
    let (client, namespace) = target::connect(&options.target).await?;
    let pool = match (&options.pool, &options.image) {
        (Some(pool), _) => pool.clone(),
        (None, Some(image)) => pool::for_image(&client, &namespace, image).await?,
        (None, None) => anyhow::bail!("name a pool with --pool, or an image with --image"),
    };
    let claim = Claim::make(&client, &namespace, &pool).await?;
    let ended = run_or_interrupt(
        &client,
        &namespace,
        &claim.pod,
        &options.command,
        options.output,
    )
    .await;
    if options.keep {
        eprintln!(
            "sandbox {} is kept; `sandlot exec {} -- …` runs more in it",
            claim.name, claim.name
        );
    } else {
        claim.release().await;
    }
    ended
}

/// The command's code, or that of a shell whose Ctrl-C was typed.
async fn run_or_interrupt(
    client: &Client,
    namespace: &str,
    pod: &str,
    command: &[String],
    output: Output,
) -> Result<i32> {
    let code = tokio::select! {
        ended = process::run(client, namespace, pod, command, output) => ended?,
        _ = tokio::signal::ctrl_c() => 130,
    };
    transcript::end(code, output).await?;
    Ok(code)
}

/// Runs a command in a sandbox that is there already.
pub(crate) async fn exec(options: &Exec) -> Result<i32> {
    let (client, namespace) = target::connect(&options.target).await?;
    let pod = claim::pod_of(&client, &namespace, &options.sandbox).await?;
    run_or_interrupt(&client, &namespace, &pod, &options.command, options.output).await
}

/// Opens a terminal in a sandbox.
pub(crate) async fn shell(options: &Shell) -> Result<i32> {
    let (client, namespace) = target::connect(&options.target).await?;
    let pod = claim::pod_of(&client, &namespace, &options.sandbox).await?;
    process::shell(&client, &namespace, &pod).await
}
