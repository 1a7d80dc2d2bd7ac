//! Files of a session: listed, taken in, given out; never held whole.

use std::{ops::Range, sync::Arc};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{StreamExt, TryStreamExt};
use sandlot_decide::session::SessionStatus;
use serde_json::json;
use tonic::Code;

use super::{Answer, Query, State, session_of};
use crate::{
    access::Caller,
    archive::{self, Extracted},
    artifacts::mime,
    check::Fields,
    gateway::Gateway,
    ledger::Session,
    moment::naive_or_null,
    refusal::Refusal,
    workspaces::{Content, Entry, FileError, is_path},
};

/// A file this large is answered with a link to it.
const LARGE: u64 = 10 << 20;

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/sessions/{id}/files", get(list))
        .route("/sessions/{id}/files/upload", post(upload))
        .route("/sessions/{id}/files/{*path}", get(download))
        // Files have a limit of their own, counted as they come.
        .layer(DefaultBodyLimit::disable())
}

async fn list(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    query: Query,
) -> Answer {
    let mut fields = Fields::of_query(&query);
    let limit = fields.integer("limit", 1..=10_000).unwrap_or(1000);
    let below = fields.text("path", 0..=1024).unwrap_or_default();
    fields.finish()?;
    session_of(&gateway, &caller, &id).await?;
    let most = usize::try_from(limit).unwrap_or(1000);
    let entries = gateway.files.list(&id, &below, most).await?;
    let files: Vec<_> = entries
        .iter()
        .map(|entry| {
            json!({
                "name": entry.path,
                "container_path": format!("/workspace/{}", entry.path),
                "size": entry.size,
                "modified_time": naive_or_null(entry.modified),
                "etag": entry.etag,
            })
        })
        .collect();
    Ok(Json(
        json!({ "session_id": id, "count": files.len(), "files": files }),
    ))
}

/// What an upload is to become.
struct Target {
    path: String,
    extract: bool,
    overwrite: bool,
}

impl Target {
    fn read(query: &Query) -> Result<Self, Refusal> {
        let mut fields = Fields::of_query(query);
        let target = Self {
            path: fields.text("path", 0..=1024).unwrap_or_default(),
            extract: fields.flag("extract").unwrap_or(false),
            overwrite: fields.flag("overwrite").unwrap_or(true),
        };
        fields.finish()?;
        let path = target.path.trim_end_matches('/');
        let is_whole = target.extract && matches!(path, "" | ".");
        if is_whole {
            return Ok(Self {
                path: String::new(),
                ..target
            });
        }
        if !is_path(path) {
            return Err(FileError::Path(target.path).into());
        }
        Ok(Self {
            path: path.to_owned(),
            ..target
        })
    }
}

async fn upload(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    query: Query,
    request: Request,
) -> Answer {
    let target = Target::read(&query)?;
    let session = session_of(&gateway, &caller, &id).await?;
    if !session.status.is_active() {
        return Err(Refusal::Conflict(format!(
            "Session {id} is {}: files can be uploaded to an active session only",
            session.status.as_str()
        )));
    }
    let mut form = form(request)?;
    let broken = |error: multer::Error| FileError::Broken(error.to_string());
    while let Some(field) = form.next_field().await.map_err(broken)? {
        if field.name() != Some("file") {
            continue;
        }
        let content: Content = field.map_err(std::io::Error::other).boxed();
        return match target.extract {
            true => extract(&gateway, &session, &target, content).await,
            false => keep(&gateway, &session, &target.path, content).await,
        };
    }
    Err(Refusal::bad("the form has no field named \"file\""))
}

fn form(request: Request) -> Result<multer::Multipart<'static>, Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind).map_err(|_| {
        Refusal::bad("a file is uploaded as multipart/form-data with a field named \"file\"")
    })?;
    let body = request.into_body().into_data_stream();
    Ok(multer::Multipart::new(body, boundary))
}

impl Gateway {
    /// Keeps a file that came for a session, of at most so many bytes; its size. Whether it can be
    /// there says the session's pod when it is brought there, or the store where there is none yet.
    pub(crate) async fn take_in(
        &self,
        session: &Session,
        path: &str,
        content: Content,
        most: u64,
    ) -> Result<u64, FileError> {
        match session.status {
            SessionStatus::Creating => {
                let ahead = self.files.put_ahead(&session.id, path, content, most);
                ahead.await
            }
            _ => self.files.put(&session.id, path, content, most).await,
        }
    }
}

async fn keep(gateway: &Gateway, session: &Session, path: &str, content: Content) -> Answer {
    let most = gateway.settings.largest_upload;
    let size = gateway.take_in(session, path, content, most).await?;
    bring(gateway, session, path).await?;
    Ok(Json(json!({
        "session_id": session.id, "mode": "file", "file_path": path, "size": size,
    })))
}

async fn extract(
    gateway: &Arc<Gateway>,
    session: &Session,
    target: &Target,
    content: Content,
) -> Answer {
    let mut extracted = Extracted::default();
    let (below, overwrite) = (&target.path, target.overwrite);
    let whole = archive::extract(gateway, session, below, overwrite, content, &mut extracted).await;
    // What came out before something went wrong is kept: the pod has it too.
    for path in &extracted.paths {
        bring(gateway, session, path).await?;
    }
    whole?;
    Ok(Json(json!({
        "session_id": session.id,
        "mode": "archive_extract",
        "extract_path": target.path,
        "extracted_file_count": extracted.paths.len(),
        "skipped_file_count": extracted.skipped,
        "size": extracted.size,
    })))
}

