//! What a Service gets, and what it keeps when it changes: decided from the Service, what
//! it was, and what others have.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use sandlot_objects::schema::Cause;
use serde_json::{Map, Value, json};

use super::ledger::{Claims, NETWORK_NAME, PORTS, Taken, is_ours, number};
use crate::object::{as_map, at, child_mut, text};

/// Carries over what an update leaves out, and drops what its new type has no use for
/// unless the update says otherwise.
pub(super) fn carry_over(service: &mut Value, old: Option<&Value>) {
    let Some(old) = old else { return };
    let (had_address, had_ports) = (has_address(old), has_ports(old));
    let (gets_address, gets_ports) = (has_address(service), has_ports(service));
    let same = |key: &str, service: &Value| service["spec"].get(key) == old["spec"].get(key);
    if had_address && gets_address && text(service, &["spec", "clusterIP"]).is_empty() {
        for key in ["clusterIP", "clusterIPs"] {
            if let Some(value) = at(old, &["spec", key]) {
                spec(service).insert(key.into(), value.clone());
            }
        }
    }
    let let_go = text(service, &["spec", "clusterIP"]).is_empty() || same("clusterIP", service);
    if had_address && !gets_address && let_go {
        for key in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ] {
            if same(key, service) {
                spec(service).remove(key);
            }
        }
    }
    if had_ports && gets_ports {
        keep_ports(service, old);
    }
    if had_ports && !gets_ports {
        drop_ports(service, old);
        if same("externalTrafficPolicy", service) {
            spec(service).remove("externalTrafficPolicy");
        }
    }
    if text(old, &["spec", "type"]) == "LoadBalancer"
        && text(service, &["spec", "type"]) != "LoadBalancer"
        && same("allocateLoadBalancerNodePorts", service)
    {
        spec(service).remove("allocateLoadBalancerNodePorts");
    }
}

/// Gives a Service what it asks for, or what is free. Returns all that it has then.
pub(super) fn assign(
    service: &mut Value,
    old: Option<&Value>,
    taken: &Taken<'_>,
    seed: u32,
) -> Result<Claims, Vec<Cause>> {
    let mut causes = Vec::new();
    let had = old.map(Claims::of).unwrap_or_default();
    for (index, family) in families(service).enumerate() {
        if family != "IPv4" {
            let field = format!("spec.ipFamilies[{index}]");
            causes.push(Cause::invalid(
                field,
                family,
                "not configured on this cluster",
            ));
        }
    }
    if has_address(service) {
        causes.extend(give_address(service, &had, taken, seed).err());
    }
    if has_ports(service) && wants_ports(service) {
        causes.extend(give_ports(service, &had, taken, seed));
    }
    match causes.is_empty() {
        true => Ok(Claims::of(service)),
        false => Err(causes),
    }
}

fn give_address(
    service: &mut Value,
    had: &Claims,
    taken: &Taken<'_>,
    seed: u32,
) -> Result<(), Cause> {
    let asked = asked_address(service);
    if asked == "None" {
        spec(service).insert("clusterIP".into(), "None".into());
        spec(service).insert("clusterIPs".into(), json!(["None"]));
        return Ok(());
    }
    let refused = |why: String| Err(Cause::invalid("spec.clusterIPs", &json!([asked]), why));
    let address = match asked.parse::<Ipv4Addr>() {
        _ if asked.is_empty() => match taken.free_address(seed) {
            Some(address) => address,
            None => return refused("failed to allocate a serviceIP: range is full".to_owned()),
        },
        // What is no address at all is told by the rules of the kind.
        Err(_) => return Ok(()),
        Ok(address) if had.address == Some(address) => address,
        Ok(address) if !is_ours(address) => {
            return refused(format!(
                "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. The range of valid IPs is {NETWORK_NAME}"
            ));
        }
        Ok(address) if taken.has_address(address) => {
            return refused(format!(
                "failed to allocate IP {address}: provided IP is already allocated"
            ));
        }
        Ok(address) => address,
    };
    spec(service).insert("clusterIP".into(), address.to_string().into());
    spec(service).insert("clusterIPs".into(), json!([address.to_string()]));
    Ok(())
}

