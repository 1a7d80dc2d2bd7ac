//! Services: which address and port stands for which pods.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::firewall::Protocol;

/// More endpoints of one port than this are not chosen from.
const MOST_ENDPOINTS: usize = 256;
/// The label by which a slice names its service.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A port of a service and whoever answers there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) ip: Ipv4Addr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) to: Vec<SocketAddrV4>,
    /// A client always comes to the same endpoint.
    pub(crate) by_client: bool,
    /// The port of this machine that leads there too.
    pub(crate) node_port: Option<u16>,
}

/// Namespace and name.
pub(crate) type Named = (String, String);

/// The slices of each service.
pub(crate) fn by_service<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> BTreeMap<Named, Vec<&'a EndpointSlice>> {
    let mut found: BTreeMap<Named, Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let Some(service) = slice
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_NAME))
        else {
            continue;
        };
        let namespace = slice.metadata.namespace.clone().unwrap_or_default();
        found
            .entry((namespace, service.clone()))
            .or_default()
            .push(slice);
    }
    found
}

/// The address of a service, unless it has none of its own.
pub(crate) fn cluster_ip(service: &Service) -> Option<Ipv4Addr> {
    service.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok()
}

/// The addresses of an endpoint that takes new connections.
pub(crate) fn ready_addresses(endpoint: &Endpoint) -> impl Iterator<Item = Ipv4Addr> {
    let ready = endpoint
        .conditions
        .as_ref()
        .is_none_or(|conditions| conditions.ready != Some(false));
    endpoint
        .addresses
        .iter()
        .filter(move |_| ready)
        .filter_map(|address| address.parse().ok())
        // Without root the API knows pods by the addresses that this machine has for them.
        .map(super::doors::inside)
}

/// Every port of every service that has an address.
pub(crate) fn forwards<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: &BTreeMap<Named, Vec<&EndpointSlice>>,
) -> Vec<Forward> {
    let mut all = Vec::new();
    for service in services {
        let (Some(ip), Some(spec)) = (cluster_ip(service), &service.spec) else {
            continue;
        };
        let named = (
            service.metadata.namespace.clone().unwrap_or_default(),
            service.metadata.name.clone().unwrap_or_default(),
        );
        let slices = slices.get(&named).map(Vec::as_slice).unwrap_or_default();
        for port in spec.ports.iter().flatten() {
            let (Some(protocol), Ok(number)) = (
                Protocol::parse(port.protocol.as_deref()),
                u16::try_from(port.port),
            ) else {
                continue;
            };
            let name = port.name.as_deref().unwrap_or_default();
            all.push(Forward {
                ip,
                protocol,
                port: number,
                to: endpoints(slices, name, protocol),
                by_client: spec.session_affinity.as_deref() == Some("ClientIP"),
                node_port: port
                    .node_port
                    .and_then(|port| u16::try_from(port).ok())
                    .filter(|port| *port > 0),
            });
        }
    }
    all.sort_by_key(|forward| (forward.ip, forward.protocol, forward.port));
    all
}

/// A port of this machine.
pub(crate) type NodePort = (Protocol, u16);

/// The ports of this machine that lead to endpoints. All clients are this machine: with
/// affinity they have one endpoint.
pub(crate) fn node_ports(forwards: &[Forward]) -> BTreeMap<NodePort, Vec<SocketAddrV4>> {
    let led = forwards.iter().filter_map(|forward| {
        let mut to = forward.to.clone();
        to.truncate(if forward.by_client { 1 } else { usize::MAX });
        Some(((forward.protocol, forward.node_port?), to))
    });
    led.collect()
}

/// The service that a port of this machine was given to.
pub(crate) fn behind<'a>(
    (protocol, port): NodePort,
    services: impl IntoIterator<Item = &'a Service>,
) -> Option<&'a Service> {
    let has_it = |service: &&Service| {
        let ports = service.spec.iter().flat_map(|spec| &spec.ports);
        ports.flatten().any(|one| {
            one.node_port == Some(port.into())
                && Protocol::parse(one.protocol.as_deref()) == Some(protocol)
        })
    };
    services.into_iter().find(has_it)
}

fn endpoints(slices: &[&EndpointSlice], name: &str, protocol: Protocol) -> Vec<SocketAddrV4> {
    let mut found: Vec<SocketAddrV4> = Vec::new();
    for slice in slices {
        let ports = slice.ports.iter().flatten().filter(|port| {
            port.name.as_deref().unwrap_or_default() == name
                && Protocol::parse(port.protocol.as_deref()) == Some(protocol)
        });
        for port in ports.filter_map(|port| u16::try_from(port.port?).ok()) {
            let addresses = slice.endpoints.iter().flat_map(ready_addresses);
            found.extend(addresses.map(|ip| SocketAddrV4::new(ip, port)));
        }
    }
    // The same pod may be in two slices for a moment.
    found.sort();
    found.dedup();
    found.truncate(MOST_ENDPOINTS);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_leads_to_the_ready_endpoints_of_the_port_with_its_name() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"namespace": "a", "name": "web"},
            "spec": {"clusterIP": "10.96.1.2", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }))
        .unwrap();
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"namespace": "a", "name": "web-1", "labels": {(SERVICE_NAME): "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}, {"name": "other", "port": 1}],
            "endpoints": [
                {"addresses": ["10.64.0.2"], "conditions": {"ready": true}},
                {"addresses": ["10.64.0.3"], "conditions": {"ready": false}},
                {"addresses": ["10.64.0.4"]},
            ],
        }))
        .unwrap();
        let found = forwards([&service], &by_service([&slice]));
        let to: Vec<String> = found[0].to.iter().map(ToString::to_string).collect();
        assert_eq!(to, ["10.64.0.2:8080", "10.64.0.4:8080"]);
        assert_eq!((found[0].port, found.len()), (80, 1));
    }

    #[test]
    fn node_ports_lead_to_endpoints_each_by_its_protocol() {
        let to = |last| SocketAddrV4::new(Ipv4Addr::new(10, 64, 0, last), 80);
        let forward = |protocol, node_port, by_client| Forward {
            ip: Ipv4Addr::new(10, 96, 0, 9),
            protocol,
            port: 80,
            to: vec![to(2), to(3)],
            by_client,
            node_port,
        };
        let found = node_ports(&[
            forward(Protocol::Tcp, Some(30_001), false),
            forward(Protocol::Tcp, Some(30_002), true),
            forward(Protocol::Udp, Some(30_001), true),
            forward(Protocol::Tcp, None, false),
        ]);
        let wanted = [
            ((Protocol::Tcp, 30_001), vec![to(2), to(3)]),
            ((Protocol::Tcp, 30_002), vec![to(2)]),
            ((Protocol::Udp, 30_001), vec![to(2)]),
        ];
        assert_eq!(found, BTreeMap::from(wanted));
    }

    #[test]
    fn headless_services_have_nothing_to_forward() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "db"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]},
        }))
        .unwrap();
        assert_eq!(forwards([&service], &BTreeMap::new()), []);
    }
}
