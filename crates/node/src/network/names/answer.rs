//! From a question to an answer, or to the knowledge that others must be asked.

use std::net::Ipv4Addr;
use std::str::FromStr as _;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::zone::{DOMAIN, Known, Meaning, Zone};
use crate::network::firewall::Net;
use crate::network::rules::{ALL_PODS, SERVICES};

/// Services move; nobody should remember them for long.
const SECONDS_TO_LIVE: u32 = 5;

/// What is to be done about a message.
#[derive(Debug)]
pub(super) enum Answer {
    /// This is said.
    Say(Box<Message>),
    /// Somebody else knows.
    AskOthers,
    /// It is no question; nothing is said.
    Silence,
}

/// Judges a message.
pub(super) fn answer(asked: &Message, zone: &Zone, pods: Net) -> Answer {
    if asked.metadata.message_type != MessageType::Query {
        return Answer::Silence;
    }
    let [question] = asked.queries.as_slice() else {
        return say(asked, ResponseCode::FormErr);
    };
    if asked.metadata.op_code != OpCode::Query {
        return say(asked, ResponseCode::NotImp);
    }
    let full = question.name().to_ascii().to_lowercase();
    let full = full.trim_end_matches('.');
    if let Some(ip) = reversed(full) {
        if !(ALL_PODS.holds(ip) || SERVICES.holds(ip)) {
            return Answer::AskOthers;
        }
        return match zone.name_of(ip) {
            Some(name) => pointer(asked, question, name),
            None => say(asked, ResponseCode::NXDomain),
        };
    }
    let Some(inside) = full
        .strip_suffix(DOMAIN)
        .map(|rest| rest.strip_suffix('.').unwrap_or(rest))
        .filter(|rest| rest.len() + DOMAIN.len() < full.len() || rest.is_empty())
    else {
        return Answer::AskOthers;
    };
    match zone.find(inside, |ip| pods.holds(ip)) {
        Known::Nothing => say(asked, ResponseCode::NXDomain),
        Known::Between => say(asked, ResponseCode::NoError),
        Known::Address(ip) => records(asked, address(question, ip)),
        Known::Meaning(meaning) => records(asked, meant(question, meaning)),
    }
}

/// A refusal, or an answer without a record.
pub(super) fn plain(asked: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
    answer.metadata.recursion_desired = asked.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.add_queries(asked.queries.iter().take(1).cloned());
    answer
}

fn say(asked: &Message, code: ResponseCode) -> Answer {
    let mut answer = plain(asked, code);
    if matches!(code, ResponseCode::NXDomain | ResponseCode::NoError) {
        answer.metadata.authoritative = true;
        // Without it nobody remembers for how long there is nothing.
        answer.authorities.extend(authority());
    }
    Answer::Say(Box::new(answer))
}

fn authority() -> Option<Record> {
    let own = Name::from_ascii(format!("{DOMAIN}.")).ok()?;
    let primary = Name::from_ascii(format!("ns.dns.{DOMAIN}.")).ok()?;
    let contact = Name::from_ascii(format!("hostmaster.{DOMAIN}.")).ok()?;
    let ttl = SECONDS_TO_LIVE;
    let data = SOA::new(primary, contact, 1, 7200, 1800, 86400, ttl);
    Some(Record::from_rdata(own, ttl, RData::SOA(data)))
}

fn records(asked: &Message, found: Vec<RData>) -> Answer {
    let Some(question) = asked.queries.first().filter(|_| !found.is_empty()) else {
        return say(asked, ResponseCode::NoError);
    };
    let mut answer = plain(asked, ResponseCode::NoError);
    answer.metadata.authoritative = true;
    for data in found {
        answer.add_answer(Record::from_rdata(
            question.name().clone(),
            SECONDS_TO_LIVE,
            data,
        ));
    }
    Answer::Say(Box::new(answer))
}

fn wants(question: &Query, kind: RecordType) -> bool {
    [kind, RecordType::ANY].contains(&question.query_type())
}

