//! `sandlot-agent`: see the library.

use std::process::ExitCode;

use sandlot_agent::{AgentError, Task, install, parse, serve};

fn main() -> ExitCode {
    let task = match parse(std::env::args_os(), |name| std::env::var(name).ok()) {
        Ok(task) => task,
        Err(error) => return failed(&error, 2),
    };
    match task {
        Task::Say(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Task::Install(folder) => match install(&folder) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => failed(
                &format!("cannot install into {}: {error}", folder.display()),
                1,
            ),
        },
        Task::Serve(options) => match run(options) {
            Ok(code) => code_of(code),
            Err(error) => failed(&error, error.code()),
        },
    }
}

/// One thread serves everything; what waits for disks waits on a few others that come and go.
fn run(options: sandlot_agent::Options) -> Result<i32, AgentError> {
    // All but keepers is started with it: the container's own command.
    sandlot_supervisor::leave_heap_out();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(256 << 10)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()?;
    let lived = runtime.block_on(serve(options, std::env::vars_os()));
    runtime.shutdown_background();
    lived
}

fn failed(error: &dyn std::fmt::Display, code: i32) -> ExitCode {
    eprintln!("sandlot-agent: {error}");
    code_of(code)
}

fn code_of(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}
