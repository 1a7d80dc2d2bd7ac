//! Who hears what: found by topic, so that a message costs as much as it has hearers, however many
//! clients there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The clients by the filters that they hear.
#[derive(Default)]
pub(super) struct Hearers {
    /// Filters without wildcards are topics. Robots have no others.
    exact: HashMap<String, BTreeSet<String>>,
    /// Clients with wildcards, and those filters: the bridge, and people who look on.
    wild: BTreeMap<String, BTreeSet<String>>,
}

impl Hearers {
    /// A client hears a filter from now on.
    pub(super) fn add(&mut self, client: &str, filter: &str) {
        let (key, value) = Self::place(client, filter);
        let filters = match is_wild(filter) {
            true => self.wild.entry(key.to_owned()).or_default(),
            false => self.exact.entry(key.to_owned()).or_default(),
        };
        filters.insert(value.to_owned());
    }

    /// A client hears a filter no more.
    pub(super) fn remove(&mut self, client: &str, filter: &str) {
        let (key, value) = Self::place(client, filter);
        let left = match is_wild(filter) {
            true => self.wild.get_mut(key),
            false => self.exact.get_mut(key),
        };
        let Some(left) = left else {
            return;
        };
        left.remove(value);
        if left.is_empty() {
            match is_wild(filter) {
                true => drop(self.wild.remove(key)),
                false => drop(self.exact.remove(key)),
            }
        }
    }

    /// Everybody who may hear a topic, each once; whether they do, those with wildcards say
    /// themselves.
    pub(super) fn of<'a>(&'a self, topic: &str) -> impl Iterator<Item = &'a String> {
        let exact = self.exact.get(topic);
        let told = move |client: &&String| exact.is_some_and(|told| told.contains(*client));
        let others = self.wild.keys().filter(move |client| !told(client));
        exact.into_iter().flatten().chain(others)
    }

    fn place<'a>(client: &'a str, filter: &'a str) -> (&'a str, &'a str) {
        match is_wild(filter) {
            true => (client, filter),
            false => (filter, client),
        }
    }
}

fn is_wild(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_finds_its_hearers_each_once_and_forgets_those_who_left() {
        let mut hearers = Hearers::default();
        for robot in 0..100 {
            hearers.add(&format!("r{robot}"), &format!("robots/{robot}/desired"));
        }
        hearers.add("bridge", "robots/+/desired");
        hearers.add("bridge", "robots/7/desired");
        let of = |hearers: &Hearers, topic: &str| hearers.of(topic).cloned().collect::<Vec<_>>();
        assert_eq!(of(&hearers, "robots/7/desired"), ["bridge", "r7"]);
        assert_eq!(of(&hearers, "robots/8/desired"), ["r8", "bridge"]);
        hearers.remove("bridge", "robots/+/desired");
        hearers.remove("r8", "robots/8/desired");
        hearers.remove("r8", "never/heard");
        assert!(of(&hearers, "robots/8/desired").is_empty());
        assert_eq!(of(&hearers, "robots/7/desired"), ["bridge", "r7"]);
        assert_eq!((hearers.exact.len(), hearers.wild.len()), (99, 0));
    }
}
