//! Which kinds of objects are served, and what is known of each.
//!
//! Built-in kinds are rows of a table; custom kinds come from CustomResourceDefinitions.
//! A request works with one snapshot of both, so a definition that changes meanwhile
//! does not change the ground under it.

pub(crate) mod builtin;
pub(crate) mod custom;
pub(crate) mod definitions;
pub(crate) mod removal;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sandlot_objects::schema::Schema;
use serde_json::Value;

use builtin::{Nature, Row};
use custom::Custom;

use crate::conversion::Converter;
use crate::record::Record;
use crate::webhook::Services;

/// A kind in one version.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) subresources: Vec<String>,
    /// The fields, besides name and namespace, that a field selector can name.
    pub(crate) selectable: Vec<String>,
    /// The kind in the store.
    pub(crate) stored_as: Arc<str>,
    /// The `apiVersion` under which objects are stored.
    pub(crate) stored_version: String,
    /// The shape of the objects, where one is known.
    pub(crate) schema: Option<Arc<Schema>>,
    pub(crate) origin: Origin,
}

/// Where a kind comes from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// It is part of the server.
    Builtin(&'static Row),
    /// Somebody defined it.
    Custom(Arc<Custom>),
}

impl Kind {
    /// `v1` or `example.com/v1`.
    pub(crate) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// Whether the status can only be written through its own path.
    pub(crate) fn has(&self, subresource: &str) -> bool {
        self.subresources.iter().any(|one| one == subresource)
    }

    /// The row of a built-in kind.
    pub(crate) fn builtin(&self) -> Option<&'static Row> {
        match &self.origin {
            Origin::Builtin(row) => Some(row),
            Origin::Custom(_) => None,
        }
    }

    /// The definition of a custom kind.
    pub(crate) fn custom(&self) -> Option<&Custom> {
        match &self.origin {
            Origin::Builtin(_) => None,
            Origin::Custom(custom) => Some(custom),
        }
    }

    /// Who converts objects of the kind that lie in the store in another version.
    pub(crate) fn converter(&self) -> Option<&Arc<Converter>> {
        self.custom()?.converter.as_ref()
    }

    /// Whether objects of the kind are stored; the others are answered at once.
    pub(crate) fn is_stored(&self) -> bool {
        self.builtin()
            .is_none_or(|row| row.nature == Nature::Stored)
    }

    /// Whether this is the built-in kind of that group and name.
    pub(crate) fn is(&self, group: &str, kind: &str) -> bool {
        self.builtin().is_some() && self.group == group && self.kind == kind
    }

    /// What can be done with the objects themselves.
    pub(crate) fn verbs(&self) -> &'static [&'static str] {
        match self.builtin().map_or(Nature::Stored, |row| row.nature) {
            Nature::Stored => &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ],
            Nature::Question => &["create"],
            Nature::Measured => &["get", "list"],
        }
    }

    /// Whether objects of the kind are measured when somebody looks.
    pub(crate) fn is_measured(&self) -> bool {
        self.builtin()
            .is_some_and(|row| row.nature == Nature::Measured)
    }

    fn of_row(row: &'static Row) -> Kind {
        Kind {
            group: row.group.into(),
            version: row.version.into(),
            kind: row.kind.into(),
            list_kind: format!("{}List", row.kind),
            plural: row.plural.into(),
            singular: row.singular.into(),
            short_names: row.short_names.iter().map(|&s| s.into()).collect(),
            categories: row.categories.iter().map(|&s| s.into()).collect(),
            namespaced: row.namespaced,
            subresources: row.subresources.iter().map(|&s| s.into()).collect(),
            selectable: row.selectable.iter().map(|&s| s.into()).collect(),
            stored_as: row
                .stored_as
                .map_or_else(|| stored_as(row.group, row.plural), Arc::from),
            stored_version: api_version(
                if row.stored_as.is_some() {
                    ""
                } else {
                    row.group
                },
                row.version,
            ),
            schema: None,
            origin: Origin::Builtin(row),
        }
    }
}

/// `v1` or `example.com/v1`.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}

/// How the store names a kind: `pods`, `example.com/widgets`.
pub(crate) fn stored_as(group: &str, plural: &str) -> Arc<str> {
    match group {
        "" => plural.into(),
        group => format!("{group}/{plural}").into(),
    }
}

/// All kinds at one moment.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    by_path: HashMap<(String, String, String), Arc<Kind>>,
    by_store: HashMap<Arc<str>, Arc<Kind>>,
    groups: BTreeMap<String, Vec<String>>,
    /// Changes whenever what is served changes; discovery answers carry it.
    pub(crate) serial: u64,
}

