//! Following changes: what is there first, if asked for, and then every change as it happens.
//!
//! A watch is a body that is pulled: it has no task of its own and ends when the client
//! hangs up. Whoever reads too slowly falls behind the store's history and is told to
//! start over; nobody else waits for him.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, StatusCode, header};
use rand::RngExt;
use sandlot_store::{Event, RevisionError, Watch};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};

use super::list::{Selected, catch_up, reached};
use crate::answer::{Answer, metadata_only};
use crate::aside::Aside;
use crate::call::Call;
use crate::kinds::Kind;
use crate::negotiate::Form;
use crate::record::{Facts, Record, with_revision};
use crate::selection::Selection;
use crate::status::ApiError;
use crate::tables::Columns;
use crate::versions::{all_served, served};

/// A watch that does not say how long it lasts is ended after this, at the earliest.
const SHORTEST_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// How often an idle watch is told how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Marks the bookmark after the initial events of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// Carries an empty list there, for clients that make a list of the events.
const LIST_BLUEPRINT: &str = "kubernetes.io/initial-events-list-blueprint";

/// Answers with a stream of events.
pub(crate) async fn watch(call: &Call) -> Result<Answer, ApiError> {
    let selected = Selected::new(call)?;
    let mut watcher = Watcher::new(call, selected.selection.clone());
    match begin(call, &selected).await? {
        Ok(begun) => watcher.begin(begun, call).await?,
        Err(error) => watcher.fail(&error),
    }
    let chunks = stream::unfold(watcher, |mut watcher| async move {
        let chunk = watcher.next().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(chunk), watcher))
    });
    let mut response = http::Response::new(Body::from_stream(chunks));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    Ok(Answer::Response(Box::new(response)))
}

/// How a watch begins.
struct Begun {
    watch: Watch<Facts>,
    initial: Vec<Arc<Record>>,
    revision: u64,
    /// The client waits for a bookmark after the initial events.
    announce_end: bool,
}

/// Finds where a watch begins. What goes wrong after that is told as an event.
async fn begin(call: &Call, selected: &Selected) -> Result<Result<Begun, ApiError>, ApiError> {
    let options = &call.request.options;
    let store = &call.api.store;
    let asked = options.resource_version.filter(|version| *version > 0);
    let everything_first = options.send_initial_events.unwrap_or(asked.is_none());
    if let (true, Some(version)) = (everything_first, asked) {
        reached(&call.api, version).await?;
    }
    let range = selected.range.clone();
    if everything_first || asked.is_none() {
        let (listing, watch) = match call.ahead {
            true => {
                catch_up(call).await;
                store.list_and_watch_ahead(range)
            }
            false => store.list_and_watch(range),
        };
        return Ok(Ok(Begun {
            watch,
            initial: if everything_first {
                listing.records
            } else {
                Vec::new()
            },
            revision: listing.revision,
            announce_end: options.send_initial_events == Some(true),
        }));
    }
    let after = asked.unwrap_or_default();
    let begun = match call.ahead {
        true => store.watch_ahead(range, after),
        false => store.watch(range, after),
    };
    Ok(begun
        .map(|watch| Begun {
            watch,
            initial: Vec::new(),
            revision: after,
            announce_end: false,
        })
        .map_err(too_old))
}

fn too_old(error: RevisionError) -> ApiError {
    match error {
        RevisionError::Expired { asked, horizon } => {
            ApiError::expired(format!("too old resource version: {asked} ({horizon})"))
        }
        // A version that was never given out: the client knows another server's state.
        RevisionError::Future { asked, newest } => {
            ApiError::expired(format!("too large resource version: {asked} ({newest})"))
        }
    }
}

/// One client's watch.
struct Watcher {
    kind: Arc<Kind>,
    api_version: String,
    selection: Selection,
    form: Form,
    columns: Columns,
    watch: Option<Watch<Facts>>,
    waiting: VecDeque<Bytes>,
    bookmarks: Option<Interval>,
    /// It has lasted long enough, or the server goes.
    over: Aside,
}

impl Watcher {
    fn new(call: &Call, selection: Selection) -> Watcher {
        let options = &call.request.options;
        let lasting = match options.timeout_seconds {
            Some(seconds) => Duration::from_secs(seconds),
            // Spread out, so that not all clients come back at once.
            None => SHORTEST_DEFAULT.mul_f64(rand::rng().random_range(1.0..2.0)),
        };
        Watcher {
            kind: Arc::clone(&call.kind),
            api_version: call.kind.api_version(),
            selection,
            form: call.accept.form,
            columns: Columns::new(call),
            watch: None,
            waiting: VecDeque::new(),
            bookmarks: options.bookmarks.then(|| {
                let mut ticks = interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks
            }),
            over: Aside::new()
                .or(sleep(lasting))
                .or(call.api.stop.clone().cancelled_owned()),
        }
    }

