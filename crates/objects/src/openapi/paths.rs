//! The paths under which a kind is found.

use serde_json::{Map, Value, json};

use super::{
    KindInfo,
    operations::{About, Action, in_path, query},
};

/// Adds the paths of a kind.
pub(super) fn add(kind: &KindInfo<'_>, out: &mut Map<String, Value>) {
    let group = format!("/{}", kind.group_path());
    let collection = if kind.namespaced {
        format!("{group}/namespaces/{{namespace}}/{}", kind.plural)
    } else {
        format!("{group}/{}", kind.plural)
    };
    let names = Names::of(kind);
    let (own, lists) = (kind.type_name(), kind.list_type_name());
    let (all, everywhere) = (format!("Collection{}", names.id), names.everywhere());
    let about = |type_name, id| names.about(kind, kind.gvk(), type_name, id);

    let mut path = Map::new();
    let each = about(&own, &names.id);
    let many = about(&lists, &names.id);
    if kind.can("list") {
        Action::List.add(&many, &mut path);
    }
    if kind.can("create") {
        Action::Create.add(&each, &mut path);
    }
    if kind.can("deletecollection") {
        Action::DeleteCollection.add(&about(&own, &all), &mut path);
    }
    put(out, collection.clone(), path, shared(kind, false));

    let mut path = Map::new();
    for (verb, action) in [
        ("get", Action::Get),
        ("update", Action::Replace),
        ("patch", Action::Patch),
        ("delete", Action::Delete),
    ] {
        if kind.can(verb) {
            action.add(&each, &mut path);
        }
    }
    put(
        out,
        format!("{collection}/{{name}}"),
        path,
        shared(kind, true),
    );

    if kind.namespaced && kind.can("list") {
        let mut path = Map::new();
        Action::List.add(&about(&lists, &everywhere), &mut path);
        put(
            out,
            format!("{group}/{}", kind.plural),
            path,
            vec![query("pretty")],
        );
    }
    subresources(kind, &names, &collection, out);
}

fn subresources(
    kind: &KindInfo<'_>,
    names: &Names,
    collection: &str,
    out: &mut Map<String, Value>,
) {
    let own = kind.type_name();
    for sub in &kind.subresources {
        let (gvk, type_name) = match sub.body {
            Some(body) => (
                json!({"group": body.group, "version": body.version, "kind": body.kind}),
                body.type_name,
            ),
            None => (kind.gvk(), own.as_str()),
        };
        let id = format!("{}{}", names.id, capital(sub.name));
        let about = names.about(kind, gvk, type_name, &id);
        let mut path = Map::new();
        for (verb, action) in [
            ("get", Action::Get),
            ("create", Action::Create),
            ("update", Action::Replace),
            ("patch", Action::Patch),
        ] {
            if sub.verbs.contains(&verb) {
                action.add(&about, &mut path);
            }
        }
        put(
            out,
            format!("{collection}/{{name}}/{}", sub.name),
            path,
            shared(kind, true),
        );
    }
}

/// How operations on a kind are called.
struct Names {
    id: String,
    tag: String,
    kind: String,
    start: String,
}

impl Names {
    fn of(kind: &KindInfo<'_>) -> Names {
        let group = match kind.group.split('.').next().unwrap_or_default() {
            "" => "core",
            first => first,
        };
        let start = format!("{}{}", capital(group), capital(kind.version));
        let namespaced = if kind.namespaced { "Namespaced" } else { "" };
        Names {
            id: format!("{start}{namespaced}{}", kind.kind),
            tag: format!("{group}_{}", kind.version),
            kind: kind.kind.to_owned(),
            start,
        }
    }

    /// The id of the list over all namespaces.
    fn everywhere(&self) -> String {
        format!("{}{}ForAllNamespaces", self.start, self.kind)
    }

    fn about<'a>(
        &'a self,
        kind: &KindInfo<'_>,
        gvk: Value,
        type_name: &'a str,
        id: &'a str,
    ) -> About<'a> {
        About {
            gvk,
            type_name,
            id,
            tag: &self.tag,
            builtin: kind.schema.name.is_some(),
        }
    }
}

/// The parameters that all operations on a path share.
fn shared(kind: &KindInfo<'_>, one: bool) -> Vec<Value> {
    let mut parameters = Vec::new();
    if one {
        parameters.push(in_path("name", &format!("name of the {}", kind.kind)));
    }
    if kind.namespaced {
        parameters.push(in_path(
            "namespace",
            "object name and auth scope, such as for teams and projects",
        ));
    }
    parameters.push(query("pretty"));
    parameters
}

fn put(
    out: &mut Map<String, Value>,
    at: String,
    mut path: Map<String, Value>,
    parameters: Vec<Value>,
) {
    if !path.is_empty() {
        path.insert("parameters".to_owned(), Value::Array(parameters));
        out.insert(at, Value::Object(path));
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
