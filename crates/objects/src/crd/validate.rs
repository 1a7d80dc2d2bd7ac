//! Whether a definition may be stored.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{list, structural};
use crate::{
    schema::{Cause, Path, is_known_format},
    table::JsonPath,
};

/// How many versions a definition may have.
const MAX_VERSIONS: usize = 64;
/// How many fields a version may make selectable.
const MAX_SELECTABLE: usize = 8;
const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
     character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
     '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// Tells what is wrong with a definition, and with its change from `old`.
///
/// It expects the definition as [`super::default`] left it.
pub fn validate(crd: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut checks = Checks { causes: Vec::new() };
    checks.spec(crd);
    checks.approval(crd);
    checks.stored(crd);
    if let Some(old) = old {
        checks.changes(crd, old);
    }
    checks.causes
}

struct Checks {
    causes: Vec<Cause>,
}

impl Checks {
    fn required(&mut self, path: Path, detail: &str) {
        self.causes.push(Cause::required(path, detail));
    }

    fn invalid(&mut self, path: Path, value: &Value, detail: &str) {
        self.causes.push(Cause::invalid(path, value, detail));
    }

    fn spec(&mut self, crd: &Value) {
        let spec = &crd["spec"];
        let path = Path::of("spec");
        self.group(&path, spec);
        match spec["scope"].as_str() {
            Some("Cluster" | "Namespaced") => {}
            None | Some("") => self.required(path.field("scope"), ""),
            Some(other) => {
                let cause = Cause::not_supported(
                    path.field("scope"),
                    &json!(other),
                    &["Cluster", "Namespaced"],
                );
                self.causes.push(cause);
            }
        }
        if spec["preserveUnknownFields"] == true {
            let detail = "must be false in order to use defaults in the schema";
            self.invalid(path.field("preserveUnknownFields"), &json!(true), detail);
        }
        self.names(&path.field("names"), &spec["names"]);
        self.versions(&path.field("versions"), spec);
        self.conversion(&path.field("conversion"), &spec["conversion"]);
        let (plural, group) = (spec["names"]["plural"].as_str(), spec["group"].as_str());
        if let (Some(plural), Some(group)) = (plural, group)
            && crd["metadata"]["name"] != format!("{plural}.{group}")
        {
            let detail = "must be spec.names.plural+\".\"+spec.group";
            self.invalid(Path::of("metadata.name"), &crd["metadata"]["name"], detail);
        }
    }

    fn group(&mut self, path: &Path, spec: &Value) {
        let at = path.field("group");
        let Some(group) = spec["group"].as_str().filter(|group| !group.is_empty()) else {
            return self.required(at, "");
        };
        if group.len() > 253 || !group.split('.').all(is_subdomain_part) {
            let detail = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
            self.invalid(at, &json!(group), detail);
        } else if !group.contains('.') {
            self.invalid(
                at,
                &json!(group),
                "should be a domain with at least one dot",
            );
        }
    }

    /// Groups of Kubernetes' own need its word that they are.
    fn approval(&mut self, crd: &Value) {
        const ANNOTATION: &str = "api-approved.kubernetes.io";
        let group = crd["spec"]["group"].as_str().unwrap_or_default();
        let protected = [".k8s.io", ".kubernetes.io"]
            .iter()
            .any(|end| group.ends_with(end));
        if protected && crd["metadata"]["annotations"].get(ANNOTATION).is_none() {
            let detail = format!(
                "protected groups must have approval annotation {ANNOTATION:?}, \
                 see https://github.com/kubernetes/enhancements/pull/1111"
            );
            self.required(Path::of("metadata.annotations").key(ANNOTATION), &detail);
        }
    }

    fn names(&mut self, path: &Path, names: &Value) {
        for key in ["plural", "singular", "kind", "listKind"] {
            let at = path.field(key);
            match names[key].as_str().unwrap_or_default() {
                "" => self.required(at, ""),
                name if is_label(&name.to_lowercase())
                    && (key.ends_with("ind") || is_label(name)) => {}
                name if key.ends_with("ind") => {
                    let detail =
                        format!("may have mixed case, but should otherwise match: {LABEL}");
                    self.invalid(at, &json!(name), &detail);
                }
                name => self.invalid(at, &json!(name), LABEL),
            }
        }
        for key in ["shortNames", "categories"] {
            for (index, name) in list(names, key).iter().enumerate() {
                if !name.as_str().is_some_and(is_label) {
                    self.invalid(path.field(key).index(index), name, LABEL);
                }
            }
        }
        if names["kind"].is_string() && names["kind"] == names["listKind"] {
            let detail = "kind and listKind may not be the same";
            self.invalid(path.field("listKind"), &names["listKind"], detail);
        }
    }

