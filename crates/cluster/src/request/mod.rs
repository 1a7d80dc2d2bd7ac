//! What a client asks for: method, path and query, read into one type.

mod options;

pub(crate) use options::{
    DeleteSettings, FieldValidation, Match, Options, Propagation, parse_delete_body,
};

use http::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::status::ApiError;

/// What is to be done, in the words of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read many.
    List,
    /// Follow changes.
    Watch,
    /// Make a new object.
    Create,
    /// Replace an object.
    Update,
    /// Change part of an object.
    Patch,
    /// Remove one object.
    Delete,
    /// Remove many.
    DeleteCollection,
}

impl Verb {
    /// The verb as roles spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// Objects of some kind.
    Resource(Box<Request>),
    /// `/api`: the versions of the core group.
    CoreVersions,
    /// `/apis`: the groups.
    Groups,
    /// `/apis/GROUP`: one group.
    Group(String),
    /// `/api/v1` or `/apis/GROUP/VERSION`: what is served there.
    Resources(String, String),
    /// Anything else, such as `/version`.
    Path(String),
}

/// A request about objects.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) verb: Verb,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    /// `status`, `scale`, …; empty for the object itself.
    pub(crate) subresource: String,
    /// What follows the subresource, for `proxy` and its like.
    pub(crate) rest: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) options: Options,
}

impl Request {
    /// The namespace, or the empty string.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// The name, or the empty string.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

/// Reads method, path and query. Which resources exist is not known here.
pub(crate) fn parse(method: &Method, uri: &Uri) -> Result<Target, ApiError> {
    let path = uri.path();
    let segments = segments(path)?;
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match words.as_slice() {
        ["api"] => return Ok(Target::CoreVersions),
        ["apis"] => return Ok(Target::Groups),
        ["apis", group] => return Ok(Target::Group((*group).to_owned())),
        ["api", version] => return Ok(Target::Resources(String::new(), (*version).to_owned())),
        ["apis", group, version] => {
            return Ok(Target::Resources(
                (*group).to_owned(),
                (*version).to_owned(),
            ));
        }
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Ok(Target::Path(path.to_owned())),
    };
    let place = place(rest).ok_or_else(ApiError::no_such_path)?;
    let options = Options::parse(uri.query().unwrap_or_default())?;
    let verb = verb(method, place.name.is_some(), options.watch)?;
    Ok(Target::Resource(Box::new(Request {
        verb,
        group: group.to_owned(),
        version: version.to_owned(),
        resource: place.resource.to_owned(),
        subresource: place.subresource.to_owned(),
        rest: place.rest,
        namespace: place.namespace.map(str::to_owned),
        name: place.name.map(str::to_owned),
        options,
    })))
}

fn segments(path: &str) -> Result<Vec<String>, ApiError> {
    path.split('/')
        .filter(|part| !part.is_empty())
        .map(|part| match percent_decode_str(part).decode_utf8() {
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(ApiError::bad_request(
                "the path of the request is not UTF-8",
            )),
        })
        .collect()
}

struct Place<'a> {
    namespace: Option<&'a str>,
    resource: &'a str,
    name: Option<&'a str>,
    subresource: &'a str,
    rest: String,
}

/// Takes apart what follows the version in a path.
fn place<'a>(words: &[&'a str]) -> Option<Place<'a>> {
    let (namespace, words) = match *words {
        // `namespaces/x/status` and `finalize` are about the namespace, not in it.
        ["namespaces", name, sub @ ("status" | "finalize")] => {
            return Some(Place {
                namespace: Some(name),
                resource: "namespaces",
                name: Some(name),
                subresource: sub,
                rest: String::new(),
            });
        }
        ["namespaces", name] => {
            return Some(Place {
                namespace: Some(name),
                resource: "namespaces",
                name: Some(name),
                subresource: "",
                rest: String::new(),
            });
        }
        ["namespaces", namespace, ..] => (Some(namespace), &words[2..]),
        _ => (None, words),
    };
    match *words {
        [resource] => Some(Place {
            namespace,
            resource,
            name: None,
            subresource: "",
            rest: String::new(),
        }),
        [resource, name] => Some(Place {
            namespace,
            resource,
            name: Some(name),
            subresource: "",
            rest: String::new(),
        }),
        [resource, name, subresource, ref rest @ ..] => Some(Place {
            namespace,
            resource,
            name: Some(name),
            subresource,
            rest: rest.join("/"),
        }),
        [] => None,
    }
}

fn verb(method: &Method, named: bool, watch: bool) -> Result<Verb, ApiError> {
    Ok(match (method.as_str(), named) {
        ("GET" | "HEAD", true) => Verb::Get,
        ("GET" | "HEAD", false) if watch => Verb::Watch,
        ("GET" | "HEAD", false) => Verb::List,
        ("POST", _) => Verb::Create,
        ("PUT", _) => Verb::Update,
        ("PATCH", _) => Verb::Patch,
        ("DELETE", true) => Verb::Delete,
        ("DELETE", false) => Verb::DeleteCollection,
        _ => return Err(ApiError::method_not_allowed()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(method: Method, uri: &str) -> Request {
        match parse(&method, &uri.parse().expect("a uri")).expect("parses") {
            Target::Resource(request) => *request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_namespaced_object_is_found_in_its_path() {
        let request = resource(
            Method::GET,
            "/apis/arl.infra.io/v1alpha1/namespaces/a/warmpools/b/status",
        );
        assert_eq!(
            (request.group.as_str(), request.version.as_str()),
            ("arl.infra.io", "v1alpha1")
        );
        assert_eq!((request.namespace(), request.name()), ("a", "b"));
        assert_eq!(
            (request.resource.as_str(), request.subresource.as_str()),
            ("warmpools", "status")
        );
        assert_eq!(request.verb, Verb::Get);
    }

    #[test]
    fn a_namespace_is_an_object_and_a_place() {
        assert_eq!(
            resource(Method::GET, "/api/v1/namespaces/a").resource,
            "namespaces"
        );
        assert_eq!(
            resource(Method::PUT, "/api/v1/namespaces/a/finalize").subresource,
            "finalize"
        );
        let pods = resource(Method::GET, "/api/v1/namespaces/a/pods?watch=1");
        assert_eq!((pods.resource.as_str(), pods.verb), ("pods", Verb::Watch));
    }

    #[test]
    fn an_unknown_method_is_not_allowed() {
        let uri = "/api/v1/pods".parse().expect("a uri");
        let error = parse(&Method::TRACE, &uri).expect_err("refused");
        assert_eq!(error.code, 405);
    }
}
