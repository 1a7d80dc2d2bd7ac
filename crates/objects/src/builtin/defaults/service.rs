//! Services, their endpoints, and network policies.

use serde_json::{Value, json};

use super::{at, fill, fill_text, items};

pub(super) fn fill_service(service: &mut Value) {
    fill(service, "status", json!({"loadBalancer": {}}));
    let Some(spec) = at(service, "/spec") else {
        return;
    };
    fill_text(spec, "sessionAffinity", "None");
    fill_text(spec, "type", "ClusterIP");
    if spec["sessionAffinity"] == "ClientIP" {
        fill(spec, "sessionAffinityConfig", json!({}));
        if let Some(config) = at(spec, "/sessionAffinityConfig") {
            fill(config, "clientIP", json!({}));
        }
        if let Some(client) = at(spec, "/sessionAffinityConfig/clientIP") {
            fill(client, "timeoutSeconds", 10_800);
        }
    }
    for port in items(spec, "/ports") {
        fill_text(port, "protocol", "TCP");
        if port["targetPort"] == 0 || port["targetPort"] == "" {
            port["targetPort"] = Value::Null;
        }
        let outside = port["port"].clone();
        fill(port, "targetPort", outside);
    }
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    let external_ips = spec["externalIPs"]
        .as_array()
        .is_some_and(|ips| !ips.is_empty());
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && external_ips)
    {
        fill_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
    if kind != "ExternalName" {
        fill_text(spec, "internalTrafficPolicy", "Cluster");
        fill_text(spec, "ipFamilyPolicy", "SingleStack");
        fill(spec, "ipFamilies", json!(["IPv4"]));
    }
}

pub(super) fn fill_endpoints(endpoints: &mut Value) {
    for subset in items(endpoints, "/subsets") {
        for port in items(subset, "/ports") {
            fill_text(port, "protocol", "TCP");
        }
    }
}

pub(super) fn fill_endpoint_slice(slice: &mut Value) {
    for port in items(slice, "/ports") {
        fill(port, "name", "");
        fill_text(port, "protocol", "TCP");
    }
}

pub(super) fn fill_network_policy(policy: &mut Value) {
    let Some(spec) = at(policy, "/spec") else {
        return;
    };
    fill(spec, "podSelector", json!({}));
    for rules in ["/ingress", "/egress"] {
        for rule in items(spec, rules) {
            for port in items(rule, "/ports") {
                fill_text(port, "protocol", "TCP");
            }
        }
    }
    let egress = spec["egress"]
        .as_array()
        .is_some_and(|rules| !rules.is_empty());
    let types = if egress {
        json!(["Ingress", "Egress"])
    } else {
        json!(["Ingress"])
    };
    fill(spec, "policyTypes", types);
}
