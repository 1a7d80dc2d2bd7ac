//! What names mean in the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::network::services::{Named, cluster_ip, ready_addresses};

/// The domain below which everything of the cluster is.
pub(crate) const DOMAIN: &str = "cluster.local";

/// Every name that the cluster knows, without its domain, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Zone {
    names: BTreeMap<String, Meaning>,
    /// The name of each address of a service or of an endpoint with a name.
    addresses: BTreeMap<Ipv4Addr, String>,
    namespaces: BTreeSet<String>,
}

/// What a name stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) addresses: BTreeSet<Ipv4Addr>,
    /// Ports, with the names of who serves them.
    pub(crate) ports: BTreeSet<(u16, String)>,
    /// Another name that means the same.
    pub(crate) alias: Option<String>,
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known<'a> {
    /// What it means.
    Meaning(&'a Meaning),
    /// The address is in the name itself.
    Address(Ipv4Addr),
    /// Others lie below it, but it has no meaning itself.
    Between,
    /// There is no such name here.
    Nothing,
}

impl Zone {
    /// The names of services and of who serves them.
    pub(crate) fn new<'a>(
        services: impl IntoIterator<Item = &'a Service>,
        slices: &BTreeMap<Named, Vec<&EndpointSlice>>,
    ) -> Zone {
        let mut zone = Zone::default();
        for service in services {
            let (Some(namespace), Some(name)) =
                (&service.metadata.namespace, &service.metadata.name)
            else {
                continue;
            };
            let key = (namespace.clone(), name.clone());
            let slices = slices.get(&key).map(Vec::as_slice).unwrap_or_default();
            zone.namespaces.insert(namespace.to_lowercase());
            zone.add(&format!("{name}.{namespace}.svc"), service, slices);
        }
        zone
    }

    fn add(&mut self, base: &str, service: &Service, slices: &[&EndpointSlice]) {
        let Some(spec) = &service.spec else { return };
        if spec.type_.as_deref() == Some("ExternalName") {
            let alias = spec
                .external_name
                .as_ref()
                .map(|name| name.trim_end_matches('.').to_lowercase());
            self.at(base).alias = alias;
            return;
        }
        if let Some(ip) = cluster_ip(service) {
            self.at(base).addresses.insert(ip);
            self.addresses.insert(ip, base.to_lowercase());
            for port in spec.ports.iter().flatten() {
                if let (Some(name), Ok(number)) = (&port.name, u16::try_from(port.port)) {
                    let at = port_name(name, port.protocol.as_deref(), base);
                    self.at(&at).ports.insert((number, base.to_lowercase()));
                }
            }
            return;
        }
        // Without an address of its own a service means all who serve it.
        self.at(base);
        for slice in slices {
            for endpoint in &slice.endpoints {
                for ip in ready_addresses(endpoint) {
                    let host = endpoint.hostname.clone().unwrap_or_else(|| dashed(ip));
                    let own = format!("{host}.{base}").to_lowercase();
                    self.at(base).addresses.insert(ip);
                    self.at(&own).addresses.insert(ip);
                    if endpoint.hostname.is_some() {
                        self.addresses.insert(ip, own.clone());
                    }
                    for port in slice.ports.iter().flatten() {
                        if let (Some(name), Some(Ok(number))) =
                            (&port.name, port.port.map(u16::try_from))
                            && !name.is_empty()
                        {
                            let at = port_name(name, port.protocol.as_deref(), base);
                            self.at(&at).ports.insert((number, own.clone()));
                        }
                    }
                }
            }
        }
    }

    fn at(&mut self, name: &str) -> &mut Meaning {
        self.names.entry(name.to_lowercase()).or_default()
    }

    /// What a name below the domain means; `pods` says which addresses are pods'.
    pub(crate) fn find(&self, name: &str, pods: impl Fn(Ipv4Addr) -> bool) -> Known<'_> {
        let name = name.to_lowercase();
        if let Some(meaning) = self.names.get(&name) {
            return Known::Meaning(meaning);
        }
        let address = pod_address(&name).map(crate::network::doors::inside);
        if let Some(ip) = address.filter(|ip| pods(*ip)) {
            return Known::Address(ip);
        }
        let parts: Vec<&str> = name.split('.').collect();
        let between = match parts.as_slice() {
            [""] | ["svc" | "pod"] => true,
            [namespace, "svc" | "pod"] => self.namespaces.contains(*namespace),
            _ => {
                let below = format!(".{name}");
                self.names.keys().any(|known| known.ends_with(&below))
            }
        };
        if between {
            Known::Between
        } else {
            Known::Nothing
        }
    }

    /// The name of an address.
    pub(crate) fn name_of(&self, ip: Ipv4Addr) -> Option<&str> {
        self.addresses.get(&ip).map(String::as_str)
    }
}

