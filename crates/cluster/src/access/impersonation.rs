//! Acting as somebody else, as `kubectl --as` does.

use std::collections::BTreeMap;

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED};
use super::{Attributes, Authorizer, User};
use crate::status::ApiError;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// The user that a request is made as: the one who makes it, or the one whom its headers
/// name, if the first may act as the second in every respect.
pub(crate) fn act_as(
    user: User,
    headers: &HeaderMap,
    authorizer: &Authorizer,
) -> Result<User, ApiError> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(user);
    };
    for request in needed(&wanted) {
        authorizer.check(&user, &request)?;
    }
    Ok(complete(wanted))
}

/// Whom the headers name.
fn wanted(headers: &HeaderMap) -> Result<Option<User>, ApiError> {
    let text = |value: &http::HeaderValue| {
        let value = value.to_str().map(str::to_owned);
        value.map_err(|_| ApiError::bad_request("an impersonation header is not plain text"))
    };
    let one = |name: &str| {
        headers
            .get(name)
            .map(text)
            .transpose()
            .map(Option::unwrap_or_default)
    };
    let name = one(USER)?;
    let uid = one(UID)?;
    let groups = headers
        .get_all(GROUP)
        .iter()
        .map(text)
        .collect::<Result<Vec<_>, _>>()?;
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let Some(key) = header.as_str().strip_prefix(EXTRA) {
            let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
            extra.entry(key).or_default().push(text(value)?);
        }
    }
    match (
        name.is_empty(),
        uid.is_empty() && groups.is_empty() && extra.is_empty(),
    ) {
        (true, true) => Ok(None),
        (true, false) => {
            let message = format!("requested {groups:?} without impersonating a user");
            Err(ApiError::bad_request(message))
        }
        (false, _) => Ok(Some(User {
            name,
            uid,
            groups,
            extra,
        })),
    }
}

/// What one must be allowed to do to act as a user.
fn needed(user: &User) -> Vec<Attributes> {
    let mut needed = vec![match account(&user.name) {
        Some((namespace, name)) => Attributes::resource("impersonate", "", "v1", "serviceaccounts")
            .in_namespace(namespace)
            .named(name),
        None => Attributes::resource("impersonate", "", "v1", "users").named(&user.name),
    }];
    let groups = user.groups.iter();
    needed.extend(
        groups.map(|group| Attributes::resource("impersonate", "", "v1", "groups").named(group)),
    );
    let other = |resource: &str| {
        Attributes::resource("impersonate", "authentication.k8s.io", "v1", resource)
    };
    if !user.uid.is_empty() {
        needed.push(other("uids").named(&user.uid));
    }
    for (key, values) in &user.extra {
        needed.extend(
            values
                .iter()
                .map(|value| other("userextras").subresource(key).named(value)),
        );
    }
    needed
}

/// The groups that such a user always belongs to.
fn complete(mut user: User) -> User {
    if let Some((namespace, name)) = account(&user.name)
        && user.groups.is_empty()
    {
        user.groups = User::service_account(namespace, name, "").groups;
    }
    let own = if user.name == ANONYMOUS {
        UNAUTHENTICATED
    } else {
        AUTHENTICATED
    };
    if !user.is_in(AUTHENTICATED) && !user.is_in(UNAUTHENTICATED) {
        user.groups.push(own.to_owned());
    }
    user
}

fn account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user
        .strip_prefix("system:serviceaccount:")?
        .split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}