    async fn begin(&mut self, begun: Begun, call: &Call) -> Result<(), ApiError> {
        let initial = begun.initial.iter();
        let selected = initial.filter(|record| self.selection.selects(record));
        let stored = selected.map(|record| (&record.value, record.revision));
        for object in all_served(&self.kind, stored).await? {
            let event = self.event("ADDED", &object);
            self.waiting.push_back(event);
        }
        if begun.announce_end && call.request.options.bookmarks {
            let bookmark = self.bookmark(begun.revision, true);
            self.waiting.push_back(bookmark);
        }
        // Those further away are told first: to them an event is a few bytes to send.
        self.watch = Some(match call.near {
            true => begun.watch,
            false => begun.watch.told_first(),
        });
        Ok(())
    }

    /// Says what went wrong as an event, and ends.
    fn fail(&mut self, error: &ApiError) {
        self.waiting
            .push_back(line("ERROR", error.to_value().to_string().as_bytes()));
        self.watch = None;
    }

    /// The next part of the body; `None` ends it.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.waiting.pop_front() {
                return Some(chunk);
            }
            let watch = self.watch.as_mut()?;
            let happened = tokio::select! {
                biased;
                () = &mut self.over => return None,
                event = watch.next() => Happened::Change(event?),
                () = tick(&mut self.bookmarks) => Happened::Quiet(watch.progress()),
            };
            match happened {
                Happened::Change(Ok(event)) => {
                    if let Err(error) = self.changed(&event).await {
                        self.fail(&error);
                    }
                }
                Happened::Change(Err(_lagged)) => {
                    self.fail(&ApiError::expired(
                        "the watch fell too far behind: list again and start a new one",
                    ));
                }
                Happened::Quiet(revision) => {
                    let bookmark = self.bookmark(revision, false);
                    self.waiting.push_back(bookmark);
                }
            }
        }
    }

    /// Objects come and go with their labels: a client sees only what its selector selects.
    async fn changed(&mut self, event: &Event<Facts>) -> Result<(), ApiError> {
        let was = event
            .previous
            .as_ref()
            .filter(|record| self.selection.selects(record));
        let is = !event.deleted && self.selection.selects(&event.record);
        let (record, revision) = (&event.record, event.revision);
        let (what, object, written) = match (was, is) {
            (None, false) => return Ok(()),
            (None, true) => ("ADDED", record.value.clone(), revision),
            (Some(_), true) => ("MODIFIED", record.value.clone(), revision),
            (Some(_), false) if event.deleted => ("DELETED", record.value.clone(), revision),
            (Some(last), false) => {
                let last_seen = with_revision(&last.value, revision);
                ("DELETED", last_seen, last.revision)
            }
        };
        let object = served(&self.kind, &object, written).await?;
        let bytes = self.event(what, &object);
        self.waiting.push_back(bytes);
        Ok(())
    }

    fn event(&mut self, what: &str, object: &Bytes) -> Bytes {
        match self.form {
            Form::Whole => line(what, object),
            Form::MetadataOnly => line(what, text(metadata_only(object))),
            Form::Table => line(what, text(self.columns.table_of(object))),
        }
    }

    /// The list that the client would have got, without what is in it.
    fn empty_list(&self) -> Value {
        let (kind, version) = match self.form {
            Form::Whole => (self.kind.list_kind.as_str(), self.api_version.as_str()),
            Form::MetadataOnly => ("PartialObjectMetadataList", "meta.k8s.io/v1"),
            Form::Table => ("Table", "meta.k8s.io/v1"),
        };
        json!({"kind": kind, "apiVersion": version, "metadata": {}, "items": []})
    }

    fn bookmark(&self, revision: u64, end_of_initial: bool) -> Bytes {
        let (kind, version) = match self.form {
            Form::Whole => (self.kind.kind.as_str(), self.api_version.as_str()),
            Form::MetadataOnly => ("PartialObjectMetadata", "meta.k8s.io/v1"),
            Form::Table => ("Table", "meta.k8s.io/v1"),
        };
        let mut metadata =
            json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if end_of_initial {
            metadata["annotations"] = json!({
                INITIAL_EVENTS_END: "true",
                LIST_BLUEPRINT: STANDARD.encode(self.empty_list().to_string()),
            });
        }
        let object = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        line("BOOKMARK", object.to_string().as_bytes())
    }
}

enum Happened {
    Change(Result<Event<Facts>, sandlot_store::Lagged>),
    Quiet(u64),
}

/// The next tick; without a clock, never.
async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// A converted object, or why it could not be converted.
fn text(value: Result<Value, ApiError>) -> String {
    value.unwrap_or_else(|error| error.to_value()).to_string()
}

fn line(what: &str, object: impl AsRef<[u8]>) -> Bytes {
    let object = object.as_ref();
    let mut out = BytesMut::with_capacity(object.len() + what.len() + 24);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(what.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
    out.freeze()
}
