//! Which program runs a pod's containers. Here it is always the node's own keeper; a pod
//! that asks for another one is told so rather than run with less than it asked for.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::{Api, Client};

/// The handler that means the node's own keeper.
const OWN: &str = "sandlot";

/// Finds the runtime that a pod asks for; the error says why it cannot be had.
pub(crate) async fn find(client: &Client, pod: &Pod) -> Result<(), String> {
    let asked = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.runtime_class_name.as_deref())
        .filter(|name| !name.is_empty());
    let Some(name) = asked else { return Ok(()) };
    let classes: Api<RuntimeClass> = Api::all(client.clone());
    let class = classes
        .get_opt(name)
        .await
        .map_err(|error| format!("cannot read the RuntimeClass {name:?}: {error}"))?;
    judge(name, class.map(|class| class.handler).as_deref())
}

fn judge(class: &str, handler: Option<&str>) -> Result<(), String> {
    match handler {
        Some(OWN) => Ok(()),
        None => Err(format!("RuntimeClass {class:?} not found")),
        Some(handler) => Err(format!(
            "RuntimeClass {class:?} asks for the runtime {handler:?}, which this node does not \
             have: it runs containers itself, under the handler {OWN:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_is_not_here_is_named() {
        assert_eq!(judge("usual", Some("sandlot")), Ok(()));
        let unknown = judge("quick", None).unwrap_err();
        assert_eq!(unknown, "RuntimeClass \"quick\" not found");
        let elsewhere = judge("safe", Some("runsc")).unwrap_err();
        assert!(elsewhere.contains("runsc") && elsewhere.contains("safe"));
    }
}
