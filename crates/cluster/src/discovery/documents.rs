//! The OpenAPI documents of all kinds that are served, made when they are asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Response};
use sandlot_objects::openapi::{self, Body as Speaks, KindInfo, Subresource, group_path};
use serde_json::Value;

use super::{subresource, tagged};
use crate::kinds::{Kind, Kinds};
use crate::negotiate::{MediaRange, ranges};
use crate::status::ApiError;

const JSON: &str = "application/json";
/// The binary form of the second edition, as Go clients ask for it and as it is answered.
const BINARY_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const BINARY: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Documents that were made, kept until the kinds change.
#[derive(Default)]
pub(crate) struct Documents(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    serial: u64,
    documents: HashMap<String, Bytes>,
}

impl Documents {
    /// Answers below `/openapi`; `None` when there is nothing.
    pub(crate) fn answer(
        &self,
        kinds: &Kinds,
        headers: &HeaderMap,
        path: &str,
    ) -> Option<Result<Response<Body>, ApiError>> {
        let below = path.strip_prefix("/openapi/")?;
        let ranges = ranges(headers);
        let asks_for = |name: &str| ranges.first().is_some_and(|range| range.name == name);
        if below == "v2" && (asks_for(BINARY_ASKED) || asks_for(BINARY)) {
            let document = self.kept(kinds, BINARY, || openapi::binary(&v2(kinds)));
            return Some(Ok(tagged(headers, BINARY, document)));
        }
        if !takes_json(&ranges) {
            return Some(Err(ApiError::not_acceptable(&[JSON])));
        }
        let document = match below {
            "v2" => self.kept(kinds, below, || v2(kinds).to_string()),
            "v3" => self.kept(kinds, below, || index(kinds)),
            _ => {
                let group = below.strip_prefix("v3/")?;
                let found = all_of(kinds, group);
                if found.is_empty() {
                    return None;
                }
                self.kept(kinds, below, || openapi::v3(&infos(&found)).to_string())
            }
        };
        Some(Ok(tagged(headers, JSON, document)))
    }

    fn kept<D: Into<Bytes>>(&self, kinds: &Kinds, path: &str, make: impl FnOnce() -> D) -> Bytes {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.serial != kinds.serial {
            *kept = Kept {
                serial: kinds.serial,
                documents: HashMap::new(),
            };
        }
        kept.documents
            .entry(path.to_owned())
            .or_insert_with(|| make().into())
            .clone()
    }
}

fn takes_json(ranges: &[MediaRange]) -> bool {
    ranges.is_empty()
        || ranges.iter().any(|range| {
            matches!(
                range.name.as_str(),
                "application/json" | "*/*" | "application/*"
            )
        })
}

/// The kinds below a path such as `apis/example.com/v1`.
fn all_of(kinds: &Kinds, path: &str) -> Vec<Arc<Kind>> {
    let found = kinds
        .groups()
        .iter()
        .flat_map(|(group, versions)| versions.iter().map(move |version| (group, version)));
    let mut found = found.filter(|(group, version)| group_path(group, version) == path);
    found
        .next()
        .map(|(group, version)| kinds.of_version(group, version))
        .unwrap_or_default()
}

/// Where each document is. The hash stands for what it is made from, so that the index does
/// not need the documents.
fn index(kinds: &Kinds) -> String {
    let mut entries = Vec::new();
    for (group, versions) in kinds.groups() {
        for version in versions {
            let mut origin = env!("CARGO_PKG_VERSION").to_owned();
            for kind in kinds.of_version(group, version) {
                let since = kind.custom().map_or(0, |custom| custom.since);
                origin.push_str(&format!(" {} {since}", kind.kind));
            }
            entries.push((group_path(group, version), openapi::hash(origin.as_bytes())));
        }
    }
    openapi::index(
        entries
            .iter()
            .map(|(path, hash)| (path.as_str(), hash.as_str())),
    )
    .to_string()
}

fn v2(kinds: &Kinds) -> Value {
    let all: Vec<Arc<Kind>> = kinds
        .groups()
        .iter()
        .flat_map(|(group, versions)| {
            versions
                .iter()
                .flat_map(|version| kinds.of_version(group, version))
        })
        .collect();
    openapi::v2(&infos(&all))
}

fn infos(kinds: &[Arc<Kind>]) -> Vec<KindInfo<'_>> {
    kinds.iter().filter_map(|kind| info(kind)).collect()
}

fn info(kind: &Kind) -> Option<KindInfo<'_>> {
    Some(KindInfo {
        group: &kind.group,
        version: &kind.version,
        kind: &kind.kind,
        list_kind: &kind.list_kind,
        plural: &kind.plural,
        namespaced: kind.namespaced,
        schema: kind.schema.as_deref()?,
        verbs: kind.verbs().to_vec(),
        subresources: kind
            .subresources
            .iter()
            .filter_map(|name| below(kind, name))
            .collect(),
    })
}

/// Connections are left out: no client reads them here.
fn below<'a>(kind: &'a Kind, name: &'a str) -> Option<Subresource<'a>> {
    let body = match name {
        "scale" => Some(Speaks::SCALE),
        "binding" => Some(Speaks::BINDING),
        "eviction" => Some(Speaks::EVICTION),
        "token" => Some(Speaks::TOKEN_REQUEST),
        "exec" | "attach" | "portforward" | "log" => return None,
        _ => None,
    };
    let verbs = subresource::of(kind).find(|sub| sub.name == name)?.verbs;
    Some(Subresource {
        name,
        body,
        verbs: verbs.to_vec(),
    })
}
