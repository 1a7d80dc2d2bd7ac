//! The table of protobuf fields of the built-in kinds, read from the published Go types.
//!
//! The Go types say more than the `.proto` files do: which JSON name a field has, whether an
//! empty one is left out, and which fields stand inline. They are fetched with `go mod
//! download`, so this chore needs Go; the table itself is committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Where the table goes.
const TABLE: &str = "crates/objects/src/protobuf/fields.txt";

/// The release that the types are taken from.
const VERSION: &str = "v0.33.4";

const MODULES: [&str; 4] = [
    "k8s.io/api",
    "k8s.io/apimachinery",
    "k8s.io/apiextensions-apiserver",
    "k8s.io/kube-aggregator",
];

const META: &str = "k8s.io/apimachinery/pkg/apis/meta/v1";
const EXTENSIONS: &str = "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1";

/// Package, API version, kinds that clients may send. `*` stands for any version.
const KINDS: &[(&str, &str, &str)] = &[
    (META, "*", "DeleteOptions"),
    (META, "v1", "Status"),
    (
        "k8s.io/api/core/v1",
        "v1",
        "Binding ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume \
         PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service \
         ServiceAccount",
    ),
    (
        "k8s.io/api/admissionregistration/v1",
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding \
         ValidatingWebhookConfiguration",
    ),
    (
        EXTENSIONS,
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
    ),
    (
        "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1",
        "apiregistration.k8s.io/v1",
        "APIService",
    ),
    (
        "k8s.io/api/authentication/v1",
        "authentication.k8s.io/v1",
        "SelfSubjectReview TokenRequest TokenReview",
    ),
    (
        "k8s.io/api/authorization/v1",
        "authorization.k8s.io/v1",
        "LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview \
         SubjectAccessReview",
    ),
    ("k8s.io/api/autoscaling/v1", "autoscaling/v1", "Scale"),
    (
        "k8s.io/api/coordination/v1",
        "coordination.k8s.io/v1",
        "Lease",
    ),
    (
        "k8s.io/api/discovery/v1",
        "discovery.k8s.io/v1",
        "EndpointSlice",
    ),
    ("k8s.io/api/events/v1", "events.k8s.io/v1", "Event"),
    (
        "k8s.io/api/networking/v1",
        "networking.k8s.io/v1",
        "Ingress IngressClass NetworkPolicy",
    ),
    ("k8s.io/api/node/v1", "node.k8s.io/v1", "RuntimeClass"),
    (
        "k8s.io/api/policy/v1",
        "policy/v1",
        "Eviction PodDisruptionBudget",
    ),
    (
        "k8s.io/api/rbac/v1",
        "rbac.authorization.k8s.io/v1",
        "ClusterRole ClusterRoleBinding Role RoleBinding",
    ),
    (
        "k8s.io/api/scheduling/v1",
        "scheduling.k8s.io/v1",
        "PriorityClass",
    ),
    (
        "k8s.io/api/storage/v1",
        "storage.k8s.io/v1",
        "CSIDriver CSINode StorageClass",
    ),
];

/// Types whose JSON is not their protobuf: the decoder knows each of them by name.
const SPECIAL: &[(&str, &str, &str)] = &[
    (META, "Time", "time"),
    (META, "MicroTime", "micro-time"),
    (META, "FieldsV1", "raw-json"),
    (
        "k8s.io/apimachinery/pkg/api/resource",
        "Quantity",
        "quantity",
    ),
    (
        "k8s.io/apimachinery/pkg/util/intstr",
        "IntOrString",
        "int-or-string",
    ),
    (
        "k8s.io/apimachinery/pkg/runtime",
        "RawExtension",
        "raw-json",
    ),
    ("k8s.io/api/authentication/v1", "ExtraValue", "strings"),
    ("k8s.io/api/authorization/v1", "ExtraValue", "strings"),
    (EXTENSIONS, "JSON", "raw-json"),
    (EXTENSIONS, "JSONSchemaPropsOrArray", "schema-or-array"),
    (EXTENSIONS, "JSONSchemaPropsOrBool", "schema-or-bool"),
    (
        EXTENSIONS,
        "JSONSchemaPropsOrStringArray",
        "schema-or-strings",
    ),
];

