//! Roles and bindings, found by who they are about.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use serde::de::DeserializeOwned;

use crate::access::User;
use crate::lookup::{Change, Changes};

/// The kinds that make up the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [
        Kind::Role,
        Kind::ClusterRole,
        Kind::RoleBinding,
        Kind::ClusterRoleBinding,
    ];

    /// What the kind is called in the store.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Kind::Role => "rbac.authorization.k8s.io/roles",
            Kind::ClusterRole => "rbac.authorization.k8s.io/clusterroles",
            Kind::RoleBinding => "rbac.authorization.k8s.io/rolebindings",
            Kind::ClusterRoleBinding => "rbac.authorization.k8s.io/clusterrolebindings",
        }
    }
}

type Rules = Arc<[PolicyRule]>;

/// Whom a binding gives its role to. A service account is the user that it signs in as.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    User(String),
    Group(String),
}

impl Holder {
    fn of(subject: &Subject) -> Option<Holder> {
        match subject.kind.as_str() {
            "User" => Some(Holder::User(subject.name.clone())),
            "Group" => Some(Holder::Group(subject.name.clone())),
            "ServiceAccount" => {
                let namespace = subject.namespace.as_deref()?;
                Some(Holder::User(format!(
                    "system:serviceaccount:{namespace}:{}",
                    subject.name
                )))
            }
            _ => None,
        }
    }

    fn all_of(user: &User) -> impl Iterator<Item = Holder> {
        std::iter::once(Holder::User(user.name.clone()))
            .chain(user.groups.iter().cloned().map(Holder::Group))
    }
}

#[derive(Debug)]
struct Binding {
    role: RoleRef,
    holders: Vec<Holder>,
}

/// The bindings of one namespace, or of the whole cluster.
#[derive(Debug, Default)]
struct Bindings {
    by_name: HashMap<Arc<str>, Binding>,
    by_holder: HashMap<Holder, HashSet<Arc<str>>>,
}

impl Bindings {
    fn put(&mut self, name: Arc<str>, binding: Binding) {
        self.remove(&name);
        for holder in &binding.holders {
            self.by_holder
                .entry(holder.clone())
                .or_default()
                .insert(name.clone());
        }
        self.by_name.insert(name, binding);
    }

    fn remove(&mut self, name: &str) {
        for holder in self
            .by_name
            .remove(name)
            .map(|old| old.holders)
            .unwrap_or_default()
        {
            if let Some(names) = self.by_holder.get_mut(&holder) {
                names.remove(name);
                if names.is_empty() {
                    self.by_holder.remove(&holder);
                }
            }
        }
    }
}

/// A grant that applies to a user: the rules of a role, through a binding.
#[derive(Debug)]
pub(crate) struct Grant<'a> {
    /// The rules of the role.
    pub(crate) rules: &'a [PolicyRule],
    binding: &'a str,
    role: &'a RoleRef,
    holder: Holder,
    namespace: &'a str,
}

impl Grant<'_> {
    /// Why this allows something, in Kubernetes' words.
    pub(crate) fn reason(&self) -> String {
        let binding = match self.namespace {
            "" => format!("ClusterRoleBinding \"{}\"", self.binding),
            namespace => format!("RoleBinding \"{}/{namespace}\"", self.binding),
        };
        let holder = match &self.holder {
            Holder::User(name) => format!("User \"{name}\""),
            Holder::Group(name) => format!("Group \"{name}\""),
        };
        format!(
            "RBAC: allowed by {binding} of {} \"{}\" to {holder}",
            self.role.kind, self.role.name
        )
    }
}

/// Every role and binding of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Index {
    cluster_roles: HashMap<Arc<str>, Rules>,
    roles: HashMap<(Arc<str>, Arc<str>), Rules>,
    cluster_bindings: Bindings,
    bindings: HashMap<Arc<str>, Bindings>,
}

