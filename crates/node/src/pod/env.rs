//! A container's environment: what its pod writes, takes from elsewhere and refers to.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret};

use super::resources::{bytes, milli};

/// What an environment may refer to, fetched beforehand.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, Option<ConfigMap>>,
    pub(crate) secrets: BTreeMap<String, Option<Secret>>,
    /// Variables that name the cluster's services.
    pub(crate) services: Vec<(String, String)>,
    pub(crate) pod_ip: Option<String>,
    pub(crate) host_ip: Option<String>,
    pub(crate) node_name: String,
    /// What a container without limits may use at most: the machine.
    pub(crate) node_cpu_milli: i128,
    pub(crate) node_memory_bytes: u64,
}

impl Sources {
    fn config(&self, name: &str, key: &str) -> Option<String> {
        let map = self.config_maps.get(name)?.as_ref()?;
        map.data.as_ref()?.get(key).cloned()
    }

    fn secret(&self, name: &str, key: &str) -> Option<String> {
        let secret = self.secrets.get(name)?.as_ref()?;
        Some(String::from_utf8_lossy(&secret.data.as_ref()?.get(key)?.0).into_owned())
    }
}

/// The variables of a container, in order; the error says what is missing.
pub(crate) fn variables(
    pod: &Pod,
    container: &Container,
    image: &[(String, String)],
    sources: &Sources,
) -> Result<Vec<(String, String)>, String> {
    let mut all = Vars::default();
    for (name, value) in sources.services.iter().chain(image) {
        all.set(name, value.clone());
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or("");
        if let Some(wanted) = &from.config_map_ref {
            let name = &wanted.name;
            match sources.config_maps.get(name).and_then(Option::as_ref) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        all.set(&format!("{prefix}{key}"), value.clone());
                    }
                }
                None if wanted.optional == Some(true) => {}
                None => return Err(format!("configmap {name:?} not found")),
            }
        }
        if let Some(wanted) = &from.secret_ref {
            let name = &wanted.name;
            match sources.secrets.get(name).and_then(Option::as_ref) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        all.set(
                            &format!("{prefix}{key}"),
                            String::from_utf8_lossy(&value.0).into_owned(),
                        );
                    }
                }
                None if wanted.optional == Some(true) => {}
                None => return Err(format!("secret {name:?} not found")),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(pod, container, variable, &all, sources)? {
            all.set(&variable.name, value);
        }
    }
    Ok(all.in_order)
}

#[derive(Default)]
struct Vars {
    in_order: Vec<(String, String)>,
    place: BTreeMap<String, usize>,
}

