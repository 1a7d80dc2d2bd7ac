//! Persistent volume claims: a folder of this machine for each, or a volume that somebody
//! has made beforehand.
//!
//! A claim is bound when the first pod uses it (`WaitForFirstConsumer`), and released when
//! it is deleted and no pod uses it any more; its folder goes then, as a StorageClass with
//! the reclaim policy `Delete` promises.

mod choose;
mod release;

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim,
    PersistentVolumeSpec, PersistentVolumeStatus,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

pub(crate) use release::run;

/// The class of claims that name none.
const CLASS: &str = "folder";
/// Who makes the volumes of that class.
const PROVISIONER: &str = "sandlot.dev/folder";
/// Keeps a claim until no pod uses it any more.
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// The claims of this node.
pub(crate) struct Claims {
    client: kube::Client,
    /// Where the folders are.
    root: PathBuf,
}

impl Claims {
    /// Keeps claims' folders in this one.
    pub(crate) fn new(client: kube::Client, root: PathBuf) -> Claims {
        Claims { client, root }
    }

    /// Whether a volume's folder lies where we make folders, so that it is ours.
    pub(crate) fn made(&self, folder: &Path) -> bool {
        folder.parent() == Some(self.root.as_path())
    }

    /// Makes the class known, as the one for claims that name none.
    pub(crate) async fn offer(&self) -> kube::Result<()> {
        let class = json!({
            "metadata": {"name": CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": PROVISIONER, "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        });
        let class: StorageClass = serde_json::from_value(class).map_err(kube::Error::SerdeError)?;
        let api: Api<StorageClass> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &class).await {
            Err(kube::Error::Api(error)) if error.code == 409 => Ok(()),
            made => made.map(|_| ()),
        }
    }

    /// The folder of a claim, which is bound to it for good.
    pub(crate) async fn folder(&self, namespace: &str, name: &str) -> Result<PathBuf, String> {
        let words = |error: kube::Error| format!("persistentvolumeclaim {name:?}: {error}");
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let claim = api.get_opt(name).await.map_err(words)?;
        let claim = claim.ok_or_else(|| format!("persistentvolumeclaim {name:?} not found"))?;
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
        }
        let volume = self.volume(&claim).await?;
        let folder = choose::folder_of(&volume)?;
        let bound = claim
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if bound != Some("Bound")
            || claim
                .spec
                .as_ref()
                .and_then(|spec| spec.volume_name.as_ref())
                .is_none()
        {
            self.bind(&api, &claim, &volume).await.map_err(words)?;
        }
        Ok(folder)
    }

    /// The volume a claim is bound to, or one that fits, or a new one.
    async fn volume(&self, claim: &PersistentVolumeClaim) -> Result<PersistentVolume, String> {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let words = |error: kube::Error| format!("its volume cannot be had: {error}");
        let spec = claim.spec.clone().unwrap_or_default();
        if let Some(name) = spec.volume_name.filter(|name| !name.is_empty()) {
            let volume = api.get_opt(&name).await.map_err(words)?;
            return volume.ok_or_else(|| format!("persistentvolume {name:?} not found"));
        }
        let all = api.list(&ListParams::default()).await.map_err(words)?;
        if let Some(fits) = choose::best(claim, &all.items) {
            return Ok(fits.clone());
        }
        if spec.storage_class_name.as_deref() == Some("") {
            return Err(
                "no persistent volumes available for this claim and no storage class is set"
                    .to_owned(),
            );
        }
        let made = made_for(claim, &self.root);
        match api.create(&PostParams::default(), &made).await {
            // A node before this one made it and was killed before it could say so.
            Err(kube::Error::Api(error)) if error.code == 409 => Ok(made),
            made => made.map_err(words),
        }
    }

    async fn bind(
        &self,
        api: &Api<PersistentVolumeClaim>,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> kube::Result<()> {
        let (params, meta) = (PatchParams::default(), &claim.metadata);
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let owner = json!({"spec": {"claimRef": reference(claim)}});
        volumes.patch(name, &params, &Patch::Merge(owner)).await?;
        let bound = json!({"status": {"phase": "Bound"}});
        volumes
            .patch_status(name, &params, &Patch::Merge(bound))
            .await?;
        let mut finalizers = meta.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|one| one == PROTECTION) {
            finalizers.push(PROTECTION.to_owned());
        }
        let spec = volume.spec.clone().unwrap_or_default();
        let main = json!({
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers,
                "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": name, "storageClassName": spec.storage_class_name},
        });
        let claim_name = meta.name.as_deref().unwrap_or_default();
        api.patch(claim_name, &params, &Patch::Merge(main)).await?;
        let status: Value = json!({"metadata": {"uid": meta.uid}, "status": {
            "phase": "Bound", "accessModes": spec.access_modes, "capacity": spec.capacity,
        }});
        api.patch_status(claim_name, &params, &Patch::Merge(status))
            .await?;
        Ok(())
    }
}

fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    let meta = &claim.metadata;
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The volume for a claim that no volume fits: a folder of its own.
fn made_for(claim: &PersistentVolumeClaim, root: &Path) -> PersistentVolume {
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    let spec = claim.spec.clone().unwrap_or_default();
    let folder = root.join(&uid);
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(format!("pvc-{uid}")),
            annotations: Some(
                [(
                    "pv.kubernetes.io/provisioned-by".to_owned(),
                    PROVISIONER.to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: spec.resources.and_then(|resources| resources.requests),
            claim_ref: Some(reference(claim)),
            host_path: Some(HostPathVolumeSource {
                path: folder.display().to_string(),
                type_: Some("DirectoryOrCreate".to_owned()),
            }),
            persistent_volume_reclaim_policy: Some("Delete".to_owned()),
            storage_class_name: Some(spec.storage_class_name.unwrap_or_else(|| CLASS.to_owned())),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: Some(PersistentVolumeStatus {
            phase: Some("Bound".to_owned()),
            ..PersistentVolumeStatus::default()
        }),
    }
}
