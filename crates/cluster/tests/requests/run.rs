//! Makes the requests of a case.

use axum::body::Body;
use futures::future::join_all;
use http::Request;
use http_body_util::BodyExt;
use sandlot_cluster::access::User;
use sandlot_cluster::{Cluster, Config};
use serde_json::Value;

use super::case::{Case, at, differences};

/// Runs every case of a file and tells all that fail.
pub(crate) async fn all_in(cases: &str) {
    let cases: Vec<Case> = serde_saphyr::from_str_with_options(
        cases,
        serde_saphyr::options! { strict_booleans: true },
    )
    .expect("the cases are well written");
    let wrong: Vec<String> = join_all(cases.iter().map(run))
        .await
        .into_iter()
        .flatten()
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n\n")
    );
}

struct Reply {
    code: u16,
    warnings: Vec<String>,
    body: String,
}

async fn run(case: &Case) -> Option<String> {
    let cluster = Cluster::start(Config::default())
        .await
        .expect("a cluster starts");
    let told = match play(&cluster, case).await {
        Ok(wrong) if wrong.is_empty() => None,
        Ok(wrong) => Some(format!("{}\n  {}", case.name, wrong.join("\n  "))),
        Err(why) => Some(format!("{}\n  {why}", case.name)),
    };
    cluster.stop().await;
    told
}

async fn play(cluster: &Cluster, case: &Case) -> Result<Vec<String>, String> {
    let mut last = Value::Null;
    for (line, body) in case.given.iter().flatten() {
        let body = (!body.is_null()).then(|| fill(&body.to_string(), &last));
        let reply = make(cluster, &fill(line, &last), body, &[]).await?;
        if reply.code >= 300 {
            return Err(format!("given {line}: {} {}", reply.code, reply.body));
        }
        last = serde_json::from_str(&reply.body).unwrap_or_default();
    }
    let raw = case.raw.as_deref().map(zeros);
    let body = raw.or_else(|| {
        case.body
            .as_ref()
            .map(|body| fill(&body.to_string(), &last))
    });
    let headers: Vec<(&str, &str)> = case
        .headers
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
        .collect();
    let reply = make(cluster, &fill(&case.when, &last), body, &headers).await?;
    let mut wrong = differences(&case.then, reply.code, &reply.warnings, &reply.body);
    if !wrong.is_empty() {
        let shown: String = reply.body.chars().take(2000).collect();
        wrong.push(format!("answer: {shown}"));
    }
    Ok(wrong)
}

/// `{a.b}` in a text becomes that field of the last answer.
fn fill(text: &str, last: &Value) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        let Some(end) = rest[start..].find('}').map(|end| start + end) else {
            break;
        };
        let found = at(last, &rest[start + 1..end]);
        match found {
            Some(value) => {
                out.push_str(&rest[..start]);
                out.push_str(value.as_str().unwrap_or(&value.to_string()));
                rest = &rest[end + 1..];
            }
            None => {
                out.push_str(&rest[..=start]);
                rest = &rest[start + 1..];
            }
        }
    }
    out + rest
}

/// `{zeros:N}` in a text becomes so many zeros.
fn zeros(text: &str) -> String {
    let Some((before, rest)) = text.split_once("{zeros:") else {
        return text.to_owned();
    };
    let (count, after) = rest.split_once('}').expect("a closing brace");
    let count: usize = count.parse().expect("a count");
    format!("{before}{}{after}", "0".repeat(count))
}

async fn make(
    cluster: &Cluster,
    line: &str,
    body: Option<String>,
    headers: &[(&str, &str)],
) -> Result<Reply, String> {
    let (word, path) = line.split_once(' ').ok_or("a request is METHOD path")?;
    let (method, kind) = match word {
        "MERGE" => ("PATCH", "application/merge-patch+json"),
        "JSON" => ("PATCH", "application/json-patch+json"),
        "STRATEGIC" => ("PATCH", "application/strategic-merge-patch+json"),
        "APPLY" => ("PATCH", "application/apply-patch+yaml"),
        other => (other, "application/json"),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path.replace(' ', "%20").replace('>', "%3E"));
    if !headers
        .iter()
        .any(|(key, _)| key.eq_ignore_ascii_case("content-type"))
    {
        request = request.header("content-type", kind);
    }
    request = request.header("user-agent", "cases/1");
    for (key, value) in headers {
        request = request.header(*key, *value);
    }
    let request = request
        .body(Body::from(body.unwrap_or_default()))
        .map_err(|error| error.to_string())?;
    let response = cluster.handle(User::master("test"), request).await;
    let (parts, body) = response.into_parts();
    let warnings = parts.headers.get_all("warning").iter();
    let warnings = warnings
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect();
    let body = body
        .collect()
        .await
        .map_err(|error| error.to_string())?
        .to_bytes();
    Ok(Reply {
        code: parts.status.as_u16(),
        warnings,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