impl Vars {
    fn set(&mut self, name: &str, value: String) {
        match self.place.get(name) {
            Some(place) => self.in_order[*place].1 = value,
            None => {
                self.place.insert(name.to_owned(), self.in_order.len());
                self.in_order.push((name.to_owned(), value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.place
            .get(name)
            .map(|place| self.in_order[*place].1.as_str())
    }
}

fn value(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    before: &Vars,
    sources: &Sources,
) -> Result<Option<String>, String> {
    let Some(from) = &variable.value_from else {
        let text = variable.value.as_deref().unwrap_or("");
        return Ok(Some(expand(text, |name| {
            before.get(name).map(str::to_owned)
        })));
    };
    if let Some(field) = &from.field_ref {
        return pod_field(pod, &field.field_path, sources).map(Some);
    }
    if let Some(resource) = &from.resource_field_ref {
        let divisor = resource
            .divisor
            .as_ref()
            .and_then(milli)
            .filter(|divisor| *divisor > 0);
        return resource_field(container, &resource.resource, divisor, sources).map(Some);
    }
    if let Some(wanted) = &from.config_map_key_ref {
        return match sources.config(&wanted.name, &wanted.key) {
            None if wanted.optional != Some(true) => Err(missing(
                "configmap",
                &wanted.name,
                &wanted.key,
                sources.config_maps.get(&wanted.name),
            )),
            found => Ok(found),
        };
    }
    if let Some(wanted) = &from.secret_key_ref {
        return match sources.secret(&wanted.name, &wanted.key) {
            None if wanted.optional != Some(true) => Err(missing(
                "secret",
                &wanted.name,
                &wanted.key,
                sources.secrets.get(&wanted.name),
            )),
            found => Ok(found),
        };
    }
    Ok(None)
}

fn missing<T>(kind: &str, name: &str, key: &str, found: Option<&Option<T>>) -> String {
    match found {
        Some(Some(_)) => format!("couldn't find key {key} in {kind} {name}"),
        _ => format!("{kind} {name:?} not found"),
    }
}

/// A field of the pod by its path, as environments and downward files name it.
pub(crate) fn pod_field(pod: &Pod, path: &str, sources: &Sources) -> Result<String, String> {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| Ok(value.clone().unwrap_or_default());
    if let Some((field, key)) = path
        .strip_suffix("']")
        .and_then(|path| path.split_once("['"))
    {
        let map = match field {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("the field {path} is not supported")),
        };
        return Ok(map
            .as_ref()
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default());
    }
    match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => Ok(lines(meta.labels.as_ref())),
        "metadata.annotations" => Ok(lines(meta.annotations.as_ref())),
        "spec.nodeName" => Ok(sources.node_name.clone()),
        "spec.serviceAccountName" => Ok(pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_default()),
        "status.podIP" | "status.podIPs" => text(&sources.pod_ip),
        "status.hostIP" | "status.hostIPs" => text(&sources.host_ip),
        _ => Err(format!("the field {path} is not supported")),
    }
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<_> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

/// A resource of a container, divided and rounded up.
pub(crate) fn resource_field(
    container: &Container,
    resource: &str,
    divisor: Option<i128>,
    sources: &Sources,
) -> Result<String, String> {
    let (kind, name) = resource
        .split_once('.')
        .ok_or_else(|| format!("the resource {resource} is not supported"))?;
    let resources = container.resources.as_ref();
    let map = match kind {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return Err(format!("the resource {resource} is not supported")),
    };
    let given = map.and_then(|map| map.get(name));
    let thousandths = match (given, name) {
        (Some(quantity), "cpu") => milli(quantity).unwrap_or(0),
        (Some(quantity), _) => i128::from(bytes(quantity).unwrap_or(0)) * 1000,
        (None, "cpu") if kind == "limits" => sources.node_cpu_milli,
        (None, "memory") if kind == "limits" => i128::from(sources.node_memory_bytes) * 1000,
        (None, _) => 0,
    };
    let divisor = divisor.unwrap_or(1000);
    Ok(((thousandths + divisor - 1) / divisor).to_string())
}

/// Replaces `$(NAME)`; `$$` is a dollar and an unknown name stays as it is.
pub(crate) fn expand(text: &str, known: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match known(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_doubled_dollars_are_not() {
        let known = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expanded) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, known), expanded, "{text}");
        }
    }

    #[test]
    fn later_variables_see_earlier_ones_and_missing_keys_are_named() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "labels": {"app": "x"}},
            "spec": {"containers": [{"name": "c", "env": [
                {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            ]}, {"name": "d", "env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}
        }))
        .unwrap();
        let spec = pod.spec.as_ref().unwrap();
        let sources = Sources {
            node_cpu_milli: 1500,
            ..Sources::default()
        };
        let vars = variables(
            &pod,
            &spec.containers[0],
            &[("A".into(), "image".into())],
            &sources,
        )
        .unwrap();
        let vars: BTreeMap<_, _> = vars.into_iter().collect();
        assert_eq!(
            (
                vars["A"].as_str(),
                vars["B"].as_str(),
                vars["N"].as_str(),
                vars["C"].as_str()
            ),
            ("1", "12", "x", "2")
        );
        let error = variables(&pod, &spec.containers[1], &[], &sources).unwrap_err();
        assert_eq!(error, "secret \"s\" not found");
    }
}
