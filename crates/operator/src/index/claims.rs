//! Which pod a sandbox has.
//!
//! Normally one pod says that a sandbox has it. After a crash in the middle of a claim two may say
//! so: what the operator before had sent off arrives while the next one, which could not know, has
//! given the sandbox another. The sandbox keeps the pod that its status names, for that is what its
//! user was told. As long as the status names none, nobody can say which it will be, and neither is
//! given back.

use std::collections::{BTreeSet, HashMap};

use super::{Key, Uid};

/// Pods by the sandboxes that have them.
#[derive(Debug, Default)]
pub(super) struct Claims {
    kept: HashMap<Uid, Key>,
    /// Pods that name a sandbox which has another.
    rivals: HashMap<Uid, BTreeSet<Key>>,
}

impl Claims {
    /// The pod that a sandbox has.
    pub(super) fn pod_of(&self, sandbox: &Uid) -> Option<&Key> {
        self.kept.get(sandbox)
    }

    /// Every pod that names a sandbox.
    pub(super) fn all_of(&self, sandbox: &Uid) -> impl Iterator<Item = &Key> {
        self.kept
            .get(sandbox)
            .into_iter()
            .chain(self.rivals_of(sandbox))
    }

    /// The pods that name a sandbox which has another.
    pub(super) fn rivals_of(&self, sandbox: &Uid) -> impl Iterator<Item = &Key> {
        self.rivals.get(sandbox).into_iter().flatten()
    }

    /// A pod says that a sandbox has it, whose status names this pod or none.
    pub(super) fn claimed(&mut self, sandbox: &Uid, pod: &Key, named: Option<&str>) {
        if self.kept.get(sandbox) == Some(pod) {
            return;
        }
        let is_free = !self.kept.contains_key(sandbox);
        if named.map_or(is_free, |name| name == &*pod.name) {
            self.keep(sandbox, pod);
        } else {
            tracing::warn!(%pod, "two pods for one sandbox: one will be given back");
            let rivals = self.rivals.entry(sandbox.clone()).or_default();
            rivals.insert(pod.clone());
        }
    }

    /// A sandbox's status names the pod that it has.
    pub(super) fn named(&mut self, sandbox: &Uid, pod: &Key) {
        let knows = |pods: &BTreeSet<Key>| pods.contains(pod);
        if self.rivals.get(sandbox).is_some_and(knows) {
            self.keep(sandbox, pod);
        } else if let Some(other) = self.kept.get(sandbox).filter(|kept| *kept != pod) {
            let other = other.clone();
            self.kept.remove(sandbox);
            self.rivals
                .entry(sandbox.clone())
                .or_default()
                .insert(other);
        }
    }

    /// A pod no longer says that a sandbox has it, whose status names a pod or none.
    pub(super) fn freed(&mut self, sandbox: &Uid, pod: &Key, is_named: bool) {
        self.forget_rival(sandbox, pod);
        if self.kept.get(sandbox) != Some(pod) {
            return;
        }
        self.kept.remove(sandbox);
        // Nobody was told of a pod yet, so any that is left will do.
        let left = self.rivals.get(sandbox).and_then(|pods| pods.first());
        if let Some(left) = left.filter(|_| !is_named).cloned() {
            self.keep(sandbox, &left);
        }
    }

    fn keep(&mut self, sandbox: &Uid, pod: &Key) {
        self.forget_rival(sandbox, pod);
        if let Some(before) = self.kept.insert(sandbox.clone(), pod.clone()) {
            self.rivals
                .entry(sandbox.clone())
                .or_default()
                .insert(before);
        }
    }

    fn forget_rival(&mut self, sandbox: &Uid, pod: &Key) {
        if let Some(rivals) = self.rivals.get_mut(sandbox) {
            rivals.remove(pod);
            if rivals.is_empty() {
                self.rivals.remove(sandbox);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Key {
        Key {
            namespace: "n".into(),
            name: name.into(),
        }
    }

    fn sandbox() -> Uid {
        "uid".into()
    }

    /// Two pods that name the sandbox before its status names any.
    fn two() -> Claims {
        let mut claims = Claims::default();
        claims.claimed(&sandbox(), &pod("a"), None);
        claims.claimed(&sandbox(), &pod("b"), None);
        assert_eq!(claims.pod_of(&sandbox()), Some(&pod("a")));
        claims
    }

    fn rivals(claims: &Claims) -> Vec<Key> {
        claims.rivals_of(&sandbox()).cloned().collect()
    }

    #[test]
    fn the_pod_that_the_status_names_is_kept_whatever_was_seen_first() {
        let mut claims = two();
        claims.named(&sandbox(), &pod("b"));
        assert_eq!(claims.pod_of(&sandbox()), Some(&pod("b")));
        assert_eq!(rivals(&claims), [pod("a")]);
        claims.claimed(&sandbox(), &pod("c"), Some("b"));
        assert_eq!(claims.pod_of(&sandbox()), Some(&pod("b")));
        assert_eq!(rivals(&claims), [pod("a"), pod("c")]);
    }

    #[test]
    fn a_pod_that_is_named_before_it_is_seen_is_kept_once_it_is() {
        let mut claims = Claims::default();
        claims.claimed(&sandbox(), &pod("a"), None);
        claims.named(&sandbox(), &pod("b"));
        assert_eq!(claims.pod_of(&sandbox()), None);
        claims.claimed(&sandbox(), &pod("b"), Some("b"));
        assert_eq!(claims.pod_of(&sandbox()), Some(&pod("b")));
        assert_eq!(rivals(&claims), [pod("a")]);
    }

    #[test]
    fn a_sandbox_that_was_told_of_a_pod_does_not_move_to_another() {
        let mut claims = two();
        claims.named(&sandbox(), &pod("a"));
        claims.freed(&sandbox(), &pod("a"), true);
        assert_eq!(claims.pod_of(&sandbox()), None);
    }

    #[test]
    fn one_that_was_told_of_none_takes_what_is_left() {
        let mut claims = two();
        claims.freed(&sandbox(), &pod("a"), false);
        assert_eq!(claims.pod_of(&sandbox()), Some(&pod("b")));
        assert!(rivals(&claims).is_empty());
    }

    #[test]
    fn what_is_over_leaves_nothing_behind() {
        let mut claims = two();
        claims.freed(&sandbox(), &pod("a"), false);
        claims.freed(&sandbox(), &pod("b"), false);
        assert!(claims.kept.is_empty() && claims.rivals.is_empty());
    }
}
