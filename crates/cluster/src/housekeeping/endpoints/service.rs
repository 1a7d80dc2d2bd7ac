//! What matters of a service to its endpoints.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::backend::{Backend, protocol};
use crate::object::{at, text};
use crate::record::Facts;

/// Marks the endpoints of services that have no address of their own.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// A service that selects pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) selector: BTreeMap<String, String>,
    ports: Vec<ServicePort>,
    labels: Map<String, Value>,
    headless: bool,
    /// Pods count as soon as they have an address, ready or not.
    pub(super) impatient: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ServicePort {
    name: String,
    protocol: String,
    application: Option<String>,
    target: Reach,
}

/// Where in a pod a service's port leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reach {
    Number(u16),
    Name(String),
}

/// A port of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    name: String,
    protocol: String,
    number: u16,
    application: Option<String>,
}

impl Service {
    /// A service, if it is one that selects pods.
    pub(super) fn of(service: &Value) -> Option<Service> {
        let selector = at(service, &["spec", "selector"])?.as_object()?;
        if selector.is_empty() || text(service, &["spec", "type"]) == "ExternalName" {
            return None;
        }
        let selector = selector
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
        let ports = at(service, &["spec", "ports"]).and_then(Value::as_array);
        let labels = at(service, &["metadata", "labels"]).and_then(Value::as_object);
        let impatient = at(service, &["spec", "publishNotReadyAddresses"]);
        Some(Service {
            selector: selector.collect(),
            ports: ports
                .into_iter()
                .flatten()
                .filter_map(service_port)
                .collect(),
            labels: labels.cloned().unwrap_or_default(),
            headless: text(service, &["spec", "clusterIP"]) == "None",
            impatient: impatient.and_then(Value::as_bool).unwrap_or(false),
        })
    }

    /// Whether a pod is one of its own.
    pub(super) fn selects(&self, pod: &Facts) -> bool {
        let mut wanted = self.selector.iter();
        wanted.all(|(key, value)| pod.label(key) == Some(value))
    }

    /// The ports at which a pod is reached. `None` when the service has ports and the pod has
    /// none of them.
    pub(super) fn ports_of(&self, backend: &Backend) -> Option<Vec<Port>> {
        let ports: Vec<Port> = self
            .ports
            .iter()
            .filter_map(|port| {
                let number = match &port.target {
                    Reach::Number(number) => *number,
                    Reach::Name(name) => backend.port(name, &port.protocol)?,
                };
                Some(Port {
                    name: port.name.clone(),
                    protocol: port.protocol.clone(),
                    number,
                    application: port.application.clone(),
                })
            })
            .collect();
        (!ports.is_empty() || self.ports.is_empty()).then_some(ports)
    }

    /// The labels that its endpoints have as well.
    pub(super) fn labels(&self) -> Map<String, Value> {
        let mut labels = self.labels.clone();
        match self.headless {
            true => labels.insert(HEADLESS.into(), "".into()),
            false => labels.remove(HEADLESS),
        };
        labels
    }
}

fn service_port(port: &Value) -> Option<ServicePort> {
    let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
    let target = match port.get("targetPort") {
        Some(Value::String(name)) => Reach::Name(name.clone()),
        Some(target) if number(target).is_some_and(|number| number > 0) => {
            Reach::Number(number(target)?)
        }
        _ => Reach::Number(number(port.get("port")?)?),
    };
    let application = port.get("appProtocol").and_then(Value::as_str);
    Some(ServicePort {
        name: text(port, &["name"]).to_owned(),
        protocol: protocol(port),
        application: application.map(str::to_owned),
        target,
    })
}

impl Port {
    /// The port as it stands in Endpoints, where a nameless port has no name at all.
    pub(super) fn in_endpoints(&self) -> Value {
        let mut port = self.in_slice();
        if let (Value::Object(port), true) = (&mut port, self.name.is_empty()) {
            port.remove("name");
        }
        port
    }

    /// The port as it stands in an EndpointSlice.
    pub(super) fn in_slice(&self) -> Value {
        let mut port = json!({
            "name": self.name, "port": self.number, "protocol": self.protocol,
        });
        if let Some(application) = &self.application {
            port["appProtocol"] = application.as_str().into();
        }
        port
    }
}
