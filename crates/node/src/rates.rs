//! How much processor time containers use: the difference between two looks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::node::{Shared, lock};
use crate::usage::Look;

const BETWEEN_LOOKS: Duration = Duration::from_secs(10);

type Key = (String, String, String);

/// The rates at the last look.
#[derive(Default)]
pub(crate) struct Rates {
    seen: HashMap<Key, (Instant, u64, u64)>,
}

impl Rates {
    /// Billionths of a core that a container's run used lately.
    pub(crate) fn of(&self, namespace: &str, pod: &str, id: &str) -> u64 {
        let key = (namespace.to_owned(), pod.to_owned(), id.to_owned());
        self.seen.get(&key).map_or(0, |(_, _, rate)| *rate)
    }

    fn look(&mut self, now: Instant, used: HashMap<Key, u64>) {
        let before = std::mem::take(&mut self.seen);
        for (key, total) in used {
            let rate = before.get(&key).map_or(0, |(then, old, _)| {
                let nanoseconds = now.duration_since(*then).as_nanos().max(1);
                (u128::from(total.saturating_sub(*old)) * 1_000_000_000 / nanoseconds) as u64
            });
            self.seen.insert(key, (now, total, rate));
        }
    }
}

/// Looks again and again until the node stops.
pub(crate) async fn measure(shared: Arc<Shared>) {
    loop {
        let (mut used, look) = (HashMap::new(), Look::now(&shared.cgroups));
        for view in shared.views() {
            for container in view
                .containers
                .values()
                .filter(|container| container.running)
            {
                let key = (
                    view.namespace.clone(),
                    view.name.clone(),
                    container.id.clone(),
                );
                used.insert(key, look.at(container).cpu_nanoseconds);
            }
        }
        lock(&shared.rates).look(Instant::now(), used);
        tokio::select! {
            () = shared.stopped().cancelled() => return,
            () = tokio::time::sleep(BETWEEN_LOOKS) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_used_half_a_second_in_one_uses_half_a_core() {
        let key = || ("n".to_owned(), "p".to_owned(), "c.0".to_owned());
        let mut rates = Rates::default();
        let start = Instant::now();
        rates.look(start, HashMap::from([(key(), 0)]));
        rates.look(
            start + Duration::from_secs(1),
            HashMap::from([(key(), 500_000_000)]),
        );
        assert_eq!(rates.of("n", "p", "c.0"), 500_000_000);
    }
}
