//! Reading many objects, all at once or page by page.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sandlot_store::{Key, Range, RevisionError};
use serde_json::{Value, json};

use crate::answer::{Answer, List};
use crate::api::Api;
use crate::call::Call;
use crate::record::Record;
use crate::request::Match;
use crate::selection::Selection;
use crate::status::ApiError;
use crate::versions::all_served;

/// How long a read waits for a revision that this server has not seen yet.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many records are looked at in one step of a selective page.
const STRIDE: usize = 1000;

/// Where a list looks, and what it selects there.
pub(crate) struct Selected {
    pub(crate) range: Range,
    pub(crate) selection: Selection,
}

impl Selected {
    /// Reads the selectors of a request.
    pub(crate) fn new(call: &Call) -> Result<Selected, ApiError> {
        let options = &call.request.options;
        Ok(Selected {
            range: call.api.range(&call.kind, call.namespace()),
            selection: Selection::parse(
                &call.kind,
                &options.label_selector,
                &options.field_selector,
            )?,
        })
    }

    /// Everything selected, as it is now.
    pub(crate) fn records(&self, call: &Call) -> Result<Vec<Arc<Record>>, ApiError> {
        let listing = call.api.store.list(&self.range);
        Ok(self.filtered(listing.records))
    }

    fn filtered(&self, records: Vec<Arc<Record>>) -> Vec<Arc<Record>> {
        match self.selection.is_everything() {
            true => records,
            false => records
                .into_iter()
                .filter(|record| self.selection.selects(record))
                .collect(),
        }
    }
}

/// Answers with many objects.
pub(crate) async fn list(call: &Call) -> Result<Answer, ApiError> {
    let selected = Selected::new(call)?;
    let options = &call.request.options;
    catch_up(call).await;
    let start = match options.continue_token.as_str() {
        "" => Start {
            at: revision_of(call).await?,
            after: None,
        },
        token => Start::decode(token, &selected.range)?,
    };
    if !options.continue_token.is_empty()
        && options.resource_version.is_some_and(|version| version != 0)
    {
        return Err(ApiError::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    let page = page(&call.api, &selected, &start, options.limit)?;
    let stored = page
        .records
        .iter()
        .map(|record| (&record.value, record.revision));
    let items = all_served(&call.kind, stored).await?;
    Ok(Answer::List(List {
        revision: page.revision,
        continue_token: page
            .next
            .map(|key| encode(i64::try_from(page.revision).unwrap_or(-1), &key))
            .unwrap_or_default(),
        remaining: page.remaining,
        items,
    }))
}

/// At which revision to read; `None` is now.
async fn revision_of(call: &Call) -> Result<Option<u64>, ApiError> {
    let options = &call.request.options;
    let Some(asked) = options.resource_version.filter(|version| *version > 0) else {
        return Ok(None);
    };
    // Kubernetes reads a plain version together with a limit as exactly that version.
    let rule = options
        .resource_version_match
        .unwrap_or(if options.limit > 0 {
            Match::Exact
        } else {
            Match::NotOlderThan
        });
    reached(&call.api, asked).await?;
    Ok((rule == Match::Exact).then_some(asked))
}

/// Waits until the disk is where a client that runs ahead of it has been: what it has seen must not
/// seem undone to it by a list.
pub(crate) async fn catch_up(call: &Call) {
    if call.ahead {
        call.api.store.settled_so_far().await;
    }
}

/// Waits a moment for a revision that is not there yet.
pub(crate) async fn reached(api: &Api, revision: u64) -> Result<(), ApiError> {
    // Whether it came in time is read off the store itself.
    let _ = tokio::time::timeout(PATIENCE, api.store.settled(revision)).await;
    let newest = api.store.revision();
    match newest >= revision {
        true => Ok(()),
        false => Err(ApiError::too_large_resource_version(revision, newest)),
    }
}

/// Where a page begins.
struct Start {
    at: Option<u64>,
    after: Option<Key>,
}

/// What was found for a page.
struct Found {
    revision: u64,
    records: Vec<Arc<Record>>,
    next: Option<Key>,
    remaining: Option<usize>,
}

fn page(api: &Api, selected: &Selected, start: &Start, limit: usize) -> Result<Found, ApiError> {
    if limit == 0 && start.at.is_none() && start.after.is_none() {
        let listing = api.store.list(&selected.range);
        let records = selected.filtered(listing.records);
        return Ok(Found {
            revision: listing.revision,
            records,
            next: None,
            remaining: None,
        });
    }
    let (mut at, mut after) = (start.at, start.after.clone());
    let limit = if limit == 0 { usize::MAX } else { limit };
    let selective = !selected.selection.is_everything();
    let mut records: Vec<Arc<Record>> = Vec::new();
    loop {
        let wanted = limit - records.len();
        let stride = if selective { STRIDE } else { wanted };
        let page = api
            .store
            .page(&selected.range, after.as_ref(), stride, at)
            .map_err(|error| expired(error, after.as_ref(), api))?;
        at = Some(page.revision);
        after = page
            .records
            .last()
            .map(|record| record.key.clone())
            .or(after);
        let mut found = selected.filtered(page.records);
        let surplus = found.len() > wanted;
        found.truncate(wanted);
        records.append(&mut found);
        let full = records.len() >= limit;
        if full || !page.more {
            let more = surplus || page.more;
            let next = (full && more)
                .then(|| records.last().map(|record| record.key.clone()))
                .flatten();
            let remaining = (next.is_some() && !selective).then_some(page.remaining);
            return Ok(Found {
                revision: page.revision,
                records,
                next,
                remaining,
            });
        }
    }
}

/// What a client is told whose list has been forgotten. The token beside it goes on from there.
const LIST_TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. \
     You can start a new list without the continue parameter, or use the continue token in this response to \
     retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list \
     - objects that were created, modified, or deleted between the time the first chunk was returned and now \
     may show up in the list.";

/// The token with which the next page is asked for; it looks as Kubernetes' own does.
fn encode(revision: i64, after: &Key) -> String {
    let start = format!("{}/{}\0", after.namespace, after.name);
    let token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

impl Start {
    fn decode(token: &str, range: &Range) -> Result<Start, ApiError> {
        let wrong = || {
            ApiError::bad_request(
                "continue key is not valid: it must be a token from an earlier list",
            )
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(token.trim_end_matches('='))
            .map_err(|_| wrong())?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        if value["v"] != "meta.k8s.io/v1" {
            return Err(wrong());
        }
        let start = value["start"].as_str().ok_or_else(wrong)?;
        let (namespace, name) = start
            .trim_end_matches('\0')
            .split_once('/')
            .ok_or_else(wrong)?;
        if range
            .namespace
            .as_deref()
            .is_some_and(|own| own != namespace)
        {
            return Err(wrong());
        }
        // A token of an expired list says -1: go on from here as things are now.
        let at = value["rv"].as_i64().ok_or_else(wrong)?;
        Ok(Start {
            at: u64::try_from(at).ok().filter(|at| *at > 0),
            after: Some(Key::new(Arc::clone(&range.kind), namespace, name)),
        })
    }
}

fn expired(error: RevisionError, after: Option<&Key>, api: &Api) -> ApiError {
    match (error, after) {
        (RevisionError::Future { asked, .. }, _) => {
            ApiError::too_large_resource_version(asked, api.store.revision())
        }
        (RevisionError::Expired { .. }, None) => {
            ApiError::expired("The resourceVersion for the provided list is too old.")
        }
        (RevisionError::Expired { .. }, Some(after)) => {
            ApiError::expired(LIST_TOO_OLD).with_continue(encode(-1, after))
        }
    }
}
