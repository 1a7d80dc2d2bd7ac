//! Volumes of a pod, and where containers mount them.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::{Checks, list, text};
use crate::{
    builtin::quantity,
    meta::names,
    schema::{Cause, Path},
};

/// The pod's volumes by name.
pub(super) type Named<'v> = HashMap<&'v str, &'v Value>;

/// What a volume may come from, with the field that the source cannot do without.
const SOURCES: &[(&str, &str)] = &[
    ("emptyDir", ""),
    ("hostPath", "path"),
    ("configMap", "name"),
    ("secret", "secretName"),
    ("persistentVolumeClaim", "claimName"),
    ("projected", ""),
    ("downwardAPI", ""),
    ("ephemeral", "volumeClaimTemplate"),
    ("csi", "driver"),
    ("image", ""),
    ("nfs", "path"),
    ("iscsi", "targetPortal"),
    ("fc", ""),
    ("cephfs", ""),
    ("rbd", "image"),
    ("glusterfs", "path"),
    ("awsElasticBlockStore", "volumeID"),
    ("azureDisk", "diskName"),
    ("azureFile", "shareName"),
    ("gcePersistentDisk", "pdName"),
    ("cinder", "volumeID"),
    ("flexVolume", "driver"),
    ("flocker", ""),
    ("gitRepo", "repository"),
    ("photonPersistentDisk", "pdID"),
    ("portworxVolume", "volumeID"),
    ("quobyte", "volume"),
    ("scaleIO", "system"),
    ("storageos", ""),
    ("vsphereVolume", "volumePath"),
];

pub(super) fn check_all<'v>(checks: &mut Checks, path: &Path, spec: &'v Value) -> Named<'v> {
    let mut named = Named::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let at = path.field("volumes").index(index);
        check_source(checks, &at, volume);
        let Some(name) = checks.text(&at, volume, "name") else {
            continue;
        };
        checks.faults(at.field("name"), &volume["name"], names::label(name));
        if named.insert(name, volume).is_some() {
            checks.add(Cause::duplicate(at.field("name"), &volume["name"]));
        }
    }
    named
}

/// A volume comes from exactly one place.
fn check_source(checks: &mut Checks, path: &Path, volume: &Value) {
    let mut sources = SOURCES
        .iter()
        .filter(|(source, _)| !volume[*source].is_null());
    let Some((source, needed)) = sources.next() else {
        return checks.required(path.clone(), "must specify a volume type");
    };
    for (other, _) in sources {
        checks.forbidden(path.field(other), "may not specify more than 1 volume type");
    }
    let (at, from) = (path.field(source), &volume[*source]);
    if !needed.is_empty() && (from[*needed].is_null() || from[*needed] == "") {
        checks.required(at.field(needed), "");
    }
    match *source {
        "emptyDir" => {
            if let Some(size) = text(from, "sizeLimit")
                && quantity::parse(size).is_none_or(|size| size < 0)
            {
                checks.invalid(
                    at.field("sizeLimit"),
                    &from["sizeLimit"],
                    "SizeLimit field must be a valid resource quantity",
                );
            }
        }
        "hostPath"
            if text(from, "path").is_some_and(|path| path.split('/').any(|part| part == "..")) =>
        {
            checks.invalid(at.field("path"), &from["path"], "must not contain '..'");
        }
        "configMap" | "secret" | "projected" | "downwardAPI" => check_files(checks, &at, from),
        _ => {}
    }
}

/// Files made from keys stay inside the volume and have a mode.
fn check_files(checks: &mut Checks, path: &Path, source: &Value) {
    check_mode(checks, path, source, "defaultMode");
    for (index, item) in list(source, "items").iter().enumerate() {
        let at = path.field("items").index(index);
        check_mode(checks, &at, item, "mode");
        if let Some(target) = checks.text(&at, item, "path") {
            check_inside(checks, at.field("path"), target);
        }
    }
    for (index, part) in list(source, "sources").iter().enumerate() {
        for kind in ["configMap", "secret", "downwardAPI"] {
            if !part[kind].is_null() {
                check_files(
                    checks,
                    &path.field("sources").index(index).field(kind),
                    &part[kind],
                );
            }
        }
    }
}

fn check_mode(checks: &mut Checks, path: &Path, of: &Value, key: &str) {
    if of[key]
        .as_i64()
        .is_some_and(|mode| !(0..=0o777).contains(&mode))
    {
        checks.invalid(
            path.field(key),
            &of[key],
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
}

fn check_inside(checks: &mut Checks, path: Path, target: &str) {
    if target.starts_with('/') {
        checks.invalid(path, &json!(target), "must be a relative path");
    } else if target.split('/').any(|part| part == "..") {
        checks.invalid(path, &json!(target), "must not contain '..'");
    }
}

pub(super) fn check_mounts(
    checks: &mut Checks,
    path: &Path,
    container: &Value,
    volumes: &Named<'_>,
) {
    let mut places = HashSet::new();
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        let at = path.field("volumeMounts").index(index);
        if let Some(name) = checks.text(&at, mount, "name")
            && !volumes.contains_key(name)
        {
            checks.add(Cause::not_found(at.field("name"), &mount["name"]));
        }
        if let Some(place) = checks.text(&at, mount, "mountPath")
            && !places.insert(place)
        {
            checks.invalid(at.field("mountPath"), &mount["mountPath"], "must be unique");
        }
        for key in ["subPath", "subPathExpr"] {
            if let Some(below) = text(mount, key) {
                check_inside(checks, at.field(key), below);
            }
        }
        if text(mount, "subPath").is_some() && text(mount, "subPathExpr").is_some() {
            checks.invalid(
                at.field("subPathExpr"),
                &mount["subPathExpr"],
                "subPathExpr and subPath are mutually exclusive",
            );
        }
    }
}
