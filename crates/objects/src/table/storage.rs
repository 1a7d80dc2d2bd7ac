//! The rows of volumes, claims and their classes.

use jiff::Timestamp;
use serde_json::Value;

use super::{created, list, name, text};

pub(super) const VOLUME: &str = "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|\
                                 StorageClass|VolumeAttributesClass|Reason|Age|VolumeMode+";
pub(super) const CLAIM: &str = "Name|Status|Volume|Capacity|Access Modes|StorageClass|\
                                VolumeAttributesClass|Age|VolumeMode+";
pub(super) const CLASS: &str =
    "Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age";

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

pub(super) fn volume(volume: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match text(volume, "/spec/claimRef/name") {
        "" => String::new(),
        claim => format!("{}/{claim}", text(volume, "/spec/claimRef/namespace")),
    };
    vec![
        name(volume).into(),
        text(volume, "/spec/capacity/storage").into(),
        access_modes(list(volume, "/spec/accessModes")).into(),
        text(volume, "/spec/persistentVolumeReclaimPolicy").into(),
        phase(volume).into(),
        claim.into(),
        text(volume, "/spec/storageClassName").into(),
        attributes_class(volume).into(),
        text(volume, "/status/reason").into(),
        created(volume, now).into(),
        mode(volume).into(),
    ]
}

pub(super) fn claim(claim: &Value, now: Timestamp) -> Vec<Value> {
    let bound = !text(claim, "/spec/volumeName").is_empty();
    let capacity = if bound {
        text(claim, "/status/capacity/storage")
    } else {
        ""
    };
    let modes = if bound {
        access_modes(list(claim, "/status/accessModes"))
    } else {
        String::new()
    };
    vec![
        name(claim).into(),
        phase(claim).into(),
        text(claim, "/spec/volumeName").into(),
        capacity.into(),
        modes.into(),
        text(claim, "/spec/storageClassName").into(),
        attributes_class(claim).into(),
        created(claim, now).into(),
        mode(claim).into(),
    ]
}

pub(super) fn class(class: &Value, now: Timestamp) -> Vec<Value> {
    let annotations = class.pointer("/metadata/annotations");
    let default = annotations
        .and_then(|all| all.get(DEFAULT_CLASS))
        .is_some_and(|v| v == "true");
    let or = |pointer: &str, default: &str| match text(class, pointer) {
        "" => default.to_owned(),
        value => value.to_owned(),
    };
    let expands = class
        .get("allowVolumeExpansion")
        .and_then(Value::as_bool)
        .unwrap_or_default();
    vec![
        if default {
            format!("{} (default)", name(class))
        } else {
            name(class).to_owned()
        }
        .into(),
        text(class, "/provisioner").into(),
        or("/reclaimPolicy", "Delete").into(),
        or("/volumeBindingMode", "Immediate").into(),
        expands.to_string().into(),
        created(class, now).into(),
    ]
}

fn phase(object: &Value) -> &str {
    match object.pointer("/metadata/deletionTimestamp") {
        Some(Value::String(_)) => "Terminating",
        _ => text(object, "/status/phase"),
    }
}

fn attributes_class(object: &Value) -> &str {
    match text(object, "/spec/volumeAttributesClassName") {
        "" => "<unset>",
        class => class,
    }
}

fn mode(object: &Value) -> &str {
    match text(object, "/spec/volumeMode") {
        "" => "<unset>",
        mode => mode,
    }
}

fn access_modes(modes: &[Value]) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let short = known
        .into_iter()
        .filter(|(mode, _)| modes.iter().any(|given| given == mode));
    short.map(|(_, short)| short).collect::<Vec<_>>().join(",")
}
