//! Which container a request means.

use serde_json::Value;

use crate::kubelet::ContainerRef;
use crate::object::{at, name, namespace, text};
use crate::status::ApiError;

/// How a pod says which of its containers people usually mean.
const DEFAULT: &[&str] = &[
    "metadata",
    "annotations",
    "kubectl.kubernetes.io/default-container",
];

/// The container of a pod that a request means; `wanted` may be empty.
pub(super) fn container(pod: &Value, wanted: &str) -> Result<ContainerRef, ApiError> {
    if text(pod, &["spec", "nodeName"]).is_empty() {
        let message = format!("pod {} does not have a host assigned", name(pod));
        return Err(ApiError::bad_request(message));
    }
    let all = ["containers", "initContainers", "ephemeralContainers"];
    let (main, other) = (names(pod, all[0]), names(pod, all[1]));
    let container = match (wanted, main.as_slice()) {
        ("", [only]) => (*only).to_owned(),
        ("", _) => match text(pod, DEFAULT) {
            "" => return Err(choose(pod, &main, &other)),
            usual => known(pod, usual)?,
        },
        (wanted, _) => known(pod, wanted)?,
    };
    Ok(ContainerRef {
        namespace: namespace(pod).to_owned(),
        pod: name(pod).to_owned(),
        container,
    })
}

fn known(pod: &Value, wanted: &str) -> Result<String, ApiError> {
    let all = ["containers", "initContainers", "ephemeralContainers"];
    if all
        .into_iter()
        .any(|kind| names(pod, kind).contains(&wanted))
    {
        return Ok(wanted.to_owned());
    }
    let message = format!("container {wanted} is not valid for pod {}", name(pod));
    Err(ApiError::bad_request(message))
}

fn choose(pod: &Value, main: &[&str], init: &[&str]) -> ApiError {
    let mut message = format!(
        "a container name must be specified for pod {}, choose one of: [{}]",
        name(pod),
        main.join(" ")
    );
    if !init.is_empty() {
        message.push_str(&format!(
            " or one of the init containers: [{}]",
            init.join(" ")
        ));
    }
    ApiError::bad_request(message)
}

fn names<'a>(pod: &'a Value, kind: &str) -> Vec<&'a str> {
    let list = at(pod, &["spec", kind]).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .map(|container| text(container, &["name"]))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(containers: &[&str], default: Option<&str>) -> Value {
        let containers: Vec<Value> = containers
            .iter()
            .map(|name| json!({"name": name}))
            .collect();
        json!({
            "metadata": {"namespace": "ns", "name": "web",
                "annotations": default.map(|name| json!({"kubectl.kubernetes.io/default-container": name}))},
            "spec": {"nodeName": "n", "containers": containers, "initContainers": [{"name": "init"}]},
        })
    }

    #[test]
    fn the_container_meant_is_found_or_asked_for() {
        let (one, two) = (pod(&["a"], None), pod(&["a", "b"], None));
        let usual = pod(&["a", "b"], Some("b"));
        let meant = |pod: &Value, wanted: &str| {
            container(pod, wanted)
                .map(|of| of.container)
                .map_err(|error| error.message)
        };
        assert_eq!(meant(&one, ""), Ok("a".into()));
        assert_eq!(meant(&two, "b"), Ok("b".into()));
        assert_eq!(meant(&two, "init"), Ok("init".into()));
        assert_eq!(meant(&usual, ""), Ok("b".into()));
        assert_eq!(meant(&usual, "a"), Ok("a".into()));
        assert_eq!(
            meant(&one, "x"),
            Err("container x is not valid for pod web".into())
        );
        assert_eq!(
            meant(&two, ""),
            Err("a container name must be specified for pod web, choose one of: [a b] or one of the init containers: [init]".into())
        );
    }

    #[test]
    fn a_pod_without_a_node_has_no_containers_yet() {
        let mut waiting = pod(&["a"], None);
        waiting["spec"]["nodeName"] = json!(null);
        let error = container(&waiting, "").unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (400, "pod web does not have a host assigned")
        );
    }
}
