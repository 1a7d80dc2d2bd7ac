//! A durable, revisioned, watchable store of records.
//!
//! Reads and watches are served from memory; a write is acknowledged, and seen by
//! readers and watchers, only once it is on disk. The store knows keys, bytes and
//! revisions, and nothing of what the bytes mean.
//!
//! ```
//! # use sandlot_store::{Change, Config, Expect, Facts, Key, Range, Store};
//! #[derive(Clone, Debug)]
//! struct Length(usize);
//!
//! impl Facts for Length {
//!     fn of(_: &Key, value: &[u8]) -> Self {
//!         Length(value.len())
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let store = Store::<Length>::open(Config::in_memory()).unwrap();
//! let (listing, mut watch) = store.list_and_watch(Range::all("greetings"));
//! assert!(listing.records.is_empty());
//!
//! let key = Key::new("greetings", "default", "hello");
//! let put = Change::put(Length(12), |revision| format!("written at {revision}").into());
//! let written = store.write(key.clone(), Expect::Absent, put).await.unwrap();
//!
//! assert_eq!(store.get(&key).unwrap().facts.0, "written at 1".len());
//! assert_eq!(watch.next().await.unwrap().unwrap().revision, written.revision);
//! store.close().await;
//! # });
//! ```
//!
//! # The way of a write
//!
//! 1. [`Store::write`] waits for room in the queue, checks what it expects against the
//!    newest version accepted so far, gives the write the next revision and queues it.
//! 2. One writer thread commits whatever is queued as one transaction, so that many
//!    writes share the price of one fsync.
//! 3. After the commit the batch is shown to readers and watchers, in revision order, and
//!    then acknowledged. When the commit fails, the batch and everything accepted after it
//!    fail, because later writes may have been decided upon having seen earlier ones.

mod config;
mod disk;
mod error;
mod history;
mod intake;
mod lock;
mod overflow;
mod page;
mod record;
mod state;
mod stats;
mod storage;
mod store;
mod turns;
mod watch;
mod writer;

pub use config::Config;
pub use error::{Lagged, OpenError, RevisionError, WriteError};
pub use page::{Listing, Page};
pub use record::{Change, Event, Expect, Facts, Key, Range, Record, Render};
pub use stats::Stats;
pub use store::Store;
pub use watch::Watch;
