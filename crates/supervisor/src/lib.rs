//! Runs commands well.
//!
//! - **Once.** A run has a key. Asking again with the key finds the run, whatever crashed in
//!   between: its record is on the disk before its program can run.
//! - **Whole.** A run is its whole process tree, however it forks, detaches or closes its pipes.
//!   Stopping it asks first and kills what does not listen, and is over when nobody is left.
//! - **Bounded.** Output goes to disk, where head and tail are kept; a reader that follows it
//!   gets every byte, and a flood waits for its reader instead of filling memory.
//! - **Outliving.** A run goes on when its supervisor is killed; the next one finds it, its
//!   output and its exit code.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use sandlot_supervisor::{Chunk, Key, Launch, Limits, Stream, Supervisor};
//!
//! let supervisor = Supervisor::open("/var/lib/example".as_ref(), Limits::default()).await?;
//! let run = supervisor.start(Key::new("greeting")?, Launch::new(["echo", "hello"])).await?;
//! let mut output = run.output(Stream::Stdout, 0);
//! while let Some(Chunk::Bytes(bytes)) = output.next().await? {
//!     print!("{}", String::from_utf8_lossy(&bytes));
//! }
//! # Ok(())
//! # }
//! ```

mod begin;
mod child;
mod descriptor;
mod disk;
mod earlier;
mod folders;
mod keeper;
mod known;
mod launch;
mod ledger;
mod life;
mod log;
mod note;
mod outcome;
mod pages;
mod program;
mod pump;
mod record;
mod run;
mod settle;
mod sheet;
mod stock;
mod supervisor;
mod tend;
mod terminal;
pub mod tree;
mod why;

pub use launch::{BadKey, Input, Inside, Keep, Key, Launch, Memory, Size, User};
pub use log::{Chunk, Reader};
pub use outcome::{End, Outcome, Usage, signal_name};
pub use pages::{leave_heap_out, with_heap};
pub use program::{DEFAULT_PATH, Unrunnable};
pub use run::{Run, Stream};
pub use stock::Owner;
pub use supervisor::{Limits, StartError, Supervisor};
pub use terminal::Terminal;