    fn versions(&mut self, path: &Path, spec: &Value) {
        let versions = list(spec, "versions");
        if versions.len() > MAX_VERSIONS {
            return self
                .causes
                .push(Cause::too_many(path, versions.len(), MAX_VERSIONS as u64));
        }
        let mut seen = BTreeSet::new();
        for (index, version) in versions.iter().enumerate() {
            let at = path.index(index);
            let name = version["name"].as_str().unwrap_or_default();
            if !is_label(name) {
                self.invalid(at.field("name"), &version["name"], LABEL);
            }
            if !seen.insert(name) {
                self.invalid(
                    path.clone(),
                    &json!(name),
                    "must contain unique version names",
                );
            }
            self.version(&at, version);
        }
        let stored: Vec<&Value> = versions
            .iter()
            .filter(|version| version["storage"] == true)
            .collect();
        if stored.len() != 1 {
            let names: Value = versions
                .iter()
                .map(|version| version["name"].clone())
                .collect();
            self.invalid(
                path.clone(),
                &names,
                "must have exactly one version marked as storage version",
            );
        }
    }

    fn version(&mut self, path: &Path, version: &Value) {
        let schema_at = path.field("schema").field("openAPIV3Schema");
        self.causes.extend(structural::check(
            &schema_at,
            &version["schema"]["openAPIV3Schema"],
        ));
        for (index, column) in list(version, "additionalPrinterColumns").iter().enumerate() {
            self.column(&path.field("additionalPrinterColumns").index(index), column);
        }
        if let Some(warning) = version["deprecationWarning"].as_str() {
            let at = path.field("deprecationWarning");
            if version["deprecated"] != true {
                self.invalid(
                    at,
                    &json!(warning),
                    "can only be set for deprecated versions",
                );
            } else if warning.is_empty()
                || warning.len() > 256
                || warning.contains(char::is_control)
            {
                self.invalid(at, &json!(warning), "must be 1 to 256 printable characters");
            }
        }
        self.scale(
            &path.field("subresources").field("scale"),
            &version["subresources"]["scale"],
        );
        self.selectable(&path.field("selectableFields"), version);
    }

    fn column(&mut self, path: &Path, column: &Value) {
        if column["name"].as_str().unwrap_or_default().is_empty() {
            self.required(path.field("name"), "");
        }
        match column["type"].as_str().unwrap_or_default() {
            "" => self.required(
                path.field("type"),
                &format!("must be one of {}", COLUMN_TYPES.join(",")),
            ),
            kind if COLUMN_TYPES.contains(&kind) => {}
            kind => {
                let detail = format!("must be one of {}", COLUMN_TYPES.join(","));
                self.invalid(path.field("type"), &json!(kind), &detail);
            }
        }
        if let Some(format) = column["format"].as_str()
            && !format.is_empty()
            && !is_known_format(format)
        {
            self.invalid(
                path.field("format"),
                &json!(format),
                "must be a known format",
            );
        }
        match column["jsonPath"].as_str().unwrap_or_default() {
            "" => self.required(path.field("jsonPath"), ""),
            json_path => {
                if let Err(error) = JsonPath::parse(json_path) {
                    let detail = format!("is an invalid path: {error}");
                    self.invalid(path.field("jsonPath"), &json!(json_path), &detail);
                }
            }
        }
    }

    fn scale(&mut self, path: &Path, scale: &Value) {
        if !scale.is_object() {
            return;
        }
        let cases: [(&str, &[&str], bool); 3] = [
            ("specReplicasPath", &[".spec."], true),
            ("statusReplicasPath", &[".status."], true),
            ("labelSelectorPath", &[".spec.", ".status."], false),
        ];
        for (key, below, needed) in cases {
            let at = path.field(key);
            match scale[key].as_str().unwrap_or_default() {
                "" if needed => self.required(at, ""),
                "" => {}
                json_path if !is_simple_path(json_path) => {
                    self.invalid(
                        at,
                        &json!(json_path),
                        "is an invalid json path: only fields may be named",
                    );
                }
                json_path if !below.iter().any(|start| json_path.starts_with(start)) => {
                    let under = below
                        .iter()
                        .map(|one| one.trim_end_matches('.'))
                        .collect::<Vec<_>>()
                        .join(" or ");
                    self.invalid(
                        at,
                        &json!(json_path),
                        &format!("should be a json path under {under}"),
                    );
                }
                _ => {}
            }
        }
    }

