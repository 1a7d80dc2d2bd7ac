//! Persistent volume claims: a folder of this machine for each.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

/// The folder of a claim, which is bound to it for good.
pub(crate) async fn folder(
    client: &kube::Client,
    root: &Path,
    namespace: &str,
    name: &str,
) -> Result<PathBuf, String> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let claim = api.get_opt(name).await.map_err(|error| error.to_string())?;
    let claim = claim.ok_or_else(|| format!("persistentvolumeclaim {name:?} not found"))?;
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    let bound = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        == Some("Bound");
    if !bound {
        let spec = claim.spec.clone().unwrap_or_default();
        let capacity = spec
            .resources
            .and_then(|resources| resources.requests)
            .unwrap_or_default();
        let status = json!({"metadata": {"uid": uid}, "status": {
            "phase": "Bound", "accessModes": spec.access_modes, "capacity": capacity,
        }});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .map_err(|error| error.to_string())?;
    }
    Ok(root.join(uid))
}
