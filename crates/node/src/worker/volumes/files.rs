//! Volumes made of files that the API holds: configMap, secret, downwardAPI, projected.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, Volume};

use super::Making;
use crate::pod::{Sources, containers, milli, pod_field, resource_field};

/// Every pod mounts the cluster's certificate authority. A cluster that serves no TLS has
/// none, and its pods must start all the same.
const AUTHORITY: &str = "kube-root-ca.crt";

/// The files of a volume by their paths in it.
pub(super) type Files = BTreeMap<String, File>;

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) content: Vec<u8>,
    pub(super) mode: i32,
    /// The pod's user that it belongs to, when not to its root.
    pub(super) owner: Option<u32>,
}

impl File {
    fn new(content: Vec<u8>, mode: i32) -> File {
        File {
            content,
            mode,
            owner: None,
        }
    }
}

/// The files of a volume, if it is made of files.
pub(super) async fn files(
    of: &Making<'_>,
    volume: &Volume,
    sources: &Sources,
) -> Result<Option<Files>, String> {
    let pod = of.pod;
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
                let token = of.tokens.get(of.shared, pod, &volume.name, one).await?;
                let only_user = only_user(pod);
                let closed = only_user.is_some() || of.group().is_some();
                let file = File {
                    content: token.into_bytes(),
                    mode: if closed { 0o600 } else { mode },
                    owner: only_user,
                };
                files.insert(one.path.clone(), file);
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

pub(super) type Content = BTreeMap<String, Vec<u8>>;

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
        files.extend(
            all.into_iter()
                .map(|(key, value)| (key, File::new(value, mode))),
        );
        return Ok(());
    };
    for item in items {
        match all.remove(&item.key) {
            Some(value) => {
                files.insert(
                    item.path.clone(),
                    File::new(value, item.mode.unwrap_or(mode)),
                );
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
            File::new(text.into_bytes(), item.mode.unwrap_or(mode)),
        );
    }
    Ok(())
}

/// The user that all containers of a pod run as, if the pod says so: a token is closed to
/// all others.
fn only_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let whole = spec
        .security_context
        .as_ref()
        .and_then(|security| security.run_as_user);
    let mut users = containers(spec).map(|(_, container)| {
        let own = container
            .security_context
            .as_ref()
            .and_then(|security| security.run_as_user);
        own.or(whole)
    });
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then(|| u32::try_from(first).ok())?
}
