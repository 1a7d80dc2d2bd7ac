//! What of the API a pod's environment and volumes are made from.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;

use crate::node::Shared;
use crate::pod::{Sources, containers};

/// Config maps and secrets a pod refers to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
}

/// What of the API a pod's environment and volumes need.
pub(crate) fn needs(pod: &Pod) -> Needs {
    let mut needs = of_volumes(pod);
    let Some(spec) = &pod.spec else { return needs };
    for (_, container) in containers(spec) {
        for from in container.env_from.iter().flatten() {
            needs
                .config_maps
                .extend(from.config_map_ref.iter().map(|one| one.name.clone()));
            needs
                .secrets
                .extend(from.secret_ref.iter().map(|one| one.name.clone()));
        }
        for from in container
            .env
            .iter()
            .flatten()
            .filter_map(|variable| variable.value_from.as_ref())
        {
            needs
                .config_maps
                .extend(from.config_map_key_ref.iter().map(|one| one.name.clone()));
            needs
                .secrets
                .extend(from.secret_key_ref.iter().map(|one| one.name.clone()));
        }
    }
    needs
}

/// What of the API a pod's volumes need: what they show follows it while the pod runs.
pub(crate) fn of_volumes(pod: &Pod) -> Needs {
    let mut needs = Needs::default();
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    for volume in volumes {
        needs
            .config_maps
            .extend(volume.config_map.iter().map(|one| one.name.clone()));
        needs.secrets.extend(
            volume
                .secret
                .iter()
                .filter_map(|one| one.secret_name.clone()),
        );
        for source in volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten())
        {
            needs
                .config_maps
                .extend(source.config_map.iter().map(|one| one.name.clone()));
            needs
                .secrets
                .extend(source.secret.iter().map(|one| one.name.clone()));
        }
    }
    needs
}

/// Fetches them; what does not exist is known not to.
pub(crate) async fn fetch(
    shared: &Shared,
    namespace: &str,
    needs: Needs,
    into: &mut Sources,
) -> kube::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(shared.client.clone(), namespace);
    for name in needs.config_maps {
        let found = maps.get_opt(&name).await?;
        into.config_maps.insert(name, found);
    }
    let secrets: Api<Secret> = Api::namespaced(shared.client.clone(), namespace);
    for name in needs.secrets {
        let found = secrets.get_opt(&name).await?;
        into.secrets.insert(name, found);
    }
    Ok(())
}