impl Kinds {
    fn new(kinds: impl IntoIterator<Item = Kind>, serial: u64) -> Kinds {
        let mut all = Kinds {
            serial,
            ..Kinds::default()
        };
        for kind in kinds {
            let versions = all.groups.entry(kind.group.clone()).or_default();
            if !versions.contains(&kind.version) {
                versions.push(kind.version.clone());
            }
            let path = (
                kind.group.clone(),
                kind.version.clone(),
                kind.plural.clone(),
            );
            all.by_path.insert(path, Arc::new(kind));
        }
        for versions in all.groups.values_mut() {
            versions.sort_by_key(|version| custom::version_rank(version));
        }
        let stored: Vec<_> = all
            .preferred()
            .filter(|kind| kind.is_stored())
            .cloned()
            .collect();
        for kind in stored {
            // Events lie in the store once and are served by two groups; either will do.
            all.by_store.insert(Arc::clone(&kind.stored_as), kind);
        }
        all
    }

    /// The kind that a path names.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        self.by_path
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
            .cloned()
    }

    /// The kind whose objects the store calls so, in its preferred version.
    pub(crate) fn stored(&self, stored_as: &str) -> Option<&Arc<Kind>> {
        self.by_store.get(stored_as)
    }

    /// Every kind whose objects are stored, in its preferred version.
    pub(crate) fn all_stored(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.by_store.values()
    }

    /// Every kind in every version.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.by_path.values()
    }

    /// Every kind once, in its preferred version.
    fn preferred(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.by_path.values().filter(|kind| {
            let versions = self.groups.get(&kind.group).into_iter().flatten();
            let mut serving =
                versions.filter(|version| self.find(&kind.group, version, &kind.plural).is_some());
            serving.next() == Some(&kind.version)
        })
    }

    /// The groups, and the versions of each with the preferred one first.
    pub(crate) fn groups(&self) -> &BTreeMap<String, Vec<String>> {
        &self.groups
    }

    /// The kinds of a group and version, ordered by their plural names.
    pub(crate) fn of_version(&self, group: &str, version: &str) -> Vec<Arc<Kind>> {
        let mut kinds: Vec<_> = self
            .by_path
            .values()
            .filter(|kind| kind.group == group && kind.version == version)
            .cloned()
            .collect();
        kinds.sort_by(|a, b| a.plural.cmp(&b.plural));
        kinds
    }
}

/// One state of a definition: its name and its revision.
type State = (Arc<str>, u64);

/// The kinds that are served now.
pub(crate) struct Registry {
    now: RwLock<Arc<Kinds>>,
    builtin: Vec<Kind>,
    /// Where the webhooks are that convert objects.
    services: Arc<dyn Services>,
    /// What each version of a definition brings; compiling schemas takes a while.
    compiled: Mutex<HashMap<State, Vec<Kind>>>,
}

impl Registry {
    /// The built-in kinds; `shapes` finds the schema of a built-in type by its name, and
    /// `services` the servers that convert custom objects.
    pub(crate) fn new(
        shapes: fn(&str) -> Option<Arc<Schema>>,
        services: Arc<dyn Services>,
    ) -> Registry {
        let of_row = |row: &'static Row| Kind {
            schema: shapes(row.schema),
            ..Kind::of_row(row)
        };
        let registry = Registry {
            now: RwLock::default(),
            builtin: builtin::ROWS.iter().map(of_row).collect(),
            compiled: Mutex::default(),
            services,
        };
        registry.replace_custom(&[]);
        registry
    }

    /// The kinds as they are now.
    pub(crate) fn now(&self) -> Arc<Kinds> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The kinds that a definition brings, whether they are served or not.
    pub(crate) fn kinds_of(&self, definition: &Value) -> Vec<Kind> {
        custom::kinds_of(definition, 0, &self.services)
    }

    /// Serves what these definitions bring, and no other custom kinds.
    pub(crate) fn replace_custom(&self, definitions: &[(Arc<Record>, Value)]) {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = HashMap::new();
        for (record, definition) in definitions {
            let version = (Arc::clone(&record.key.name), record.revision);
            let kinds = compiled
                .remove(&version)
                .unwrap_or_else(|| custom::kinds_of(definition, record.revision, &self.services));
            fresh.insert(version, kinds);
        }
        let custom = fresh.values().flatten().cloned();
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(Kinds::new(
            self.builtin.iter().cloned().chain(custom),
            now.serial + 1,
        ));
        *compiled = fresh;
    }
}
