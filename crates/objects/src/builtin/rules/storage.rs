//! Volumes, claims and storage classes.

use serde_json::Value;

use super::{Checks, container, list, text};
use crate::{
    builtin::quantity,
    schema::{Cause, Path},
};

const ACCESS_MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

pub(super) fn check_claim(checks: &mut Checks, claim: &Value, old: Option<&Value>) {
    let (path, spec) = (Path::of("spec"), &claim["spec"]);
    check_access_modes(checks, &path, spec);
    checks.one_of(&path, spec, "volumeMode", VOLUME_MODES);
    let at = path.field("resources");
    match spec["resources"]["requests"]
        .get("storage")
        .and_then(Value::as_str)
    {
        None => checks.required(at.key("storage"), ""),
        Some(size) if quantity::parse(size).is_some_and(|size| size <= 0) => {
            let size = &spec["resources"]["requests"]["storage"];
            checks.invalid(
                at.field("requests").key("storage"),
                size,
                "must be greater than zero",
            );
        }
        Some(_) => container::check_resources(checks, &at, &spec["resources"]),
    }
    if let Some(old) = old
        && fixed_part(spec, &old["spec"]) != fixed_part(&old["spec"], &old["spec"])
    {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        checks.forbidden(path, detail);
    }
}

/// A claim may grow, is bound to a volume once, and may be given a class when it has none.
fn fixed_part(spec: &Value, old: &Value) -> Value {
    let mut fixed = spec.clone();
    if let Some(fields) = fixed.as_object_mut() {
        for key in ["resources", "volumeAttributesClassName", "volumeName"] {
            fields.remove(key);
        }
        if old["storageClassName"].is_null() {
            fields.remove("storageClassName");
        }
    }
    fixed
}

pub(super) fn check_volume(checks: &mut Checks, volume: &Value) {
    let (path, spec) = (Path::of("spec"), &volume["spec"]);
    check_access_modes(checks, &path, spec);
    checks.one_of(&path, spec, "volumeMode", VOLUME_MODES);
    checks.one_of(
        &path,
        spec,
        "persistentVolumeReclaimPolicy",
        &["Delete", "Recycle", "Retain"],
    );
    match spec["capacity"].get("storage").and_then(Value::as_str) {
        None => checks.required(path.field("capacity"), ""),
        Some(size) if quantity::parse(size).is_none_or(|size| size <= 0) => {
            let at = path.field("capacity").key("storage");
            checks.invalid(
                at,
                &spec["capacity"]["storage"],
                "must be greater than zero",
            );
        }
        Some(_) => {}
    }
}

fn check_access_modes(checks: &mut Checks, path: &Path, spec: &Value) {
    let (at, modes) = (path.field("accessModes"), list(spec, "accessModes"));
    if modes.is_empty() {
        checks.required(at.clone(), "at least 1 access mode is required");
    }
    for mode in modes.iter().filter(|mode| {
        !mode
            .as_str()
            .is_some_and(|mode| ACCESS_MODES.contains(&mode))
    }) {
        checks.add(Cause::not_supported(&at, mode, ACCESS_MODES));
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        checks.forbidden(at, "may not use ReadWriteOncePod with other access modes");
    }
}

pub(super) fn check_class(checks: &mut Checks, class: &Value, old: Option<&Value>) {
    let root = Path::root();
    if text(class, "provisioner").is_none() {
        checks.required(Path::of("provisioner"), "");
    }
    checks.one_of(&root, class, "reclaimPolicy", &["Delete", "Retain"]);
    checks.one_of(
        &root,
        class,
        "volumeBindingMode",
        &["Immediate", "WaitForFirstConsumer"],
    );
    let Some(old) = old else { return };
    for key in ["parameters", "provisioner", "reclaimPolicy"] {
        if class[key] != old[key] {
            checks.forbidden(Path::of(key), &format!("updates to {key} are forbidden."));
        }
    }
    if class["volumeBindingMode"] != old["volumeBindingMode"] {
        checks.same(
            Path::of("volumeBindingMode"),
            &class["volumeBindingMode"],
            &old["volumeBindingMode"],
        );
    }
}