impl Index {
    /// Takes in what changed of one kind.
    pub(crate) fn take(&mut self, kind: Kind, changes: Changes) {
        let changes = match changes {
            Changes::Since(changes) => changes,
            Changes::All(all) => {
                match kind {
                    Kind::Role => self.roles.clear(),
                    Kind::ClusterRole => self.cluster_roles.clear(),
                    Kind::RoleBinding => self.bindings.clear(),
                    Kind::ClusterRoleBinding => self.cluster_bindings = Bindings::default(),
                }
                all
            }
        };
        for change in changes {
            match kind {
                Kind::Role => self.take_role(&change),
                Kind::ClusterRole => self.take_cluster_role(&change),
                Kind::RoleBinding => self.take_binding(&change),
                Kind::ClusterRoleBinding => self.take_cluster_binding(&change),
            }
        }
    }

    fn take_role(&mut self, change: &Change) {
        let key = (change.namespace.clone(), change.name.clone());
        match parse::<Role>(change) {
            Some(role) => self
                .roles
                .insert(key, role.rules.unwrap_or_default().into()),
            None => self.roles.remove(&key),
        };
    }

    fn take_cluster_role(&mut self, change: &Change) {
        match parse::<ClusterRole>(change) {
            Some(role) => self
                .cluster_roles
                .insert(change.name.clone(), role.rules.unwrap_or_default().into()),
            None => self.cluster_roles.remove(&change.name),
        };
    }

    fn take_binding(&mut self, change: &Change) {
        let bindings = self.bindings.entry(change.namespace.clone()).or_default();
        match parse::<RoleBinding>(change) {
            Some(binding) => bindings.put(
                change.name.clone(),
                Binding::new(binding.role_ref, binding.subjects),
            ),
            None => bindings.remove(&change.name),
        }
        if bindings.by_name.is_empty() {
            self.bindings.remove(&change.namespace);
        }
    }

    fn take_cluster_binding(&mut self, change: &Change) {
        match parse::<ClusterRoleBinding>(change) {
            Some(binding) => self.cluster_bindings.put(
                change.name.clone(),
                Binding::new(binding.role_ref, binding.subjects),
            ),
            None => self.cluster_bindings.remove(&change.name),
        }
    }

    /// The rules of a role, as a binding in the namespace would refer to it.
    pub(crate) fn rules_of(&self, namespace: &str, role: &RoleRef) -> Option<&[PolicyRule]> {
        let rules = match role.kind.as_str() {
            "ClusterRole" => self.cluster_roles.get(role.name.as_str()),
            "Role" => self
                .roles
                .get(&(namespace.into(), role.name.as_str().into())),
            _ => None,
        };
        rules.map(AsRef::as_ref)
    }

    /// Everything that applies to a user in a namespace; cluster-wide grants come first.
    /// With no namespace only the cluster-wide grants apply.
    pub(crate) fn grants<'a>(
        &'a self,
        user: &User,
        namespace: &'a str,
        mut each: impl FnMut(Grant<'a>) -> std::ops::ControlFlow<()>,
    ) {
        let holders: Vec<Holder> = Holder::all_of(user).collect();
        let own = self
            .bindings
            .get(namespace)
            .map(|bindings| (namespace, bindings));
        for (namespace, bindings) in std::iter::once(("", &self.cluster_bindings)).chain(own) {
            for holder in &holders {
                for name in bindings.by_holder.get(holder).into_iter().flatten() {
                    let Some(binding) = bindings.by_name.get(name) else {
                        continue;
                    };
                    let Some(rules) = self.rules_of(namespace, &binding.role) else {
                        continue;
                    };
                    let role = &binding.role;
                    let grant = Grant {
                        rules,
                        binding: name,
                        role,
                        holder: holder.clone(),
                        namespace,
                    };
                    if each(grant).is_break() {
                        return;
                    }
                }
            }
        }
    }
}

impl Binding {
    fn new(role: RoleRef, subjects: Option<Vec<Subject>>) -> Self {
        let holders = subjects
            .unwrap_or_default()
            .iter()
            .filter_map(Holder::of)
            .collect();
        Binding { role, holders }
    }
}

/// An object that does not parse grants nothing, as if it were gone.
fn parse<T: DeserializeOwned>(change: &Change) -> Option<T> {
    let bytes = change.object.as_ref()?;
    serde_json::from_slice(bytes)
        .inspect_err(
            |error| tracing::error!(name = %change.name, %error, "ignoring a broken access rule"),
        )
        .ok()
}
