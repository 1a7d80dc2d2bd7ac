//! Runs that are not to be: who asked for one may call it off before it has come to begin.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use sandlot_supervisor::Key;

/// How many are remembered: a run that was called off begins moments later, or never.
const MOST: usize = 256;

/// The keys of the last runs that were called off.
#[derive(Default)]
pub(super) struct CalledOff(Mutex<VecDeque<Key>>);

impl CalledOff {
    /// Notes that this run is not to be, or not to go on.
    pub(super) fn note(&self, key: &Key) {
        // Whole after every statement that could panic.
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !keys.contains(key) {
            keys.push_back(key.clone());
        }
        if keys.len() > MOST {
            keys.pop_front();
        }
    }

    /// Whether this run is not to be.
    pub(super) fn has(&self, key: &Key) -> bool {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_are_remembered() {
        let called_off = CalledOff::default();
        let key = |number: usize| Key::new(format!("run-{number}")).unwrap();
        (0..=MOST).for_each(|number| called_off.note(&key(number)));
        called_off.note(&key(MOST));
        assert!(!called_off.has(&key(0)));
        assert!(called_off.has(&key(1)) && called_off.has(&key(MOST)));
    }
}
