//! Which pool suits a batch that leaves the choice open.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// What a batch needs of a pool. Nothing is needed where it has no template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    /// Its containers' images.
    pub images: BTreeSet<String>,
    /// What its containers request in sum, in parts of each resource small enough to be whole.
    pub requests: BTreeMap<String, i128>,
    /// Labels that the pool must have.
    pub node_selector: BTreeMap<String, String>,
    /// Ways to suit by labels, one of which must hold whole; any pool suits where there is none.
    pub affinity: Vec<Vec<Requirement>>,
    /// Its own labels.
    pub labels: BTreeMap<String, String>,
}

/// Something that must hold of a pool's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What must hold of its value.
    pub operator: Operator,
    /// What it is compared with.
    pub values: Vec<String>,
}

/// What must hold of a label's value, as node affinity has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

/// How a pool is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What a pool must meet.
    pub predicates: BTreeSet<Predicate>,
    /// The labels that a pool and a batch must have alike, where they are compared.
    pub same_labels: Vec<String>,
    /// Which of those that suit is taken.
    pub preference: Preference,
}

/// What a pool must meet to suit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Predicate {
    /// One of its images is one of the batch's.
    Image,
    /// It requests no less than the batch.
    Resource,
    /// Its labels are as the batch's node selector and affinity ask.
    NodeSelector,
    /// Some of its labels are the batch's.
    SameLabels,
}

/// Which of several pools is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// The one with the largest share of its pods free.
    LeastAllocated,
    /// The one with the smallest share of its pods free.
    MostAllocated,
    /// The first by name.
    ByName,
}

impl Default for Profile {
    fn default() -> Self {
        let predicates = [
            Predicate::Image,
            Predicate::Resource,
            Predicate::NodeSelector,
        ];
        Self {
            predicates: predicates.into(),
            same_labels: Vec::new(),
            preference: Preference::LeastAllocated,
        }
    }
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
    /// Its labels alone.
    pub own_labels: BTreeMap<String, String>,
    /// Its pods in use and in all.
    pub allocated: u32,
    /// All its pods.
    pub total: u32,
}

/// The pool that suits and is preferred; of equals, the first by name. Otherwise, why none does.
pub fn choose<'a>(
    profile: &Profile,
    wish: Option<&Wish>,
    candidates: impl IntoIterator<Item = &'a Candidate>,
) -> Result<&'a str, String> {
    let mut best: Option<(&Candidate, f64)> = None;
    let mut refused = Vec::new();
    for candidate in candidates {
        if let Some(why) = wish.and_then(|wish| refuses(profile, wish, candidate)) {
            refused.push(format!("{}: {why}", candidate.name));
            continue;
        }
        let free = match profile.preference {
            Preference::LeastAllocated => candidate.free(),
            Preference::MostAllocated => -candidate.free(),
            Preference::ByName => 0.0,
        };
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

fn refuses(profile: &Profile, wish: &Wish, candidate: &Candidate) -> Option<String> {
    let mut predicates = profile.predicates.iter();
    predicates.find_map(|predicate| match predicate {
        Predicate::Image => (!wish.images.is_empty() && wish.images.is_disjoint(&candidate.images))
            .then(|| "it has none of the images".to_owned()),
        Predicate::Resource => wish
            .requests
            .iter()
            .find(|(resource, wanted)| {
                candidate.requests.get(*resource).copied().unwrap_or(0) < **wanted
            })
            .map(|(resource, _)| format!("it requests less {resource}")),
        Predicate::NodeSelector => misses_labels(wish, candidate),
        Predicate::SameLabels => profile
            .same_labels
            .iter()
            .find(|label| wish.labels.get(*label) != candidate.own_labels.get(*label))
            .map(|label| format!("its label {label} is another")),
    })
}

fn misses_labels(wish: &Wish, candidate: &Candidate) -> Option<String> {
    let unmet = wish
        .node_selector
        .iter()
        .find(|(label, value)| candidate.labels.get(*label) != Some(value));
    if let Some((label, value)) = unmet {
        return Some(format!("it has no label {label}={value}"));
    }
    let holds = |term: &Vec<Requirement>| {
        // A term that asks for nothing is met by nobody, as in Kubernetes.
        !term.is_empty() && term.iter().all(|one| one.holds(&candidate.labels))
    };
    let suits = wish.affinity.is_empty() || wish.affinity.iter().any(holds);
    (!suits).then(|| "its labels are not as the node affinity asks".to_owned())
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let is_listed = value.is_some_and(|value| self.values.contains(value));
        let compared = || {
            let wanted: i64 = self.values.first()?.parse().ok()?;
            let found: i64 = value?.parse().ok()?;
            Some(found.cmp(&wanted))
        };
        match self.operator {
            Operator::In => is_listed,
            Operator::NotIn => !is_listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => compared().is_some_and(std::cmp::Ordering::is_gt),
            Operator::Lt => compared().is_some_and(std::cmp::Ordering::is_lt),
        }
    }
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
        assert_eq!(choose(&Profile::default(), Some(&wish), &pools), Ok("a"));
        assert_eq!(
            choose(&Profile::default(), None, &pools),
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
            ..Wish::default()
        };
        let why = choose(
            &Profile::default(),
            Some(&wish),
            &[small, pool("other", "python", 0, 1)],
        )
        .unwrap_err();
        assert!(
            why.contains("small: it requests less cpu") && why.contains("other: it has none"),
            "{why}"
        );
    }

    #[test]
    fn a_profile_may_fill_pools_up_and_compare_labels() {
        let mut pools = [pool("a", "nginx", 0, 4), pool("b", "nginx", 3, 4)];
        let fullest = Profile {
            preference: Preference::MostAllocated,
            ..Profile::default()
        };
        assert_eq!(choose(&fullest, Some(&Wish::default()), &pools), Ok("b"));
        pools[0].own_labels = [("team".to_owned(), "x".to_owned())].into();
        let alike = Profile {
            predicates: [Predicate::SameLabels].into(),
            same_labels: vec!["team".to_owned()],
            ..fullest
        };
        let wish = Wish {
            labels: [("team".to_owned(), "x".to_owned())].into(),
            ..Wish::default()
        };
        assert_eq!(choose(&alike, Some(&wish), &pools), Ok("a"));
    }

    #[test]
    fn node_affinity_holds_as_kubernetes_has_it() {
        let labels: BTreeMap<_, _> = [("gen", "7"), ("zone", "a")]
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
            .into();
        let holds = |key: &str, operator, values: &[&str]| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            let key = key.to_owned();
            Requirement {
                key,
                operator,
                values,
            }
            .holds(&labels)
        };
        assert!(holds("zone", Operator::In, &["a", "b"]) && !holds("zone", Operator::In, &["b"]));
        assert!(holds("rack", Operator::NotIn, &["1"]) && !holds("zone", Operator::NotIn, &["a"]));
        assert!(holds("gen", Operator::Exists, &[]) && holds("rack", Operator::DoesNotExist, &[]));
        assert!(holds("gen", Operator::Gt, &["6"]) && !holds("gen", Operator::Gt, &["7"]));
        assert!(holds("gen", Operator::Lt, &["8"]) && !holds("zone", Operator::Lt, &["8"]));
    }
}
