//! Which of the volumes that there are fits a claim.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::pod::bytes;

/// The smallest volume that fits; one that names the claim before all others.
pub(super) fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [PersistentVolume],
) -> Option<&'a PersistentVolume> {
    let fitting = volumes.iter().filter(|volume| fits(claim, volume));
    fitting.min_by_key(|volume| (!is_meant_for(claim, volume), capacity(volume)))
}

fn fits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let (Some(wanted), Some(offered)) = (&claim.spec, &volume.spec) else {
        return false;
    };
    let owned = offered.claim_ref.is_some();
    if owned && !is_meant_for(claim, volume) {
        return false;
    }
    let class = |name: &Option<String>| name.clone().unwrap_or_default();
    let wanted_class = wanted.storage_class_name.as_deref();
    // A claim that names no class takes what was set aside for it, and else a new folder.
    let same_class = match wanted_class {
        Some(name) => class(&offered.storage_class_name) == name,
        None => owned,
    };
    let modes = offered.access_modes.clone().unwrap_or_default();
    let all_modes = wanted
        .access_modes
        .iter()
        .flatten()
        .all(|mode| modes.contains(mode));
    let size = wanted
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref()?.get("storage"))
        .and_then(bytes)
        .unwrap_or(0);
    let gone = volume.metadata.deletion_timestamp.is_some();
    same_class && all_modes && capacity(volume) >= size && !gone
}

fn is_meant_for(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let owner = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    owner.is_some_and(|owner| {
        let same_one = owner.uid.is_none() || owner.uid == claim.metadata.uid;
        same_one && owner.name == claim.metadata.name && owner.namespace == claim.metadata.namespace
    })
}

fn capacity(volume: &PersistentVolume) -> u64 {
    let capacity = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    capacity.and_then(bytes).unwrap_or(0)
}

/// Where a volume is on this machine.
pub(super) fn folder_of(volume: &PersistentVolume) -> Result<PathBuf, String> {
    let spec = volume.spec.clone().unwrap_or_default();
    let path = match (spec.host_path, spec.local) {
        (Some(host), _) => host.path,
        (None, Some(local)) => local.path,
        (None, None) => {
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            return Err(format!(
                "persistentvolume {name:?} is of a kind that this node does not have; it has hostPath and local"
            ));
        }
    };
    let path = PathBuf::from(path);
    let plain = path.is_absolute() && path.components().all(|step| step.as_os_str() != "..");
    if plain {
        Ok(path)
    } else {
        Err(format!("{} is not a plain absolute path", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(class: Option<&str>) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": "disk", "uid": "1"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
                "resources": {"requests": {"storage": "1Gi"}}}}))
        .unwrap()
    }

    fn volume(name: &str, class: &str, size: &str, owner: Option<&str>) -> PersistentVolume {
        let owner = owner.map(|name| json!({"namespace": "n", "name": name}));
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "storageClassName": class,
            "capacity": {"storage": size}, "claimRef": owner, "hostPath": {"path": "/data"}}}))
        .unwrap()
    }

    #[test]
    fn the_smallest_volume_of_the_class_that_is_big_enough_and_free_is_taken() {
        let volumes = [
            volume("other-class", "fast", "1Gi", None),
            volume("too-small", "manual", "500Mi", None),
            volume("big", "manual", "5Gi", None),
            volume("fits", "manual", "2Gi", None),
            volume("owned", "manual", "1Gi", Some("another")),
        ];
        let chosen = best(&claim(Some("manual")), &volumes).unwrap();
        assert_eq!(chosen.metadata.name.as_deref(), Some("fits"));
        assert!(best(&claim(None), &volumes).is_none());
    }

    #[test]
    fn a_volume_that_names_the_claim_goes_before_smaller_ones() {
        let volumes = [
            volume("free", "manual", "1Gi", None),
            volume("meant", "manual", "9Gi", Some("disk")),
        ];
        for class in [Some("manual"), None] {
            let chosen = best(&claim(class), &volumes).unwrap();
            assert_eq!(chosen.metadata.name.as_deref(), Some("meant"));
        }
    }
}
