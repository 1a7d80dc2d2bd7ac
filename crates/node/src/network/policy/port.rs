//! The ports of a policy's rule.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicyPort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Resident;
use crate::network::firewall::{Protocol, Test};

/// What packets to the port are known by. A port with a name may be another one in each of
/// the `targets`: then the pods for which the tests hold come along.
pub(super) fn tests<'a>(
    port: &NetworkPolicyPort,
    targets: &[&'a Resident],
) -> Vec<(Option<Vec<&'a Resident>>, Vec<Test>)> {
    let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else {
        return Vec::new();
    };
    let of = |first: u16, last: u16| {
        vec![
            Test::Protocol(protocol),
            Test::DestinationPort(first..=last),
        ]
    };
    match &port.port {
        None => vec![(None, vec![Test::Protocol(protocol)])],
        Some(IntOrString::Int(number)) => {
            let last = port.end_port.unwrap_or(*number);
            match (u16::try_from(*number), u16::try_from(last)) {
                (Ok(first), Ok(last)) if first <= last => vec![(None, of(first, last))],
                _ => Vec::new(),
            }
        }
        Some(IntOrString::String(name)) => {
            let mut by_number: BTreeMap<u16, Vec<&Resident>> = BTreeMap::new();
            for target in targets {
                if let Some((_, number)) = target
                    .ports
                    .get(name)
                    .filter(|(spoken, _)| *spoken == protocol)
                {
                    by_number.entry(*number).or_default().push(target);
                }
            }
            by_number
                .into_iter()
                .map(|(number, pods)| (Some(pods), of(number, number)))
                .collect()
        }
    }
}
