//! Who makes a request.

use std::collections::BTreeMap;

/// The group of everybody who proved who they are.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who did not.
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group that may do anything, whatever the roles say.
pub(crate) const MASTERS: &str = "system:masters";
/// The group of every service account; `system:serviceaccounts:<namespace>` has those of one.
pub(crate) const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// The user that everybody is who did not say who they are.
pub(crate) const ANONYMOUS: &str = "system:anonymous";

/// Who makes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name, for example `alice` or `system:serviceaccount:default:builder`.
    pub name: String,
    /// What tells two users of one name apart; often empty.
    pub uid: String,
    /// The groups that the user belongs to.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user who proved who they are, and so belongs to `system:authenticated` as well.
    pub fn authenticated(
        name: impl Into<String>,
        groups: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut groups: Vec<String> = groups.into_iter().collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        User {
            name: name.into(),
            groups,
            ..User::default()
        }
    }

    /// Somebody who showed no credentials.
    pub fn anonymous() -> Self {
        User {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..User::default()
        }
    }

    /// A service account, as its tokens present it.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let groups = [
            SERVICE_ACCOUNTS.to_owned(),
            format!("{SERVICE_ACCOUNTS}:{namespace}"),
        ];
        User {
            uid: uid.to_owned(),
            ..User::authenticated(format!("system:serviceaccount:{namespace}:{name}"), groups)
        }
    }

    /// A part of the program itself, which may do anything.
    pub fn master(name: impl Into<String>) -> Self {
        User::authenticated(name, [MASTERS.to_owned()])
    }

    /// Whether the user belongs to a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}
