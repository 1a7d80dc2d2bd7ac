//! Volumes made of files that the API holds: configMap, secret, downwardAPI, projected.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccount,
    ServiceAccountTokenProjection, Volume,
};
use kube::api::{Api, PostParams};

use crate::node::Shared;
use crate::pod::{Sources, containers, milli, pod_field, resource_field};

/// Every pod mounts the cluster's certificate authority. A cluster that serves no TLS has
/// none, and its pods must start all the same.
const AUTHORITY: &str = "kube-root-ca.crt";

/// Path in the volume → content and mode.
pub(super) type Files = BTreeMap<String, (Vec<u8>, i32)>;

/// Config maps and secrets a pod refers to.
#[derive(Default)]
pub(crate) struct Needs {
    config_maps: BTreeSet<String>,
    secrets: BTreeSet<String>,
}

/// What of the API a pod's environment and volumes need.
pub(crate) fn needs(pod: &Pod) -> Needs {
    let mut needs = Needs::default();
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
    for volume in spec.volumes.iter().flatten() {
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

/// The files of a volume, if it is made of files.
pub(super) async fn files(
    shared: &Shared,
    pod: &Pod,
    volume: &Volume,
    sources: &Sources,
) -> Result<Option<Files>, String> {
    let mut files = Files::new();
    if let Some(wanted) = &volume.config_map {
        let mode = wanted.default_mode.unwrap_or(0o644);
        let all = config_map(sources, &wanted.name, wanted.optional)?;
        choose(
            &mut files,
            all,
            wanted.items.as_deref(),
            mode,
            wanted.optional,
        )?;
    } else if let Some(wanted) = &volume.secret {
        let mode = wanted.default_mode.unwrap_or(0o644);
        let all = secret(
            sources,
            wanted.secret_name.as_deref().unwrap_or_default(),
            wanted.optional,
        )?;
        choose(
            &mut files,
            all,
            wanted.items.as_deref(),
            mode,
            wanted.optional,
        )?;
    } else if let Some(wanted) = &volume.downward_api {
        downward(
            &mut files,
            pod,
            wanted.items.as_deref(),
            wanted.default_mode.unwrap_or(0o644),
            sources,
        )?;
    } else if let Some(wanted) = &volume.projected {
        let mode = wanted.default_mode.unwrap_or(0o644);
        for source in wanted.sources.iter().flatten() {
            if let Some(one) = &source.config_map {
                let optional = one.optional.or((one.name == AUTHORITY).then_some(true));
                let all = config_map(sources, &one.name, optional)?;
                choose(&mut files, all, one.items.as_deref(), mode, optional)?;
            }
            if let Some(one) = &source.secret {
                choose(
                    &mut files,
                    secret(sources, &one.name, one.optional)?,
                    one.items.as_deref(),
                    mode,
                    one.optional,
                )?;
            }
            if let Some(one) = &source.downward_api {
                downward(&mut files, pod, one.items.as_deref(), mode, sources)?;
            }
            if let Some(one) = &source.service_account_token {
                let token = token(shared, pod, one).await?;
                files.insert(one.path.clone(), (token.into_bytes(), mode & 0o600 | 0o400));
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

type Content = BTreeMap<String, Vec<u8>>;

fn config_map(sources: &Sources, name: &str, optional: Option<bool>) -> Result<Content, String> {
    match sources.config_maps.get(name).and_then(Option::as_ref) {
        Some(map) => {
            let text = map
                .data
                .iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.clone().into_bytes()));
            let binary = map
                .binary_data
                .iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.0.clone()));
            Ok(text.chain(binary).collect())
        }
        None if optional == Some(true) => Ok(Content::new()),
        None => Err(format!("configmap {name:?} not found")),
    }
}

fn secret(sources: &Sources, name: &str, optional: Option<bool>) -> Result<Content, String> {
    match sources.secrets.get(name).and_then(Option::as_ref) {
        Some(secret) => Ok(secret
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.0.clone()))
            .collect()),
        None if optional == Some(true) => Ok(Content::new()),
        None => Err(format!("secret {name:?} not found")),
    }
}

