//! Watching what pods' volumes show: whoever's config map or secret has changed is told.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event as Watched};
use kube::{Api, Resource};

use crate::node::{Shared, lock};
use crate::worker::Needs;

/// Runs until the node stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let stop = shared.stopped().clone();
    let both = async {
        // Every change of every config map would come by, for nobody.
        while !is_anything_shown(&shared) {
            shared.taken_on.notified().await;
        }
        tokio::join!(
            follow::<ConfigMap>(&shared, |needs, name| needs.config_maps.contains(name)),
            follow::<Secret>(&shared, |needs, name| needs.secrets.contains(name)),
        )
    };
    stop.run_until_cancelled(both).await;
}

fn is_anything_shown(shared: &Shared) -> bool {
    let workers = lock(&shared.workers);
    workers.values().any(|worker| {
        let shows = &lock(&worker.view).shows;
        !shows.config_maps.is_empty() || !shows.secrets.is_empty()
    })
}

async fn follow<K>(shared: &Shared, shows: fn(&Needs, &str) -> bool)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
{
    let api: Api<PartialObjectMeta<K>> = Api::all(shared.client.clone());
    let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    while let Some(event) = stream.next().await {
        match event {
            // What a list tells may be younger than what pods have read.
            Ok(Watched::Apply(object) | Watched::Delete(object) | Watched::InitApply(object)) => {
                tell(shared, &object.metadata, shows)
            }
            Ok(_) => {}
            Err(error) => {
                let kind = K::kind(&());
                tracing::warn!(%kind, %error, "a watch broke; it is taken up again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

fn tell(shared: &Shared, object: &ObjectMeta, shows: fn(&Needs, &str) -> bool) {
    let namespace = object.namespace.as_deref().unwrap_or_default();
    let name = object.name.as_deref().unwrap_or_default();
    for worker in lock(&shared.workers).values() {
        let view = lock(&worker.view);
        if view.namespace == namespace && shows(&view.shows, name) {
            worker.stale.notify_one();
        }
    }
}
