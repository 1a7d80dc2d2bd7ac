//! Keeping what somebody uses, or is about to.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::{State, Store};
use crate::images::reference::Digest;

/// Keeps layers from being removed for as long as it lives.
#[derive(Debug)]
pub(crate) struct Hold {
    store: Weak<Store>,
    name: Option<String>,
    layers: Vec<Digest>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(store) = self.store.upgrade() else {
            return;
        };
        let mut state = store.state();
        for layer in &self.layers {
            let_go(&mut state.held, layer);
        }
        if let Some(name) = &self.name {
            let_go(&mut state.held_names, name);
        }
    }
}

fn let_go<K: std::hash::Hash + Eq>(held: &mut HashMap<K, usize>, what: &K) {
    if let Some(count) = held.get_mut(what) {
        *count -= 1;
        if *count == 0 {
            held.remove(what);
        }
    }
}

impl Store {
    /// Holds layers, whether they are here yet or not.
    pub(crate) fn hold(self: &Arc<Self>, layers: Vec<Digest>) -> Arc<Hold> {
        self.hold_in(&mut self.state(), None, layers)
    }

    pub(super) fn hold_in(
        self: &Arc<Self>,
        state: &mut State,
        name: Option<String>,
        layers: Vec<Digest>,
    ) -> Arc<Hold> {
        for layer in &layers {
            *state.held.entry(layer.clone()).or_default() += 1;
        }
        if let Some(name) = &name {
            *state.held_names.entry(name.clone()).or_default() += 1;
        }
        Arc::new(Hold {
            store: Arc::downgrade(self),
            name,
            layers,
        })
    }
}
