//! Manifests as people write them, applied the way kubectl does on the server's side.

use anyhow::{Context, Result, anyhow};
use kube::{
    Api, Client, Discovery,
    api::{DynamicObject, Patch, PatchParams},
    discovery::{ApiResource, Scope},
};
use serde::Deserialize;

/// The field manager of everything that the command line applies.
const MANAGER: &str = "sandlot";

/// Reads every document of a YAML text.
pub(crate) fn parse(yaml: &str) -> Result<Vec<DynamicObject>> {
    yaml.split("\n---")
        .filter(|document| {
            document
                .lines()
                .any(|line| !line.trim().is_empty() && !line.starts_with('#'))
        })
        .map(|document| {
            let value: serde_json::Value = serde_saphyr::from_str(document)?;
            DynamicObject::deserialize(value).context("it is no Kubernetes object")
        })
        .collect()
}

/// The objects of one kind, found by discovery.
pub(crate) struct Kinds {
    client: Client,
    discovery: Discovery,
}

impl Kinds {
    /// Asks the API what kinds it serves.
    pub(crate) async fn of(client: &Client) -> Result<Kinds> {
        let discovery = Discovery::new(client.clone()).run_aggregated().await?;
        Ok(Kinds {
            client: client.clone(),
            discovery,
        })
    }

    /// The API for objects like this one.
    pub(crate) fn api(
        &self,
        object: &DynamicObject,
        namespace: &str,
    ) -> Result<(Api<DynamicObject>, ApiResource)> {
        let types = object
            .types
            .as_ref()
            .ok_or_else(|| anyhow!("the manifest has no apiVersion and kind"))?;
        let gvk = types
            .try_into()
            .with_context(|| format!("apiVersion {:?}", types.api_version))?;
        let (resource, capabilities) = self
            .discovery
            .resolve_gvk(&gvk)
            .ok_or_else(|| anyhow!("the API serves no {} of {}", types.kind, types.api_version))?;
        let api = match capabilities.scope {
            Scope::Namespaced => {
                let namespace = object.metadata.namespace.as_deref().unwrap_or(namespace);
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
        };
        Ok((api, resource))
    }

    /// Server-side apply of one object.
    pub(crate) async fn apply(
        &self,
        object: &DynamicObject,
        namespace: &str,
    ) -> Result<Api<DynamicObject>> {
        let (api, resource) = self.api(object, namespace)?;
        let name = object
            .metadata
            .name
            .as_deref()
            .ok_or_else(|| anyhow!("the manifest has no metadata.name"))?;
        api.patch(
            name,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(object),
        )
        .await
        .with_context(|| format!("cannot apply {} {name}", resource.kind))?;
        Ok(api)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_manifests_are_read() {
        let objects = parse(include_str!(
            "../../../examples/arl/pattern-reusable-sandbox.yaml"
        ))
        .unwrap();
        let names: Vec<_> = objects
            .iter()
            .filter_map(|o| o.metadata.name.clone())
            .collect();
        assert_eq!(names, ["persistent-workspace", "task-1", "task-2"]);
    }
}
