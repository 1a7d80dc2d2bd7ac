//! `sandlot run`, `exec` and `shell`: commands in sandboxes, with the command's own exit code.

use anyhow::Result;

use crate::{
    args::{Exec, Output, Run, Shell},
    claim::{self, Claim},
    interrupts::Interrupts,
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
    let mut interrupts = Interrupts::listen()?;
    let claim = Claim::make(&client, &namespace, &pool, &mut interrupts).await?;
    let ended = run_or_stop(
        process::run(
            &client,
            &namespace,
            &claim.pod,
            &options.command,
            options.output,
        ),
        &mut interrupts,
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

/// The command's code, or that of one that was stopped as we were.
async fn run_or_stop(
    running: impl Future<Output = Result<i32>>,
    interrupts: &mut Interrupts,
    output: Output,
) -> Result<i32> {
    let code = tokio::select! {
        ended = running => ended?,
        stopped = interrupts.first() => stopped.code,
    };
    transcript::end(code, output).await?;
    Ok(code)
}

/// Runs a command in a sandbox that is there already.
pub(crate) async fn exec(options: &Exec) -> Result<i32> {
    let (client, namespace) = target::connect(&options.target).await?;
    let pod = claim::pod_of(&client, &namespace, &options.sandbox).await?;
    let running = process::run(&client, &namespace, &pod, &options.command, options.output);
    run_or_stop(running, &mut Interrupts::listen()?, options.output).await
}

/// Opens a terminal in a sandbox.
pub(crate) async fn shell(options: &Shell) -> Result<i32> {
    let (client, namespace) = target::connect(&options.target).await?;
    let pod = claim::pod_of(&client, &namespace, &options.sandbox).await?;
    let mut interrupts = Interrupts::listen()?;
    // Dropped, it gives our terminal back as it was.
    tokio::select! {
        ended = process::shell(&client, &namespace, &pod) => ended,
        stopped = interrupts.first() => Ok(stopped.code),
    }
}