    fn selectable(&mut self, path: &Path, version: &Value) {
        let fields = list(version, "selectableFields");
        if fields.len() > MAX_SELECTABLE {
            self.causes
                .push(Cause::too_many(path, fields.len(), MAX_SELECTABLE as u64));
        }
        let mut seen = BTreeSet::new();
        for (index, field) in fields.iter().enumerate().take(MAX_SELECTABLE) {
            let at = path.index(index).field("jsonPath");
            let json_path = field["jsonPath"].as_str().unwrap_or_default();
            if json_path.is_empty() {
                self.required(at, "");
            } else if !is_simple_path(json_path) {
                self.invalid(
                    at,
                    &json!(json_path),
                    "is an invalid path: only fields may be named",
                );
            } else if json_path.starts_with(".metadata") {
                self.invalid(
                    at,
                    &json!(json_path),
                    "must not point to fields in metadata",
                );
            } else if !is_scalar(&version["schema"]["openAPIV3Schema"], json_path) {
                let detail = "must point to a field of type string, boolean or integer that the schema describes";
                self.invalid(at, &json!(json_path), detail);
            } else if !seen.insert(json_path) {
                self.causes.push(Cause::duplicate(at, &json!(json_path)));
            }
        }
    }

    fn conversion(&mut self, path: &Path, conversion: &Value) {
        let webhook = &conversion["webhook"];
        match conversion["strategy"].as_str() {
            Some("None") => {
                if webhook.is_object() {
                    let detail = "should not be set when strategy is not set to Webhook";
                    self.causes
                        .push(Cause::forbidden(path.field("webhook"), detail));
                }
            }
            Some("Webhook") => self.webhook(&path.field("webhook"), webhook),
            Some(other) => {
                let at = path.field("strategy");
                self.causes.push(Cause::not_supported(
                    at,
                    &json!(other),
                    &["None", "Webhook"],
                ));
            }
            None => self.required(path.field("strategy"), ""),
        }
    }

    fn webhook(&mut self, path: &Path, webhook: &Value) {
        let config = &webhook["clientConfig"];
        let at = path.field("clientConfig");
        match (config["url"].as_str(), config["service"].is_object()) {
            _ if !config.is_object() => {
                self.required(at, "required when strategy is set to Webhook")
            }
            (None, false) | (Some(_), true) => {
                self.required(at, "exactly one of url or service is required")
            }
            (Some(url), false) if !url.starts_with("https://") => {
                self.invalid(
                    at.field("url"),
                    &json!(url),
                    "'https' is the only allowed URL scheme",
                );
            }
            _ => {}
        }
        let versions = list(webhook, "conversionReviewVersions");
        if versions.is_empty() {
            self.required(path.field("conversionReviewVersions"), "");
        } else if !versions
            .iter()
            .any(|version| version == "v1" || version == "v1beta1")
        {
            let detail = "must include at least one of v1, v1beta1";
            self.invalid(
                path.field("conversionReviewVersions"),
                &webhook["conversionReviewVersions"],
                detail,
            );
        }
    }

    /// Versions in which objects are stored must stay readable.
    fn stored(&mut self, crd: &Value) {
        let names: BTreeSet<&str> = list(&crd["spec"], "versions")
            .iter()
            .filter_map(|version| version["name"].as_str())
            .collect();
        for (index, stored) in list(&crd["status"], "storedVersions").iter().enumerate() {
            if !stored.as_str().is_some_and(|name| names.contains(name)) {
                let at = Path::of("status.storedVersions").index(index);
                self.invalid(
                    at,
                    stored,
                    "missing from spec.versions; v1 CRD requires all stored versions to be listed",
                );
            }
        }
    }

    /// What objects are found by may not change once there can be objects.
    fn changes(&mut self, crd: &Value, old: &Value) {
        let established = list(&old["status"], "conditions")
            .iter()
            .any(|one| one["type"] == "Established" && one["status"] == "True");
        for (path, pointer) in [
            ("spec.group", "/spec/group"),
            ("spec.scope", "/spec/scope"),
            ("spec.names.kind", "/spec/names/kind"),
            ("spec.names.plural", "/spec/names/plural"),
        ] {
            let (new, before) = (crd.pointer(pointer), old.pointer(pointer));
            if established && new != before {
                self.invalid(
                    Path::of(path),
                    new.unwrap_or(&Value::Null),
                    "field is immutable",
                );
            }
        }
    }
}

fn is_subdomain_part(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && !text.starts_with('-') && !text.ends_with('-') && text.bytes().all(inner)
}

fn is_label(text: &str) -> bool {
    text.len() <= 63
        && is_subdomain_part(text)
        && text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// A path of plain field names: `.spec.replicas`.
fn is_simple_path(path: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
    };
    path.strip_prefix('.')
        .is_some_and(|rest| rest.split('.').all(plain))
}

/// Whether a path leads to a described field of a simple type.
fn is_scalar(schema: &Value, path: &str) -> bool {
    let mut at = schema;
    for name in path.split('.').skip(1) {
        at = &at["properties"][name];
    }
    matches!(at["type"].as_str(), Some("string" | "boolean" | "integer"))
}
