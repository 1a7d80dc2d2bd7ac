//! Many clients at once, each on a bare connection of its own.

use std::time::Instant;

use anyhow::Result;
use futures::future::try_join_all;
use kube::{Config, ResourceExt};
use serde::Serialize;

use super::{sight::place_of, wire::Wire};

/// How many clients there are.
pub(super) const CLIENTS: usize = 64;

/// Clients that are connected and have asked for nothing yet.
pub(super) struct Crowd(Vec<Wire>);

impl Crowd {
    pub(super) async fn open(config: &Config) -> Result<Crowd> {
        let mut clients = Vec::with_capacity(CLIENTS);
        for _ in 0..CLIENTS {
            clients.push(Wire::open(config).await?);
        }
        Ok(Crowd(clients))
    }

    /// Makes so many objects, each client one after the other. Says of each when it was begun.
    pub(super) async fn make<K>(
        self,
        count: usize,
        object: impl Fn(usize) -> K,
    ) -> Result<Vec<(String, Instant)>>
    where
        K: kube::Resource<DynamicType = ()> + Serialize,
    {
        let object = &object;
        let place = &place_of::<K>();
        let making = self
            .0
            .into_iter()
            .enumerate()
            .map(|(client, mut wire)| async move {
                let mut made = Vec::new();
                for n in (client..count).step_by(CLIENTS) {
                    let object = object(n);
                    let text = serde_json::to_vec(&object)?;
                    made.push((object.name_any(), Instant::now()));
                    wire.create(place, &text).await?;
                }
                anyhow::Ok(made)
            });
        let made = try_join_all(making).await?;
        Ok(made.into_iter().flatten().collect())
    }
}
