//! Where sessions' files are in the store, and which file something in the store is.

use jiff::Timestamp;
use object_store::{
    ObjectMeta,
    path::{Path, PathPart},
};

use super::{Entry, FileError};

/// A name as it is kept, which may be longer than as it is written. Where files come in, a folder
/// has them under somewhat longer names until they are whole.
const LONGEST_NAME: usize = 250;

/// The prefix that is a session's own.
pub(super) fn own(session: &str) -> Path {
    Path::from_iter([PathPart::from("sessions"), PathPart::from(session)])
}

/// Where a file of a session is. The path is taken name by name, so that none of them can mean
/// another folder.
pub(super) fn place(session: &str, path: &str) -> Result<Path, FileError> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name != "."
            && name != ".."
            && !name.contains(['\0', '\\'])
            && PathPart::from(name).as_ref().len() <= LONGEST_NAME
    };
    if path.len() > 1024 || !path.split('/').all(is_name) {
        return Err(FileError::Path(path.to_owned()));
    }
    let names = path.split('/').map(PathPart::from);
    let own = [PathPart::from("sessions"), PathPart::from(session)];
    Ok(Path::from_iter(own.into_iter().chain(names)))
}

/// Whether this can be the path of a file of a session.
pub(crate) fn is_path(path: &str) -> bool {
    place("s", path).is_ok()
}

/// What the store found, as a file of the session; nothing for what is none of its own.
pub(super) fn entry(session: &str, found: &ObjectMeta) -> Option<Entry> {
    let own = own(session);
    let below = found.location.prefix_match(&own)?;
    let names: Option<Vec<String>> = below
        .map(|part| {
            let name = percent_encoding::percent_decode_str(part.as_ref());
            name.decode_utf8().ok().map(|name| name.into_owned())
        })
        .collect();
    Some(Entry {
        path: names?.join("/"),
        size: found.size,
        modified: Timestamp::from_millisecond(found.last_modified.timestamp_millis()).ok(),
        etag: found.e_tag.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        for path in [
            "", "/", "/etc", "..", "a/../b", "a//b", "./a", "a/", "a\\b", "a\0",
        ] {
            assert!(!is_path(path), "{path:?}");
        }
        assert!(is_path("a/b c/ä.txt") && is_path("..a"));
        let name = |length| "x".repeat(length);
        assert!(is_path(&name(LONGEST_NAME)) && !is_path(&name(LONGEST_NAME + 1)));
        // What looks encoded is a name like any other.
        assert!(
            place("s", "%2e%2e")
                .unwrap()
                .as_ref()
                .starts_with("sessions/s/%25")
        );
    }
}