/// Writes the table, or only compares it; true when it is up to date.
pub(crate) fn run(check: bool) -> Result<bool> {
    let mut reader = Reader {
        modules: fetch()?,
        ..Reader::default()
    };
    let mut table = String::from(
        "# How the built-in kinds look in protobuf. Made by `cargo xtask protobuf-fields`; see there.\n",
    );
    for (package, version, kinds) in KINDS {
        for kind in kinds.split_whitespace() {
            let message = reader.reach(package, kind)?;
            writeln!(table, "kind {version} {kind} {message}")?;
        }
    }
    for (message, fields) in reader.finish()? {
        writeln!(table, "message {message}")?;
        for field in fields {
            writeln!(table, "{field}")?;
        }
    }
    let path = crate::root().join(TABLE);
    if check {
        return Ok(fs::read_to_string(&path).is_ok_and(|committed| committed == table));
    }
    fs::write(&path, table).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// Fetches the Go modules and returns the folder of each.
fn fetch() -> Result<BTreeMap<&'static str, PathBuf>> {
    let folder = std::env::temp_dir();
    let wanted = MODULES.map(|module| format!("{module}@{VERSION}"));
    let output = Command::new("go")
        .args(["mod", "download", "-json"])
        .args(wanted)
        .current_dir(folder)
        .output()
        .context("cannot run go: this chore needs Go on the PATH")?;
    let mut found = BTreeMap::new();
    for answer in serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>() {
        let answer = answer?;
        let module = MODULES.into_iter().find(|module| answer["Path"] == *module);
        match (module, answer["Dir"].as_str()) {
            (Some(module), Some(folder)) => found.insert(module, PathBuf::from(folder)),
            _ => bail!("go mod download: {}", answer["Error"]),
        };
    }
    Ok(found)
}

/// A Go package: its types with the imports of the file that each stands in.
type Package = BTreeMap<String, GoType>;

#[derive(Clone)]
struct GoType {
    imports: BTreeMap<String, String>,
    body: Body,
}

#[derive(Clone)]
enum Body {
    /// The lines of a struct that have tags.
    Struct(Vec<String>),
    /// What the name stands for.
    Alias(String),
}

#[derive(Default)]
struct Reader {
    modules: BTreeMap<&'static str, PathBuf>,
    packages: BTreeMap<String, Package>,
    /// Messages whose fields are still to be read: package and type.
    open: BTreeSet<(String, String)>,
    done: BTreeMap<String, Vec<String>>,
}

impl Reader {
    /// The short name of a message, which is then read in its turn.
    fn reach(&mut self, package: &str, name: &str) -> Result<String> {
        let message = short(package, name);
        if !self.done.contains_key(&message) {
            self.open.insert((package.to_owned(), name.to_owned()));
        }
        Ok(message)
    }

    /// Reads all messages that are reached; the fields of each as lines of the table.
    fn finish(mut self) -> Result<BTreeMap<String, Vec<String>>> {
        // Nothing refers to it by a field: the special forms of a schema do.
        self.reach(EXTENSIONS, "JSONSchemaProps")?;
        while let Some((package, name)) = self.open.pop_first() {
            let message = short(&package, &name);
            let found = self.go_type(&package, &name)?;
            let Body::Struct(lines) = &found.body else {
                bail!("{message} is not a struct")
            };
            self.done.insert(message.clone(), Vec::new());
            let mut fields = Vec::new();
            for line in lines {
                let field = self.field(&package, &found, line);
                fields.extend(field.with_context(|| format!("{message}: {line}"))?);
            }
            fields.sort();
            let lines = fields
                .into_iter()
                .map(|(number, rest)| format!("{number} {rest}"));
            self.done.insert(message, lines.collect());
        }
        Ok(self.done)
    }

    /// A field from its line of Go: its number and the rest of its line in the table.
    fn field(
        &mut self,
        package: &str,
        within: &GoType,
        line: &str,
    ) -> Result<Option<(u32, String)>> {
        let (declaration, tags) = line.split_once('`').context("no tags")?;
        let Some(number) = tag(tags, "protobuf").and_then(|tag| tag.split(',').nth(1)) else {
            return Ok(None);
        };
        let number = number.parse().context("no field number")?;
        let json = tag(tags, "json").unwrap_or_default();
        let (name, options) = json.split_once(',').unwrap_or((json, ""));
        let go = declaration.split_whitespace().last().context("no type")?;
        let (pointer, go) = match go.strip_prefix('*') {
            Some(go) => (true, go),
            None => (false, go),
        };
        let shape = self.shape(package, within, go)?;
        let rest = if options == "inline" {
            format!("~ {shape}")
        } else {
            let scalar = [
                "string",
                "bytes",
                "int",
                "bool",
                "double",
                "int-or-string",
                "quantity",
            ];
            let optional = !pointer && options == "omitempty" && scalar.contains(&shape.as_str());
            format!("{name} {shape}{}", if optional { "?" } else { "" })
        };
        Ok(Some((number, rest)))
    }

