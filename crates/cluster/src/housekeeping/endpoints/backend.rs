//! What matters of a pod to the services that select it.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::object::{at, is_deleting, name, namespace, text, uid};

/// A pod as a service sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// Its address; without one it is no backend yet.
    pub(super) address: Option<IpAddr>,
    node: String,
    hostname: String,
    subdomain: String,
    pub(super) ready: bool,
    pub(super) terminating: bool,
    /// It has succeeded or failed and will not come back.
    pub(super) ended: bool,
    ports: Vec<NamedPort>,
}

/// A port that a container has given a name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedPort {
    name: String,
    protocol: String,
    number: u16,
}

impl Backend {
    pub(super) fn of(pod: &Value) -> Backend {
        let list = |path: &[&str]| {
            let list = at(pod, path).and_then(Value::as_array);
            list.cloned().unwrap_or_default()
        };
        let ready = list(&["status", "conditions"])
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let containers = [
            list(&["spec", "containers"]),
            list(&["spec", "initContainers"]),
        ];
        Backend {
            namespace: namespace(pod).to_owned(),
            name: name(pod).to_owned(),
            uid: uid(pod).to_owned(),
            address: text(pod, &["status", "podIP"]).parse().ok(),
            node: text(pod, &["spec", "nodeName"]).to_owned(),
            hostname: text(pod, &["spec", "hostname"]).to_owned(),
            subdomain: text(pod, &["spec", "subdomain"]).to_owned(),
            ready,
            terminating: is_deleting(pod),
            ended: matches!(text(pod, &["status", "phase"]), "Failed" | "Succeeded"),
            ports: containers.iter().flatten().flat_map(named_ports).collect(),
        }
    }

    /// The number of a port that a container has named.
    pub(super) fn port(&self, name: &str, protocol: &str) -> Option<u16> {
        let mut ports = self.ports.iter();
        let found = ports.find(|port| port.name == name && port.protocol == protocol)?;
        Some(found.number)
    }

    /// How Endpoints and EndpointSlices point to the pod.
    pub(super) fn reference(&self) -> Value {
        json!({
            "kind": "Pod", "namespace": self.namespace, "name": self.name, "uid": self.uid,
        })
    }

    /// Adds where the pod runs, and its name in DNS if it has one under this service.
    pub(super) fn locate(&self, endpoint: &mut Value, service: &str) {
        if !self.node.is_empty() {
            endpoint["nodeName"] = self.node.as_str().into();
        }
        if !self.hostname.is_empty() && self.subdomain == service {
            endpoint["hostname"] = self.hostname.as_str().into();
        }
    }
}

fn named_ports(container: &Value) -> Vec<NamedPort> {
    let ports = at(container, &["ports"]).and_then(Value::as_array);
    let named = ports.into_iter().flatten().filter_map(|port| {
        let number = port.get("containerPort")?.as_u64()?;
        Some(NamedPort {
            name: port.get("name")?.as_str()?.to_owned(),
            protocol: protocol(port),
            number: u16::try_from(number).ok()?,
        })
    });
    named.collect()
}

/// The protocol of a port; TCP unless it says otherwise.
pub(super) fn protocol(port: &Value) -> String {
    match text(port, &["protocol"]) {
        "" => "TCP".to_owned(),
        protocol => protocol.to_owned(),
    }
}