fn choose(
    files: &mut Files,
    mut all: Content,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: Option<bool>,
) -> Result<(), String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        files.extend(all.into_iter().map(|(key, value)| (key, (value, mode))));
        return Ok(());
    };
    for item in items {
        match all.remove(&item.key) {
            Some(value) => {
                files.insert(item.path.clone(), (value, item.mode.unwrap_or(mode)));
            }
            None if optional == Some(true) => {}
            None => return Err(format!("references non-existent key: {}", item.key)),
        }
    }
    Ok(())
}

fn downward(
    files: &mut Files,
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: i32,
    sources: &Sources,
) -> Result<(), String> {
    for item in items.unwrap_or_default() {
        let text = if let Some(field) = &item.field_ref {
            pod_field(pod, &field.field_path, sources)?
        } else if let Some(wanted) = &item.resource_field_ref {
            let name = wanted.container_name.as_deref().unwrap_or_default();
            let found = pod
                .spec
                .iter()
                .flat_map(containers)
                .find(|(_, container)| container.name == name);
            let (_, container) = found.ok_or_else(|| format!("there is no container {name:?}"))?;
            resource_field(
                container,
                &wanted.resource,
                wanted.divisor.as_ref().and_then(milli),
                sources,
            )?
        } else {
            continue;
        };
        files.insert(
            item.path.clone(),
            (text.into_bytes(), item.mode.unwrap_or(mode)),
        );
    }
    Ok(())
}

async fn token(
    shared: &Shared,
    pod: &Pod,
    wanted: &ServiceAccountTokenProjection,
) -> Result<String, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.clone());
    let account = account
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "default".to_owned());
    let api: Api<ServiceAccount> = Api::namespaced(shared.client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: wanted.audience.iter().cloned().collect(),
            expiration_seconds: wanted.expiration_seconds,
            bound_object_ref: Some(k8s_openapi::api::authentication::v1::BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        },
        ..TokenRequest::default()
    };
    let made = api
        .create_token_request(&account, &PostParams::default(), &request)
        .await;
    let made = made.map_err(|error| format!("no token for service account {account}: {error}"))?;
    Ok(made.status.map(|status| status.token).unwrap_or_default())
}

/// Writes the files so that readers see all old or all new ones: names lead through the
/// link `..data`, which is exchanged last.
pub(super) fn write(dir: &Path, files: &Files, group: Option<i64>) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let version = format!("..{}", uuid::Uuid::new_v4().simple());
    let fresh = dir.join(&version);
    fs::create_dir(&fresh)?;
    let mut tops = BTreeSet::new();
    for (path, (content, mode)) in files {
        let relative = Path::new(path);
        let plain = relative
            .components()
            .all(|step| matches!(step, Component::Normal(_)));
        if path.is_empty() || !plain {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{path:?} is not a plain relative path"),
            ));
        }
        let to = fresh.join(relative);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&to, content)?;
        let mut mode = (*mode as u32) & 0o777;
        if let Some(group) = group.and_then(|group| u32::try_from(group).ok()) {
            mode |= 0o440;
            let _ = std::os::unix::fs::chown(&to, None, Some(group));
        }
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
        tops.extend(
            relative
                .components()
                .next()
                .map(|top| Path::new(&top).to_owned()),
        );
    }
    let old = fs::read_link(dir.join("..data")).ok();
    symlink(&version, dir.join("..data_new"))?;
    fs::rename(dir.join("..data_new"), dir.join("..data"))?;
    for top in &tops {
        let link = dir.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(top), link)?;
        }
    }
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("..") && !tops.contains(Path::new(&name)) {
            fs::remove_file(entry.path())?;
        }
    }
    match old {
        Some(old) => fs::remove_dir_all(dir.join(old)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (Vec<u8>, i32) {
        (text.as_bytes().to_vec(), 0o644)
    }

    #[test]
    fn a_new_version_replaces_all_files_at_once_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &Files::from([("a".into(), file("1")), ("d/b".into(), file("2"))]),
            None,
        )
        .unwrap();
        write(dir.path(), &Files::from([("a".into(), file("3"))]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        assert!(!dir.path().join("d").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_key_cannot_lead_out_of_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "/etc/x", "a/../../x", ""] {
            assert!(
                write(dir.path(), &Files::from([(path.into(), file("x"))]), None).is_err(),
                "{path}"
            );
        }
    }
}
