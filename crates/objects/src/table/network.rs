//! The rows of services, of what stands behind them, and of network policies.

use jiff::Timestamp;
use serde_json::Value;

use super::{created, list, name, or_none, text, text_or_none};

pub(super) const SERVICE: &str = "Name|Type|Cluster-IP|External-IP|Port(s)|Age|Selector+";
pub(super) const SLICE: &str = "Name|AddressType|Ports|Endpoints|Age";

/// How many addresses a column names before it says how many more there are.
const MAX_SHOWN: usize = 3;

pub(super) fn service(service: &Value, now: Timestamp) -> Vec<Value> {
    let cluster_ip = match list(service, "/spec/clusterIPs")
        .first()
        .and_then(Value::as_str)
    {
        Some(first) => first,
        None => text(service, "/spec/clusterIP"),
    };
    let selector = service.pointer("/spec/selector");
    vec![
        name(service).into(),
        text(service, "/spec/type").into(),
        or_none(cluster_ip).into(),
        external_ip(service).into(),
        or_none(&service_ports(service)).into(),
        created(service, now).into(),
        or_none(&selector.map(equalities).unwrap_or_default()).into(),
    ]
}

fn external_ip(service: &Value) -> String {
    let given: Vec<&str> = list(service, "/spec/externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    match text(service, "/spec/type") {
        "LoadBalancer" => {
            let balanced = list(service, "/status/loadBalancer/ingress").iter();
            let balanced = balanced.map(|entry| match text(entry, "/ip") {
                "" => text(entry, "/hostname"),
                ip => ip,
            });
            let all: Vec<&str> = balanced.chain(given).filter(|ip| !ip.is_empty()).collect();
            if all.is_empty() {
                "<pending>".into()
            } else {
                all.join(",")
            }
        }
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        _ => or_none(&given.join(",")).to_owned(),
    }
}

fn service_ports(service: &Value) -> String {
    let ports = list(service, "/spec/ports").iter().map(|port| {
        let number = |field: &str| port.get(field).and_then(Value::as_i64).unwrap_or_default();
        let protocol = protocol(port);
        match number("nodePort") {
            0 => format!("{}/{protocol}", number("port")),
            node_port => format!("{}:{node_port}/{protocol}", number("port")),
        }
    });
    ports.collect::<Vec<_>>().join(",")
}

fn protocol(port: &Value) -> &str {
    match text(port, "/protocol") {
        "" => "TCP",
        protocol => protocol,
    }
}

/// A map of labels as a selector: `a=b,c=d`.
fn equalities(labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    let pairs = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join(",")
}

pub(super) fn endpoints(endpoints: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in list(endpoints, "/subsets") {
        let ports = list(subset, "/ports");
        for address in list(subset, "/addresses") {
            let ip = text(address, "/ip");
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            all.extend(ports.iter().map(|port| {
                let number = port.get("port").and_then(Value::as_i64).unwrap_or_default();
                format!("{ip}:{number}")
            }));
        }
    }
    let shown = if all.is_empty() {
        "<none>".to_owned()
    } else {
        abridged(&all, " + ")
    };
    vec![
        name(endpoints).into(),
        shown.into(),
        created(endpoints, now).into(),
    ]
}

/// The first few, and how many more there are.
fn abridged(all: &[String], plus: &str) -> String {
    match all.len().checked_sub(MAX_SHOWN) {
        None | Some(0) => all.join(","),
        Some(more) => format!("{}{plus}{more} more...", all[..MAX_SHOWN].join(",")),
    }
}

pub(super) fn slice(slice: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(slice, "/ports")
        .iter()
        .map(|port| match port.get("port").and_then(Value::as_i64) {
            Some(number) => number.to_string(),
            None => "*".to_owned(),
        })
        .collect();
    let addresses: Vec<String> = list(slice, "/endpoints")
        .iter()
        .flat_map(|endpoint| list(endpoint, "/addresses"))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let shown = |all: &[String]| match all {
        [] => "<unset>".to_owned(),
        all => abridged(all, " + "),
    };
    vec![
        name(slice).into(),
        text(slice, "/addressType").into(),
        shown(&ports).into(),
        shown(&addresses).into(),
        created(slice, now).into(),
    ]
}

pub(super) fn policy(policy: &Value, now: Timestamp) -> Vec<Value> {
    let selector = crate::selector::LabelSelector::from_object(policy.pointer("/spec/podSelector"));
    let shown = selector
        .map(|selector| selector.to_string())
        .unwrap_or_default();
    vec![
        text_or_none(policy, "/metadata/name").into(),
        or_none(&shown).into(),
        created(policy, now).into(),
    ]
}
