//! One operation on one path: what it takes and what it answers.

use serde_json::{Map, Value, json};

use super::components::reference;

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const ANSWERS: &[&str] = &["application/json", "application/yaml"];

/// What an operation is about.
pub(super) struct About<'a> {
    /// `x-kubernetes-group-version-kind`.
    pub(super) gvk: Value,
    /// The type that is sent and received.
    pub(super) type_name: &'a str,
    /// The end of the operation's id, such as `CoreV1NamespacedPod`.
    pub(super) id: &'a str,
    /// The heading under which tools show it, such as `core_v1`.
    pub(super) tag: &'a str,
    /// Whether strategic merge patches are taken.
    pub(super) builtin: bool,
}

/// The kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    List,
    Get,
    Create,
    Replace,
    Patch,
    Delete,
    DeleteCollection,
}

impl Action {
    /// The HTTP method, the beginning of the id, the name in the extension and in words.
    fn names(self) -> [&'static str; 4] {
        match self {
            Self::List => ["get", "list", "list", "list or watch objects of kind"],
            Self::Get => ["get", "read", "get", "read the specified"],
            Self::Create => ["post", "create", "post", "create a"],
            Self::Replace => ["put", "replace", "put", "replace the specified"],
            Self::Patch => ["patch", "patch", "patch", "partially update the specified"],
            Self::Delete => ["delete", "delete", "delete", "delete a"],
            Self::DeleteCollection => [
                "delete",
                "deleteCollection",
                "deletecollection",
                "delete collection of",
            ],
        }
    }

    /// Writes the operation into a path.
    pub(super) fn add(self, about: &About<'_>, path: &mut Map<String, Value>) {
        let [method, id, action, words] = self.names();
        let kind = about.gvk["kind"].as_str().unwrap_or_default();
        let mut operation = json!({
            "tags": [about.tag],
            "description": format!("{words} {kind}"),
            "operationId": format!("{id}{}", about.id),
            "parameters": self.parameters(),
            "responses": self.responses(about.type_name),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": about.gvk,
        });
        if let Some(body) = self.body(about) {
            operation["requestBody"] = body;
        }
        path.insert(method.to_owned(), operation);
    }

    fn body(self, about: &About<'_>) -> Option<Value> {
        let one = |types: &[&str], name: &str, required: bool| {
            let content: Map<String, Value> = types
                .iter()
                .map(|&media| {
                    (
                        media.to_owned(),
                        json!({"schema": {"$ref": reference(name)}}),
                    )
                })
                .collect();
            Some(json!({"content": content, "required": required}))
        };
        match self {
            Self::List | Self::Get => None,
            Self::Create | Self::Replace => one(&["*/*"], about.type_name, true),
            Self::Delete | Self::DeleteCollection => one(&["*/*"], DELETE_OPTIONS, false),
            Self::Patch => {
                let mut types = vec![
                    "application/apply-patch+yaml",
                    "application/json-patch+json",
                    "application/merge-patch+json",
                ];
                if about.builtin {
                    types.push("application/strategic-merge-patch+json");
                }
                one(&types, PATCH, true)
            }
        }
    }

    fn responses(self, type_name: &str) -> Value {
        let answer = |description: &str, name: &str| {
            let content: Map<String, Value> = ANSWERS
                .iter()
                .map(|&media| {
                    (
                        media.to_owned(),
                        json!({"schema": {"$ref": reference(name)}}),
                    )
                })
                .collect();
            json!({"description": description, "content": content})
        };
        let unauthorized = json!({"description": "Unauthorized"});
        match self {
            Self::Create | Self::Replace | Self::Patch => json!({
                "200": answer("OK", type_name), "201": answer("Created", type_name), "401": unauthorized,
            }),
            Self::Delete => json!({
                "200": answer("OK", STATUS), "202": answer("Accepted", STATUS), "401": unauthorized,
            }),
            Self::DeleteCollection => json!({"200": answer("OK", STATUS), "401": unauthorized}),
            Self::List | Self::Get => json!({"200": answer("OK", type_name), "401": unauthorized}),
        }
    }

    fn parameters(self) -> Vec<Value> {
        const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
        const LIST: &[&str] = &[
            "allowWatchBookmarks",
            "continue",
            "fieldSelector",
            "labelSelector",
            "limit",
            "resourceVersion",
            "resourceVersionMatch",
            "sendInitialEvents",
            "timeoutSeconds",
            "watch",
        ];
        const DELETE: &[&str] = &[
            "dryRun",
            "gracePeriodSeconds",
            "orphanDependents",
            "propagationPolicy",
        ];
        let names: Vec<&str> = match self {
            Self::Get => Vec::new(),
            Self::List => LIST.to_vec(),
            Self::Create | Self::Replace => WRITE.to_vec(),
            Self::Patch => [WRITE, &["force"]].concat(),
            Self::Delete => DELETE.to_vec(),
            Self::DeleteCollection => {
                let selecting = LIST
                    .iter()
                    .filter(|name| !matches!(**name, "allowWatchBookmarks" | "watch"));
                DELETE.iter().chain(selecting).copied().collect()
            }
        };
        names.into_iter().map(query).collect()
    }
}

/// A parameter of the query.
pub(super) fn query(name: &str) -> Value {
    let (kind, description) = match name {
        "allowWatchBookmarks" => ("boolean", "Asks for watch events of type BOOKMARK."),
        "continue" => (
            "string",
            "Goes on with a list where an earlier answer ended; the token that it gave.",
        ),
        "dryRun" => (
            "string",
            "When present, nothing is stored. The only value is All.",
        ),
        "fieldManager" => (
            "string",
            "The name of whoever makes the change, for managed fields. At most 128 printable characters.",
        ),
        "fieldSelector" => (
            "string",
            "Restricts the list by the objects' fields. Defaults to everything.",
        ),
        "fieldValidation" => (
            "string",
            "What to do about unknown or duplicate fields: Ignore, Warn or Strict.",
        ),
        "force" => (
            "boolean",
            "For apply patches: takes over fields that others own.",
        ),
        "gracePeriodSeconds" => (
            "integer",
            "The time before the object is deleted. Zero means at once.",
        ),
        "labelSelector" => (
            "string",
            "Restricts the list by the objects' labels. Defaults to everything.",
        ),
        "limit" => (
            "integer",
            "The most objects to answer; the rest is had with continue.",
        ),
        "orphanDependents" => ("boolean", "Deprecated: use propagationPolicy."),
        "pretty" => ("string", "If 'true', the answer is indented."),
        "propagationPolicy" => (
            "string",
            "What becomes of dependents: Orphan, Background or Foreground.",
        ),
        "resourceVersion" => (
            "string",
            "The revision that the answer must have or must not be older than.",
        ),
        "resourceVersionMatch" => (
            "string",
            "How resourceVersion is meant: Exact or NotOlderThan.",
        ),
        "sendInitialEvents" => (
            "boolean",
            "A watch starts with the present objects as events.",
        ),
        "timeoutSeconds" => ("integer", "The longest that a list or watch may take."),
        "watch" => ("boolean", "Asks for changes as they happen."),
        _ => ("string", ""),
    };
    json!({
        "name": name, "in": "query", "description": description, "schema": {"type": kind, "uniqueItems": true},
    })
}

/// A part of the path.
pub(super) fn in_path(name: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "path", "description": description, "required": true,
        "schema": {"type": "string", "uniqueItems": true},
    })
}