/// Brings a file that was just kept into the session's pod. A session that has none yet gets
/// all its files together with it.
async fn bring(gateway: &Gateway, session: &Session, path: &str) -> Result<(), Refusal> {
    // It may have got its pod, with what was kept until then, while this file came in.
    let now = gateway.ledger.session(&session.id).await?;
    let Some(session) = now.filter(|now| now.status == SessionStatus::Running) else {
        return Ok(());
    };
    let failed = |why: String| {
        Refusal::Plain(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "{path} is kept, but session {} does not have it yet: {why}",
                session.id
            ),
        )
    };
    let patience = std::time::Duration::from_secs(10);
    let executor = gateway
        .executors
        .of(&gateway.claims, &session.facts.claim, patience)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let content = gateway.files.get(&session.id, path).await?;
    match executor.write(path, content).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::FailedPrecondition => {
            // No pod of the session could be given it.
            gateway.files.remove(&session.id, path).await?;
            Err(FileError::InTheWay(path.to_owned()).into())
        }
        Err(status) => Err(failed(status.message().to_owned())),
    }
}

async fn download(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path((id, path)): Path<(String, String)>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(&query);
    let straight = fields.flag("download").unwrap_or(false);
    fields.finish()?;
    session_of(&gateway, &caller, &id).await?;
    let file = gateway.files.find(&id, &path).await?;
    let part = headers
        .get(header::RANGE)
        .filter(|_| is_still(&file, &headers));
    let range = part.and_then(|range| wanted(range.to_str().ok()?, file.size));
    if file.size >= LARGE && !straight && headers.get(header::RANGE).is_none() {
        let link = gateway.files.link(&id, &path).await?;
        let link = link.unwrap_or_else(|| own_link(&headers, &id, &path));
        let body = json!({
            "session_id": id, "file_path": path, "presigned_url": link, "size": file.size,
        });
        return Ok(Json(body).into_response());
    }
    let (status, range) = match range {
        None => (StatusCode::OK, None),
        Some(Err(())) => {
            let whole = [(header::CONTENT_RANGE, format!("bytes */{}", file.size))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, whole).into_response());
        }
        Some(Ok(range)) => (StatusCode::PARTIAL_CONTENT, Some(range)),
    };
    let length = range
        .as_ref()
        .map_or(file.size, |range| range.end - range.start);
    let content = gateway.files.get_found(&id, &file, range.clone()).await?;
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, mime(&path))
        .header(header::CONTENT_LENGTH, length)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::CONTENT_DISPOSITION, attachment(&path));
    if let Some(range) = range {
        let part = format!("bytes {}-{}/{}", range.start, range.end - 1, file.size);
        response = response.header(header::CONTENT_RANGE, part);
    }
    if let Some(etag) = file
        .etag
        .as_deref()
        .and_then(|etag| HeaderValue::from_str(etag).ok())
    {
        response = response.header(header::ETAG, etag);
    }
    response
        .body(Body::from_stream(content))
        .map_err(|error| Refusal::Broken(error.to_string()))
}

/// A link to this gateway, where the store makes none itself.
fn own_link(headers: &HeaderMap, session: &str, path: &str) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let path: Vec<_> = path.split('/').map(encoded).collect();
    format!(
        "http://{}/api/v1/sessions/{session}/files/{}?download=true",
        host.unwrap_or("localhost:8000"),
        path.join("/")
    )
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The file's own name, in a way that every client reads.
fn attachment(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    format!("attachment; filename*=UTF-8''{}", encoded(name))
}

/// Whether a file is the one that a part is wanted of. Who has some of another wants all of this.
fn is_still(file: &Entry, headers: &HeaderMap) -> bool {
    let Some(known) = headers.get(header::IF_RANGE) else {
        return true;
    };
    file.own_etag()
        .is_some_and(|etag| known.as_bytes() == etag.as_bytes())
}

/// The one range of bytes that is wanted: nothing for what is not understood, which means the
/// whole file, and an error for what lies beyond it.
fn wanted(header: &str, size: u64) -> Option<Result<Range<u64>, ()>> {
    let (first, last) = header.strip_prefix("bytes=")?.trim().split_once('-')?;
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(last)) if first.is_empty() => size.saturating_sub(last)..size,
        _ => return None,
    };
    Some(if range.start < range.end {
        Ok(range)
    } else {
        Err(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_has_them() {
        assert_eq!(wanted("bytes=0-4", 10), Some(Ok(0..5)));
        assert_eq!(wanted("bytes=5-", 10), Some(Ok(5..10)));
        assert_eq!(wanted("bytes=-3", 10), Some(Ok(7..10)));
        assert_eq!(wanted("bytes=8-99", 10), Some(Ok(8..10)));
        assert_eq!(wanted("bytes=10-", 10), Some(Err(())));
        for odd in [
            "bytes=4-2",
            "bytes=a-b",
            "items=0-1",
            "bytes=0-1,3-4",
            "bytes=-",
        ] {
            assert_eq!(wanted(odd, 10), None, "{odd}");
        }
    }

    #[test]
    fn a_name_cannot_add_headers() {
        assert_eq!(
            attachment("a/b\r\nX: \"y"),
            "attachment; filename*=UTF-8''b%0D%0AX%3A%20%22y"
        );
    }
}
