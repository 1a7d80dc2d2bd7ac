//! Whether the server lives and is ready, and its numbers.

use axum::body::Body;
use http::{Response, StatusCode};

use crate::answer::response;
use crate::api::Api;

/// Answers on the paths that probes ask; anything else is not known here.
pub(crate) fn answer(api: &Api, path: &str, query: &str) -> Option<Response<Body>> {
    let mut parts = path.trim_start_matches('/').split('/');
    let probe = parts.next()?;
    let single = parts.next();
    let checks = match probe {
        "livez" | "healthz" => vec![Check::ok("ping")],
        "readyz" => vec![Check::ok("ping"), shutdown(api)],
        "metrics" if single.is_none() => {
            let text = api.metrics.text(&api.store);
            return Some(response(StatusCode::OK, crate::metrics::CONTENT_TYPE, text));
        }
        _ => return None,
    };
    let verbose = query
        .split('&')
        .any(|option| option == "verbose" || option.starts_with("verbose="));
    match single {
        Some(name) => checks
            .iter()
            .find(|check| check.name == name)
            .map(|check| told(probe, std::slice::from_ref(check), false)),
        None => Some(told(probe, &checks, verbose)),
    }
}

struct Check {
    name: &'static str,
    fine: bool,
}

impl Check {
    fn ok(name: &'static str) -> Check {
        Check { name, fine: true }
    }
}

fn shutdown(api: &Api) -> Check {
    Check {
        name: "shutdown",
        fine: !api.stop.is_cancelled(),
    }
}

fn told(probe: &str, checks: &[Check], verbose: bool) -> Response<Body> {
    let fine = checks.iter().all(|check| check.fine);
    let code = if fine {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let text = if fine && !verbose {
        "ok".to_owned()
    } else {
        let mut lines: String = checks
            .iter()
            .map(|check| match check.fine {
                true => format!("[+]{} ok\n", check.name),
                false => format!("[-]{} failed\n", check.name),
            })
            .collect();
        lines.push_str(&format!(
            "{probe} check {}\n",
            if fine { "passed" } else { "failed" }
        ));
        lines
    };
    response(code, "text/plain; charset=utf-8", text)
}
