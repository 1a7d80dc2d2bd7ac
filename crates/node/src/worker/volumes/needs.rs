//! What of the API containers' environments and pods' volumes are made from.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use kube::Api;

use crate::node::Shared;
use crate::pod::Sources;

/// Config maps and secrets a pod refers to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
}

/// What of the API a container's environment needs.
pub(crate) fn of_environment(container: &Container) -> Needs {
    let mut needs = Needs::default();
    for from in container.env_from.iter().flatten() {
        let maps = from.config_map_ref.iter().map(|one| one.name.clone());
        let secrets = from.secret_ref.iter().map(|one| one.name.clone());
        needs.config_maps.extend(maps);
        needs.secrets.extend(secrets);
    }
    let variables = container.env.iter().flatten();
    for from in variables.filter_map(|variable| variable.value_from.as_ref()) {
        let maps = from.config_map_key_ref.iter().map(|one| one.name.clone());
        let secrets = from.secret_key_ref.iter().map(|one| one.name.clone());
        needs.config_maps.extend(maps);
        needs.secrets.extend(secrets);
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

/// The claims a pod's volumes use.
pub(crate) fn claims(pod: &Pod) -> BTreeSet<String> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
    claims.map(|claim| claim.claim_name.clone()).collect()
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