    /// The shape of a Go type as it stands in the table.
    fn shape(&mut self, package: &str, within: &GoType, go: &str) -> Result<String> {
        let plain = match go {
            "string" => "string",
            "[]byte" => "bytes",
            "bool" => "bool",
            "int" | "int32" | "int64" | "uint8" => "int",
            "float64" => "double",
            _ => "",
        };
        if !plain.is_empty() {
            return Ok(plain.into());
        }
        if let Some(item) = go.strip_prefix("[]") {
            return Ok(format!("{}*", self.shape(package, within, item)?));
        }
        if let Some(rest) = go.strip_prefix("map[") {
            let (_, value) = rest.split_once(']').context("no end of a map's key")?;
            return Ok(format!("{}%", self.shape(package, within, value)?));
        }
        let (package, name) = match go.split_once('.') {
            Some((alias, name)) => {
                let package = within
                    .imports
                    .get(alias)
                    .with_context(|| format!("no import {alias}"))?;
                (package.clone(), name)
            }
            None => (package.to_owned(), go),
        };
        let special = SPECIAL
            .iter()
            .find(|(of, special, _)| *of == package && *special == name);
        if let Some((_, _, word)) = special {
            return Ok((*word).into());
        }
        let found = self.go_type(&package, name)?;
        match &found.body {
            Body::Struct(_) => self.reach(&package, name),
            Body::Alias(other) => self.shape(&package, &found, other),
        }
    }

    fn go_type(&mut self, package: &str, name: &str) -> Result<GoType> {
        if !self.packages.contains_key(package) {
            let (module, folder) = self
                .modules
                .iter()
                .find(|(module, _)| package.starts_with(&format!("{module}/")))
                .with_context(|| format!("no module has {package}"))?;
            let read = read_package(&folder.join(&package[module.len() + 1..]))?;
            self.packages.insert(package.to_owned(), read);
        }
        let found = self.packages.get(package).and_then(|types| types.get(name));
        found
            .cloned()
            .with_context(|| format!("{package} has no type {name}"))
    }
}

/// `core/v1.Pod` for a type of `k8s.io/api/core/v1`.
fn short(package: &str, name: &str) -> String {
    let mut parts: Vec<&str> = package.rsplit('/').take(2).collect();
    parts.reverse();
    format!("{}.{name}", parts.join("/"))
}

/// The value of one tag of a struct field.
fn tag<'a>(tags: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = tags.split_once(&format!("{name}:\""))?;
    rest.split('"').next()
}

fn read_package(folder: &Path) -> Result<Package> {
    let mut types = Package::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let generated = name.starts_with("zz_generated") || name.ends_with(".pb.go");
        if name.ends_with(".go") && !name.ends_with("_test.go") && !generated {
            read_file(&fs::read_to_string(&path)?, &mut types);
        }
    }
    Ok(types)
}

fn read_file(text: &str, types: &mut Package) {
    let imports = read_imports(text);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((name, rest)) = line
            .strip_prefix("type ")
            .and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        let body = if rest.starts_with("struct {") && !rest.ends_with('}') {
            let inside = lines.by_ref().take_while(|line| *line != "}");
            let tagged = inside.filter(|line| {
                let line = line.trim_start();
                !line.starts_with("//") && line.contains('`')
            });
            Body::Struct(tagged.map(str::to_owned).collect())
        } else if rest.starts_with("struct") {
            Body::Struct(Vec::new())
        } else {
            Body::Alias(
                rest.split("//")
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
            )
        };
        types.insert(
            name.to_owned(),
            GoType {
                imports: imports.clone(),
                body,
            },
        );
    }
}

/// The imports of a Go file: name and package.
fn read_imports(text: &str) -> BTreeMap<String, String> {
    let mut imports = BTreeMap::new();
    let block = text
        .lines()
        .skip_while(|line| *line != "import (")
        .take_while(|line| *line != ")");
    let single = text.lines().filter_map(|line| line.strip_prefix("import "));
    for line in block.chain(single) {
        let Some((alias, rest)) = line.trim().split_once('"') else {
            continue;
        };
        let package = rest.trim_end_matches('"');
        let alias = match alias.trim() {
            "" => package.rsplit('/').next().unwrap_or(package),
            alias => alias,
        };
        imports.insert(alias.to_owned(), package.to_owned());
    }
    imports
}