/// The address that a Service asks for, under the new name of the field or the old one.
fn asked_address(service: &Value) -> String {
    let one = text(service, &["spec", "clusterIP"]);
    let first = || service["spec"]["clusterIPs"][0].as_str();
    match one {
        "" => first().unwrap_or_default().to_owned(),
        one => one.to_owned(),
    }
}

fn give_ports(service: &mut Value, had: &Claims, taken: &Taken<'_>, seed: u32) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut given = Claims::of(service).ports;
    // Two protocols at one port of the Service share one port of the node.
    let mut shared: HashMap<u64, u16> = HashMap::new();
    for (index, port) in ports_mut(service).iter_mut().enumerate() {
        let inside = port["port"].as_u64().unwrap_or_default();
        let refused = |value: &Value, why: String| {
            Cause::invalid(format!("spec.ports[{index}].nodePort"), value, why)
        };
        let node_port = match number(&port["nodePort"]) {
            Some(asked) => {
                if !had.ports.contains(&asked) && !PORTS.contains(&asked) {
                    let (first, last) = (PORTS.start(), PORTS.end());
                    causes.push(refused(&port["nodePort"], format!(
                        "provided port is not in the valid range. The range of valid ports is {first}-{last}"
                    )));
                } else if taken.has_port(asked) {
                    let why = "provided port is already allocated".to_owned();
                    causes.push(refused(&port["nodePort"], why));
                }
                asked
            }
            None => match shared
                .get(&inside)
                .copied()
                .or_else(|| taken.free_port(&given, seed))
            {
                Some(free) => free,
                None => {
                    let why = "failed to allocate a nodePort: range is full".to_owned();
                    causes.push(refused(&json!(0), why));
                    continue;
                }
            },
        };
        given.insert(node_port);
        shared.entry(inside).or_insert(node_port);
        as_map(port).insert("nodePort".into(), node_port.into());
    }
    causes
}

/// Ports that an update names without a port of the node keep the one that they had.
fn keep_ports(service: &mut Value, old: &Value) {
    let key = |port: &Value| (port["port"].clone(), port["protocol"].clone());
    let before: Vec<_> = ports(old)
        .filter_map(|port| Some((key(port), number(&port["nodePort"])?)))
        .collect();
    let named: HashSet<u16> = ports(service)
        .filter_map(|port| number(&port["nodePort"]))
        .collect();
    for port in ports_mut(service) {
        let had = before.iter().find(|(of, _)| *of == key(port));
        if let (None, Some((_, kept))) = (number(&port["nodePort"]), had)
            && !named.contains(kept)
        {
            as_map(port).insert("nodePort".into(), (*kept).into());
        }
    }
}

/// Ports of nodes that were only carried along are let go of.
fn drop_ports(service: &mut Value, old: &Value) {
    let had = Claims::of(old).ports;
    let carried = ports(service)
        .filter_map(|port| number(&port["nodePort"]))
        .all(|port| had.contains(&port));
    if carried {
        for port in ports_mut(service) {
            as_map(port).remove("nodePort");
        }
    }
}

fn has_address(service: &Value) -> bool {
    text(service, &["spec", "type"]) != "ExternalName"
}

fn has_ports(service: &Value) -> bool {
    matches!(
        text(service, &["spec", "type"]),
        "NodePort" | "LoadBalancer"
    )
}

/// A load balancer may do without ports on nodes.
fn wants_ports(service: &Value) -> bool {
    text(service, &["spec", "type"]) == "NodePort"
        || service["spec"]["allocateLoadBalancerNodePorts"] != false
}

fn families(service: &Value) -> impl Iterator<Item = &Value> {
    let families = at(service, &["spec", "ipFamilies"]).and_then(Value::as_array);
    families.into_iter().flatten()
}

fn spec(service: &mut Value) -> &mut Map<String, Value> {
    child_mut(as_map(service), "spec")
}

fn ports(service: &Value) -> impl Iterator<Item = &Value> {
    let ports = at(service, &["spec", "ports"]).and_then(Value::as_array);
    ports.into_iter().flatten()
}

fn ports_mut(service: &mut Value) -> &mut [Value] {
    match spec(service).get_mut("ports") {
        Some(Value::Array(ports)) => ports,
        _ => &mut [],
    }
}
