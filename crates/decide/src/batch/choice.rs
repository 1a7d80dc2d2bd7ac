//! Which pool suits a batch that leaves the choice open.

use std::collections::{BTreeMap, BTreeSet};

/// What a batch needs of a pool. Nothing is needed where it has no template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    /// Its containers' images.
    pub images: BTreeSet<String>,
    /// What its containers request in sum, in parts of each resource small enough to be whole.
    pub requests: BTreeMap<String, i128>,
    /// Labels that the pool must have.
    pub node_selector: BTreeMap<String, String>,
}

/// A pool to choose from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its containers' images.
    pub images: BTreeSet<String>,
    /// What its containers request in sum.
    pub requests: BTreeMap<String, i128>,
    /// Its labels, overlaid by its template's node selector.
    pub labels: BTreeMap<String, String>,
    /// Its pods in use and in all.
    pub allocated: u32,
    /// All its pods.
    pub total: u32,
}

/// The pool that suits and has the largest share of its pods free; of equals, the first by name.
/// Otherwise, why none does.
pub fn choose<'a>(
    wish: Option<&Wish>,
    candidates: impl IntoIterator<Item = &'a Candidate>,
) -> Result<&'a str, String> {
    let mut best: Option<(&Candidate, f64)> = None;
    let mut refused = Vec::new();
    for candidate in candidates {
        if let Some(why) = wish.and_then(|wish| refuses(wish, candidate)) {
            refused.push(format!("{}: {why}", candidate.name));
            continue;
        }
        let free = candidate.free();
        let better = best.is_none_or(|(chosen, most)| {
            free > most || (free == most && candidate.name < chosen.name)
        });
        if better {
            best = Some((candidate, free));
        }
    }
    match best {
        Some((candidate, _)) => Ok(&candidate.name),
        None if refused.is_empty() => Err("there is none in this namespace".to_owned()),
        None => Err(refused.join("; ")),
    }
}

impl Candidate {
    fn free(&self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        1.0 - f64::from(self.allocated) / f64::from(self.total)
    }
}

fn refuses(wish: &Wish, candidate: &Candidate) -> Option<String> {
    if !wish.images.is_empty() && wish.images.is_disjoint(&candidate.images) {
        return Some("it has none of the images".to_owned());
    }
    for (resource, wanted) in &wish.requests {
        if candidate.requests.get(resource).copied().unwrap_or(0) < *wanted {
            return Some(format!("it requests less {resource}"));
        }
    }
    let unmet = wish
        .node_selector
        .iter()
        .find(|(label, value)| candidate.labels.get(*label) != Some(value));
    unmet.map(|(label, value)| format!("it has no label {label}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, image: &str, allocated: u32, total: u32) -> Candidate {
        Candidate {
            name: name.into(),
            images: [image.to_owned()].into(),
            allocated,
            total,
            ..Candidate::default()
        }
    }

    #[test]
    fn the_emptiest_pool_that_suits_is_chosen_and_of_equals_the_first_by_name() {
        let pools = [
            pool("c", "nginx", 1, 4),
            pool("b", "nginx", 0, 2),
            pool("a", "nginx", 0, 9),
            pool("0", "python", 0, 9),
            pool("1", "nginx", 0, 0),
        ];
        let wish = Wish {
            images: ["nginx".to_owned()].into(),
            ..Wish::default()
        };
        assert_eq!(choose(Some(&wish), &pools), Ok("a"));
        assert_eq!(
            choose(None, &pools),
            Ok("0"),
            "without a template any pool suits"
        );
    }

    #[test]
    fn when_none_suits_each_says_why() {
        let mut small = pool("small", "nginx", 0, 1);
        small.requests = [("cpu".to_owned(), 500)].into();
        let wish = Wish {
            images: ["nginx".to_owned()].into(),
            requests: [("cpu".to_owned(), 1000)].into(),
            node_selector: [("zone".to_owned(), "a".to_owned())].into(),
        };
        let why = choose(Some(&wish), &[small, pool("other", "python", 0, 1)]).unwrap_err();
        assert!(
            why.contains("small: it requests less cpu") && why.contains("other: it has none"),
            "{why}"
        );
    }
}
