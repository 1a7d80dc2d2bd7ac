//! What discovery says of subresources: which kind they speak and what can be done.

use crate::kinds::Kind;

/// A subresource as discovery shows it.
pub(crate) struct Subresource {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) verbs: &'static [&'static str],
}

const CHANGE: &[&str] = &["get", "patch", "update"];
const CREATE: &[&str] = &["create"];
const CONNECT: &[&str] = &["create", "get"];

/// The subresources of a kind.
pub(crate) fn of(kind: &Kind) -> impl Iterator<Item = Subresource> {
    kind.subresources.iter().map(|name| {
        let (group, version, speaks, verbs) = match name.as_str() {
            "scale" => ("autoscaling", "v1", "Scale", CHANGE),
            "binding" => ("", "v1", "Binding", CREATE),
            "eviction" => ("policy", "v1", "Eviction", CREATE),
            "token" => ("authentication.k8s.io", "v1", "TokenRequest", CREATE),
            "exec" => ("", "v1", "PodExecOptions", CONNECT),
            "attach" => ("", "v1", "PodAttachOptions", CONNECT),
            "portforward" => ("", "v1", "PodPortForwardOptions", CONNECT),
            "log" => (
                kind.group.as_str(),
                kind.version.as_str(),
                kind.kind.as_str(),
                &["get"][..],
            ),
            "finalize" => (
                kind.group.as_str(),
                kind.version.as_str(),
                kind.kind.as_str(),
                &["update"][..],
            ),
            _ => (
                kind.group.as_str(),
                kind.version.as_str(),
                kind.kind.as_str(),
                CHANGE,
            ),
        };
        Subresource {
            name: name.clone(),
            group: group.to_owned(),
            version: version.to_owned(),
            kind: speaks.to_owned(),
            verbs,
        }
    })
}