fn address(question: &Query, ip: Ipv4Addr) -> Vec<RData> {
    let wanted = wants(question, RecordType::A);
    wanted.then_some(RData::A(A(ip))).into_iter().collect()
}

fn meant(question: &Query, meaning: &Meaning) -> Vec<RData> {
    if let Some(alias) = meaning.alias.as_deref().and_then(|alias| {
        Name::from_str(alias).ok().map(|mut name| {
            name.set_fqdn(true);
            name
        })
    }) {
        return vec![RData::CNAME(CNAME(alias))];
    }
    let mut found = Vec::new();
    if wants(question, RecordType::A) {
        found.extend(meaning.addresses.iter().map(|ip| RData::A(A(*ip))));
    }
    if wants(question, RecordType::SRV) {
        found.extend(meaning.ports.iter().filter_map(|(port, host)| {
            let host = Name::from_ascii(format!("{host}.{DOMAIN}.")).ok()?;
            Some(RData::SRV(SRV::new(0, 100, *port, host)))
        }));
    }
    found
}

fn pointer(asked: &Message, question: &Query, name: &str) -> Answer {
    let name = Name::from_ascii(format!("{name}.{DOMAIN}.")).ok();
    let found = name
        .filter(|_| wants(question, RecordType::PTR))
        .map(|name| RData::PTR(PTR(name)));
    records(asked, found.into_iter().collect())
}

/// The address in a name like `7.0.96.10.in-addr.arpa`.
fn reversed(name: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u8> = name
        .strip_suffix(".in-addr.arpa")?
        .split('.')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let [d, c, b, a] = parts.as_slice() else {
        return None;
    };
    Some(Ipv4Addr::new(*a, *b, *c, *d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn zone() -> Zone {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"namespace": "a", "name": "web"},
            "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]},
        }))
        .unwrap();
        Zone::new([&service], &BTreeMap::new())
    }

    fn ask(name: &str, kind: RecordType) -> Answer {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        answer(&message, &zone(), ALL_PODS)
    }

    fn said(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
        let Answer::Say(message) = ask(name, kind) else {
            panic!("nothing was said to {name}");
        };
        // What is said can be read by others.
        let message = Message::from_vec(&message.to_vec().unwrap()).unwrap();
        let data = message.answers.iter().map(|one| one.data.to_string());
        (message.metadata.response_code, data.collect())
    }

    #[test]
    fn services_are_found_and_what_they_lack_is_empty_rather_than_unknown() {
        let name = "Web.a.svc.cluster.local.";
        let found = (ResponseCode::NoError, vec!["10.96.0.7".to_owned()]);
        assert_eq!(said(name, RecordType::A), found);
        assert_eq!(
            said(name, RecordType::AAAA),
            (ResponseCode::NoError, vec![])
        );
        let ports = said("_http._tcp.web.a.svc.cluster.local.", RecordType::SRV);
        assert_eq!(ports.1, ["0 100 80 web.a.svc.cluster.local."]);
        let nothing = said("nope.a.svc.cluster.local.", RecordType::A);
        assert_eq!(nothing, (ResponseCode::NXDomain, vec![]));
    }

    #[test]
    fn addresses_have_names_too() {
        let found = said("7.0.96.10.in-addr.arpa.", RecordType::PTR);
        assert_eq!(found.1, ["web.a.svc.cluster.local."]);
    }

    #[test]
    fn names_of_the_world_are_for_others() {
        for name in ["example.com.", "notcluster.local.", "8.8.8.8.in-addr.arpa."] {
            assert!(
                matches!(ask(name, RecordType::A), Answer::AskOthers),
                "{name}"
            );
        }
    }

    #[test]
    fn answers_get_no_answer() {
        let message = Message::response(1, OpCode::Query);
        let judged = answer(&message, &zone(), ALL_PODS);
        assert!(matches!(judged, Answer::Silence));
    }
}
