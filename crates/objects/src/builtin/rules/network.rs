//! Endpoints and network policies.

use std::net::IpAddr;

use serde_json::Value;

use super::{Checks, list, service::PROTOCOLS, text};
use crate::schema::{Cause, Path, matches_format};

pub(super) fn check_endpoints(checks: &mut Checks, endpoints: &Value) {
    for (index, subset) in list(endpoints, "subsets").iter().enumerate() {
        let at = Path::of("subsets").index(index);
        if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
            checks.required(
                at.clone(),
                "must specify `addresses` or `notReadyAddresses`",
            );
        }
        for key in ["addresses", "notReadyAddresses"] {
            for (index, address) in list(subset, key).iter().enumerate() {
                check_address(
                    checks,
                    at.field(key).index(index).field("ip"),
                    &address["ip"],
                );
            }
        }
        let ports = list(subset, "ports");
        for (index, port) in ports.iter().enumerate() {
            let at = at.field("ports").index(index);
            if ports.len() > 1 && text(port, "name").is_none() {
                checks.required(at.field("name"), "");
            }
            checks.port(at.field("port"), &port["port"]);
            checks.one_of(&at, port, "protocol", PROTOCOLS);
        }
    }
}

/// An address that a packet can be sent to. This machine's own are good too: a cluster may
/// be no larger.
fn check_address(checks: &mut Checks, path: Path, value: &Value) {
    let Some(ip) = value.as_str().and_then(|ip| ip.parse::<IpAddr>().ok()) else {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        return checks.invalid(path, value, detail);
    };
    if ip.is_unspecified() {
        checks.invalid(path, value, "may not be unspecified (0.0.0.0 or ::)");
    } else if ip.is_multicast() {
        checks.invalid(path, value, "may not be in the multicast range");
    }
}

pub(super) fn check_policy(checks: &mut Checks, policy: &Value) {
    let (path, spec) = (Path::of("spec"), &policy["spec"]);
    let types = list(spec, "policyTypes");
    for (index, one) in types.iter().enumerate() {
        if !matches!(one.as_str(), Some("Ingress" | "Egress")) {
            let at = path.field("policyTypes").index(index);
            checks.add(Cause::not_supported(at, one, &["Egress", "Ingress"]));
        }
    }
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in list(spec, rules).iter().enumerate() {
            let at = path.field(rules).index(index);
            for (index, port) in list(rule, "ports").iter().enumerate() {
                let at = at.field("ports").index(index);
                checks.one_of(&at, port, "protocol", PROTOCOLS);
                if !port["port"].is_null() {
                    checks.port_or_name(at.field("port"), &port["port"]);
                }
            }
            for (index, peer) in list(rule, peers).iter().enumerate() {
                check_peer(checks, &at.field(peers).index(index), peer);
            }
        }
    }
}

/// A peer is a block of addresses, or pods and namespaces by their labels.
fn check_peer(checks: &mut Checks, path: &Path, peer: &Value) {
    let selects = peer["podSelector"].is_object() || peer["namespaceSelector"].is_object();
    let block = &peer["ipBlock"];
    match (selects, block.is_object()) {
        (false, false) => checks.required(path.clone(), "must specify a peer"),
        (true, true) => {
            checks.forbidden(
                path.clone(),
                "may not specify both ipBlock and another peer",
            );
        }
        (true, false) => {}
        (false, true) => {
            let at = path.field("ipBlock").field("cidr");
            match text(block, "cidr") {
                None => checks.required(at, ""),
                Some(cidr) if !matches_format("cidr", cidr) => {
                    let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                    checks.invalid(at, &block["cidr"], detail);
                }
                Some(_) => {}
            }
        }
    }
}

pub(super) fn check_endpoint_slice(checks: &mut Checks, slice: &Value, old: Option<&Value>) {
    let root = Path::root();
    checks.one_of(&root, slice, "addressType", &["FQDN", "IPv4", "IPv6"]);
    if let Some(old) = old {
        checks.same(
            Path::of("addressType"),
            &slice["addressType"],
            &old["addressType"],
        );
    }
    let endpoints = list(slice, "endpoints");
    if endpoints.len() > 1000 {
        checks.add(Cause::too_many("endpoints", endpoints.len(), 1000));
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let at = Path::of("endpoints").index(index).field("addresses");
        let addresses = list(endpoint, "addresses");
        if addresses.is_empty() {
            checks.required(at.clone(), "must contain at least 1 address");
        }
        for (index, address) in addresses.iter().enumerate() {
            let parsed = address
                .as_str()
                .and_then(|address| address.parse::<IpAddr>().ok());
            let fits = match slice["addressType"].as_str() {
                Some("IPv4") => parsed.is_some_and(|ip| ip.is_ipv4()),
                Some("IPv6") => parsed.is_some_and(|ip| ip.is_ipv6()),
                _ => true,
            };
            if !fits {
                let detail = format!(
                    "must be an {} address",
                    slice["addressType"].as_str().unwrap_or_default()
                );
                checks.invalid(at.index(index), address, detail);
            }
        }
    }
    for (index, port) in list(slice, "ports").iter().enumerate() {
        checks.one_of(&Path::of("ports").index(index), port, "protocol", PROTOCOLS);
    }
}