fn port_name(name: &str, protocol: Option<&str>, base: &str) -> String {
    let protocol = protocol.unwrap_or("TCP").to_lowercase();
    format!("_{name}._{protocol}.{base}")
}

fn dashed(ip: Ipv4Addr) -> String {
    ip.to_string().replace('.', "-")
}

/// `10-64-0-2.default.pod` says itself what it means.
fn pod_address(name: &str) -> Option<Ipv4Addr> {
    let (first, rest) = name.split_once('.')?;
    let (namespace, kind) = rest.split_once('.')?;
    (kind == "pod" && !namespace.is_empty())
        .then(|| first.replace('-', ".").parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::services::{SERVICE_NAME, by_service};
    use serde_json::{Value, json};

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"namespace": "a", "name": "db"}, "spec": spec}))
            .unwrap()
    }

    fn slice() -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"namespace": "a", "name": "db-1", "labels": {(SERVICE_NAME): "db"}},
            "addressType": "IPv4", "ports": [{"name": "sql", "port": 5432}],
            "endpoints": [{"addresses": ["10.64.0.2"], "hostname": "First"}, {"addresses": ["10.64.0.3"]},
                {"addresses": ["10.64.0.4"], "conditions": {"ready": false}}],
        }))
        .unwrap()
    }

    fn addresses(zone: &Zone, name: &str) -> Vec<String> {
        match zone.find(name, |_| true) {
            Known::Meaning(meaning) => meaning.addresses.iter().map(ToString::to_string).collect(),
            Known::Address(ip) => vec![ip.to_string()],
            other => vec![format!("{other:?}")],
        }
    }

    #[test]
    fn a_service_with_an_address_means_that_address() {
        let db =
            service(json!({"clusterIP": "10.96.0.7", "ports": [{"name": "sql", "port": 5432}]}));
        let zone = Zone::new([&db], &by_service([&slice()]));
        assert_eq!(addresses(&zone, "DB.a.svc"), ["10.96.0.7"]);
        assert_eq!(addresses(&zone, "first.db.a.svc"), ["Nothing"]);
        assert_eq!(addresses(&zone, "a.svc"), ["Between"]);
        assert_eq!(addresses(&zone, "b.svc"), ["Nothing"]);
        assert_eq!(zone.name_of(Ipv4Addr::new(10, 96, 0, 7)), Some("db.a.svc"));
    }

    #[test]
    fn a_headless_service_means_its_ready_endpoints_and_each_by_its_own_name() {
        let db = service(json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}));
        let zone = Zone::new([&db], &by_service([&slice()]));
        assert_eq!(addresses(&zone, "db.a.svc"), ["10.64.0.2", "10.64.0.3"]);
        assert_eq!(addresses(&zone, "first.db.a.svc"), ["10.64.0.2"]);
        assert_eq!(addresses(&zone, "10-64-0-3.db.a.svc"), ["10.64.0.3"]);
        let Known::Meaning(ports) = zone.find("_sql._tcp.db.a.svc", |_| true) else {
            panic!("the port has no name");
        };
        assert_eq!(ports.ports.len(), 2);
        assert_eq!(addresses(&zone, "_tcp.db.a.svc"), ["Between"]);
    }

    #[test]
    fn a_pod_s_address_is_in_its_name_and_only_pods_have_such_names() {
        let zone = Zone::default();
        assert_eq!(addresses(&zone, "10-64-0-9.any.pod"), ["10.64.0.9"]);
        assert_eq!(zone.find("1-1-1-1.any.pod", |_| false), Known::Nothing);
    }

    #[test]
    fn an_external_name_is_an_alias() {
        let out = service(json!({"type": "ExternalName", "externalName": "Example.com."}));
        let zone = Zone::new([&out], &BTreeMap::new());
        let Known::Meaning(meaning) = zone.find("db.a.svc", |_| true) else {
            panic!("it has no meaning");
        };
        assert_eq!(meaning.alias.as_deref(), Some("example.com"));
    }
}
