//! What a registry says it wants when it says no.

use std::collections::BTreeMap;

/// How a registry wants to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// With a name and a password.
    Basic,
    /// With a token from somewhere else.
    Bearer {
        /// Who gives tokens.
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// Reads `WWW-Authenticate`; of several ways a token is preferred.
pub(crate) fn read<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut found = None;
    for header in headers {
        let header = header.trim();
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            found.get_or_insert(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer") {
            let mut fields = fields(rest);
            if let Some(realm) = fields.remove("realm") {
                return Some(Challenge::Bearer {
                    realm,
                    service: fields.remove("service"),
                    scope: fields.remove("scope"),
                });
            }
        }
    }
    found
}

/// `key="value",key=value …`; a comma in quotes belongs to the value.
fn fields(text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        fields.insert(key, value.to_owned());
        rest = after;
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_asked_for_where_the_registry_says() {
        let header = r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#;
        assert_eq!(
            read(["Basic realm=\"x\"", header].into_iter()),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".to_owned(),
                service: Some("r.example".to_owned()),
                scope: Some("repository:a/b:pull,push".to_owned()),
            })
        );
        assert_eq!(read(["basic"].into_iter()), Some(Challenge::Basic));
        assert_eq!(read(["Bearer nothing", "Negotiate"].into_iter()), None);
    }

    proptest::proptest! {
        #[test]
        fn no_header_is_too_strange(header in "\\PC{0,80}") {
            let _ = read([header.as_str()].into_iter());
        }
    }
}
