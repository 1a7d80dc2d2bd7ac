//! `sandlot-robot`: a robot's agent by itself, small and static, for robots that need nothing else
//! of Sandlot. The same as `sandlot robot`.

use std::{
    io::{IsTerminal, stderr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use sandlot_robot::Options;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The agent on a robot: it registers with a cluster, and does there what the cluster wants.
#[derive(Parser)]
#[command(name = "sandlot-robot", version)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    // The agent starts this very program again for the cells of its tasks.
    sandlot_robot::enter_if_called();
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        .with_target(false)
        .init();
    match run(&cli.options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandlot-robot: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread serves everything; what waits for disks waits on a few others that come and go.
fn run(options: &Options) -> Result<(), Failure> {
    let settings = options.settings(data_folder())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_stack_size(512 << 10)
        .thread_keep_alive(Duration::from_secs(2))
        .build()?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        let mut working = std::pin::pin!(sandlot_robot::run(settings, stop.clone()));
        tokio::select! {
            ended = &mut working => return Ok(ended?),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping; what runs goes on without the agent");
        stop.cancel();
        Ok(working.await?)
    });
    runtime.shutdown_background();
    ended
}

/// Where things are kept when no folder is named, as for the rest of Sandlot.
fn data_folder() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".local/share"));
    named("SANDLOT_DATA_DIR").or_else(|| {
        let share = named("XDG_DATA_HOME").or_else(home);
        share.map(|share| share.join("sandlot"))
    })
}
