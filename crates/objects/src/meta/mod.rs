//! What every object has in common: its names, labels, owners and finalizers.

pub mod names;
mod rules;

pub use self::rules::{Bounds, validate, validate_update};

/// What the names of a kind's objects must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// A lowercase RFC 1123 subdomain: most kinds.
    Subdomain,
    /// A lowercase RFC 1123 label: namespaces.
    Label,
    /// A DNS-1035 label, which starts with a letter: services.
    ServiceLabel,
    /// Anything that can stand between two slashes of a URL: roles and bindings.
    PathSegment,
}

impl NameRule {
    /// What is wrong with a name.
    pub fn faults(self, name: &str) -> Vec<String> {
        match self {
            Self::Subdomain => names::subdomain(name),
            Self::Label => names::label(name),
            Self::ServiceLabel => names::dns_1035_label(name),
            Self::PathSegment => names::path_segment(name),
        }
    }

    /// What is wrong with the beginning of a name. A dash at its end will not be the last
    /// character of the whole.
    pub fn prefix_faults(self, prefix: &str) -> Vec<String> {
        match prefix.strip_suffix('-') {
            Some(before) if !before.is_empty() && self != Self::PathSegment => {
                self.faults(&format!("{before}a"))
            }
            _ => self.faults(prefix),
        }
    }
}

/// How long a generated name may be, suffix included.
const MAX_GENERATED: usize = 63;

/// Letters and digits that form no words and are not mistaken for one another.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// How many characters are added to a `generateName`.
const SUFFIX_LENGTH: usize = 5;

/// A name that starts with `prefix` and ends in five letters and digits drawn from `random`.
pub fn generated_name(prefix: &str, random: u64) -> String {
    let mut end = prefix.len().min(MAX_GENERATED - SUFFIX_LENGTH);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    let mut rest = random;
    for _ in 0..SUFFIX_LENGTH {
        let letters = SUFFIX_LETTERS.len() as u64;
        name.push(char::from(SUFFIX_LETTERS[(rest % letters) as usize]));
        rest /= letters;
    }
    name
}

#[cfg(test)]
mod tests;
