//! A [`Table`] in the kernel's own words.
//!
//! A message is a header and attributes: length, kind, content, filled up to four bytes.
//! Numbers in attributes are big-endian, what a register is compared with is as the
//! register has it. The numbers are those of `linux/netfilter/nf_tables.h`.

use std::net::Ipv4Addr;

use super::{Chain, Hook, Rule, Table, Test, Verdict};

/// Addresses in one message; an attribute's length has sixteen bits.
const ADDRESSES_AT_ONCE: usize = 1000;

const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
/// Tables for whatever passes the machine's internet protocols …
const INET: u8 = 1;
/// … and for what comes off a link, before anything of it is believed.
const LINKS: u8 = 5;
const IPV4: u32 = 2;

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;

const CREATE: u16 = libc::NLM_F_CREATE as u16;
const APPEND: u16 = libc::NLM_F_APPEND as u16;
const ACKNOWLEDGE: u16 = libc::NLM_F_ACK as u16;

const NESTED: u16 = 0x8000;
/// The register that holds a verdict.
const VERDICT: u32 = 0;
/// The registers that hold everything else.
const FIRST: u32 = 1;
const SECOND: u32 = 2;

/// Every message that makes the kernel hold `table`, and nothing that it held under that
/// name before.
pub(super) fn replacing(table: &Table) -> Vec<u8> {
    let mut batch = Batch::begin(INET);
    // Making it first lets the removal of one that was never there succeed.
    batch.message(NEW_TABLE, CREATE, |table_of| {
        table_of.text(1, &table.name);
    });
    batch.message(DELETE_TABLE, 0, |gone| gone.text(1, &table.name));
    batch.message(NEW_TABLE, CREATE, |made| made.text(1, &table.name));
    for (number, (name, addresses)) in (1u32..).zip(&table.sets) {
        batch.set(&table.name, number, name);
        let addresses: Vec<Ipv4Addr> = addresses.iter().copied().collect();
        for some in addresses.chunks(ADDRESSES_AT_ONCE) {
            batch.elements(&table.name, number, name, some);
        }
    }
    // All chains before any rule, since rules jump to chains.
    for chain in &table.chains {
        batch.chain(&table.name, chain);
    }
    for chain in &table.chains {
        for rule in &chain.rules {
            batch.rule(&table.name, &chain.name, rule);
        }
    }
    batch.end()
}

/// Every message that makes the kernel hold this chain at a link, in a table of such chains,
/// instead of what it held there.
pub(super) fn plugging(table: &str, chain: &Chain) -> Vec<u8> {
    let mut batch = Batch::begin(LINKS);
    batch.message(NEW_TABLE, CREATE, |made| made.text(1, table));
    batch.chain(table, chain);
    batch.message(DELETE_RULE, 0, |gone| {
        gone.text(1, table);
        gone.text(2, &chain.name);
    });
    for rule in &chain.rules {
        batch.rule(table, &chain.name, rule);
    }
    batch.end()
}

/// Every message that takes the table away.
pub(super) fn removing(name: &str) -> Vec<u8> {
    taking_away(INET, name)
}

/// Every message that takes a table of links' chains away.
pub(super) fn unplugging_all(name: &str) -> Vec<u8> {
    taking_away(LINKS, name)
}

fn taking_away(family: u8, name: &str) -> Vec<u8> {
    let mut batch = Batch::begin(family);
    batch.message(NEW_TABLE, CREATE, |made| made.text(1, name));
    batch.message(DELETE_TABLE, 0, |gone| gone.text(1, name));
    batch.end()
}

/// Messages that take effect together.
struct Batch {
    bytes: Vec<u8>,
    family: u8,
    sequence: u32,
    last: usize,
}

impl Batch {
    fn begin(family: u8) -> Batch {
        let mut batch = Batch {
            bytes: Vec::new(),
            family,
            sequence: 0,
            last: 0,
        };
        batch.frame(libc::NFNL_MSG_BATCH_BEGIN as u16, 0, 0, SUBSYSTEM, |_| ());
        batch
    }

    /// The last message asks for an answer: that comes when all have taken effect.
    fn end(mut self) -> Vec<u8> {
        let flags = self.last + 6;
        let asked = u16::from_ne_bytes([self.bytes[flags], self.bytes[flags + 1]]) | ACKNOWLEDGE;
        self.bytes[flags..flags + 2].copy_from_slice(&asked.to_ne_bytes());
        self.frame(libc::NFNL_MSG_BATCH_END as u16, 0, 0, SUBSYSTEM, |_| ());
        self.bytes
    }

    fn message(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.last = self.bytes.len();
        self.frame(SUBSYSTEM << 8 | kind, flags, self.family, 0, fill);
    }

    fn frame(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        self.sequence += 1;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        let flags = flags | libc::NLM_F_REQUEST as u16;
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        fill(&mut Attributes(&mut self.bytes));
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn set(&mut self, table: &str, number: u32, name: &str) {
        self.message(NEW_SET, CREATE, |set| {
            set.text(1, table);
            set.text(2, name);
            set.number(4, 7); // its keys are addresses …
            set.number(5, 4); // … of four bytes
            set.number(10, number);
        });
    }

    fn elements(&mut self, table: &str, number: u32, name: &str, addresses: &[Ipv4Addr]) {
        self.message(NEW_ELEMENTS, CREATE, |elements| {
            elements.text(1, table);
            elements.text(2, name);
            elements.number(4, number);
            elements.nested(3, |list| {
                for address in addresses {
                    list.nested(1, |one| {
                        one.nested(1, |key| key.bytes(1, &address.octets()));
                    });
                }
            });
        });
    }

    fn chain(&mut self, table: &str, chain: &Chain) {
        self.message(NEW_CHAIN, CREATE, |made| {
            made.text(1, table);
            made.text(3, &chain.name);
            if let Some(hook) = &chain.hook {
                let (number, priority, kind) = hook.place();
                made.nested(4, |at| {
                    at.number(1, number);
                    at.number(2, priority as u32);
                    if let Hook::OffLink(link) = hook {
                        at.text(3, link);
                    }
                });
                made.number(5, libc::NF_ACCEPT as u32);
                made.text(7, kind);
            }
        });
    }

    fn rule(&mut self, table: &str, chain: &str, rule: &Rule) {
        self.message(NEW_RULE, CREATE | APPEND, |made| {
            made.text(1, table);
            made.text(2, chain);
            made.nested(4, |list| {
                for test in &rule.tests {
                    list.test(test);
                }
                list.verdict(&rule.verdict);
            });
        });
    }
}

impl Hook {
    /// The hook's number, the priority that others use there, and what it is for.
    fn place(&self) -> (u32, i32, &'static str) {
        match self {
            Hook::OffLink(_) => (0, 0, "filter"),
            Hook::Arriving => (0, -100, "nat"),
            Hook::Sending => (3, -100, "nat"),
            Hook::Sent => (3, 0, "filter"),
            Hook::ToMachine => (1, 0, "filter"),
            Hook::PassingOn => (2, 0, "filter"),
            Hook::Leaving => (4, 100, "nat"),
        }
    }
}

/// The attributes of a message, being written.
struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    fn bytes(&mut self, kind: u16, content: &[u8]) {
        self.framed(kind, |bytes| bytes.extend_from_slice(content));
    }

    fn number(&mut self, kind: u16, number: u32) {
        self.bytes(kind, &number.to_be_bytes());
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.framed(kind, |bytes| {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        });
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.framed(kind | NESTED, |bytes| fill(&mut Attributes(bytes)));
    }

    fn framed(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        fill(self.0);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
    }

    /// One step of a rule.
    fn step(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.nested(1, |step| {
            step.text(1, name);
            step.nested(2, fill);
        });
    }

    fn meta(&mut self, key: u32) {
        self.step("meta", |meta| {
            meta.number(1, FIRST);
            meta.number(2, key);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32) {
        self.step("payload", |payload| {
            payload.number(1, FIRST);
            payload.number(2, base);
            payload.number(3, offset);
            payload.number(4, length);
        });
    }

    fn compare(&mut self, operator: u32, with: &[u8]) {
        self.step("cmp", |compare| {
            compare.number(1, FIRST);
            compare.number(2, operator);
            compare.nested(3, |data| data.bytes(1, with));
        });
    }

    fn keep_bits(&mut self, mask: &[u8; 4]) {
        self.change_bits(mask, &[0; 4]);
    }

    /// Keeps the bits of the mask and turns over the others' as given.
    fn change_bits(&mut self, mask: &[u8; 4], turned: &[u8; 4]) {
        self.step("bitwise", |bits| {
            bits.number(1, FIRST);
            bits.number(2, FIRST);
            bits.number(3, 4);
            bits.nested(4, |data| data.bytes(1, mask));
            bits.nested(5, |data| data.bytes(1, turned));
        });
    }

    fn put(&mut self, register: u32, value: &[u8]) {
        self.step("immediate", |put| {
            put.number(1, register);
            put.nested(2, |data| data.bytes(1, value));
        });
    }

    fn decide(&mut self, code: i32, chain: Option<&str>) {
        self.step("immediate", |put| {
            put.number(1, VERDICT);
            put.nested(2, |data| {
                data.nested(2, |verdict| {
                    verdict.number(1, code as u32);
                    if let Some(chain) = chain {
                        verdict.text(2, chain);
                    }
                });
            });
        });
    }

    fn test(&mut self, test: &Test) {
        match test {
            Test::From(link) => self.link(6, EQUAL, link),
            Test::To(link) => self.link(7, EQUAL, link),
            Test::NotTo(link) => self.link(7, NOT_EQUAL, link),
            Test::Version4 => {
                self.meta(15);
                self.compare(EQUAL, &[IPV4 as u8]);
            }
            Test::Frame(kind) => {
                self.meta(1);
                self.compare(EQUAL, &kind.number().to_be_bytes());
            }
            Test::NotFromHardware(address) => {
                self.payload(LINK, 6, 6);
                self.compare(NOT_EQUAL, address);
            }
            Test::Tells { hardware, ip } => {
                // The sender of a question or an answer, right after what both begin with.
                self.payload(NETWORK, 8, 10);
                self.compare(EQUAL, &[&hardware[..], &ip.octets()[..]].concat());
            }
            Test::Source(net) => self.address(SOURCE, EQUAL, *net),
            Test::NotSource(net) => self.address(SOURCE, NOT_EQUAL, *net),
            Test::Destination(net) => self.address(DESTINATION, EQUAL, *net),
            Test::NotDestination(net) => self.address(DESTINATION, NOT_EQUAL, *net),
            Test::SourceIn(set) => self.member(SOURCE, set),
            Test::DestinationIn(set) => self.member(DESTINATION, set),
            Test::Protocol(protocol) => {
                self.meta(16);
                self.compare(EQUAL, &[protocol.number()]);
            }
            Test::DestinationPort(ports) => {
                self.payload(TRANSPORT, 2, 2);
                if ports.start() == ports.end() {
                    self.compare(EQUAL, &ports.start().to_be_bytes());
                } else {
                    self.compare(AT_LEAST, &ports.start().to_be_bytes());
                    self.compare(AT_MOST, &ports.end().to_be_bytes());
                }
            }
            Test::Known => {
                const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
                self.step("ct", |state| {
                    state.number(1, FIRST);
                    state.number(2, 0);
                });
                self.keep_bits(&ESTABLISHED_OR_RELATED.to_ne_bytes());
                self.compare(NOT_EQUAL, &[0; 4]);
            }
            Test::OneOf(of) => {
                self.step("numgen", |number| {
                    number.number(1, FIRST);
                    number.number(2, *of);
                    number.number(3, 1); // by chance
                });
                self.compare(EQUAL, &[0; 4]);
            }
            Test::Share { nth, of } => {
                self.payload(NETWORK, SOURCE, 4);
                self.step("hash", |hash| {
                    hash.number(1, FIRST);
                    hash.number(2, FIRST);
                    hash.number(3, 4);
                    hash.number(4, *of);
                    hash.number(5, 0); // the same shares after every change
                });
                self.compare(EQUAL, &nth.to_ne_bytes());
            }
        }
    }

    fn link(&mut self, key: u32, operator: u32, name: &str) {
        let mut padded = [0u8; libc::IFNAMSIZ];
        for (to, from) in padded.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
            *to = from;
        }
        self.meta(key);
        self.compare(operator, &padded);
    }

    fn address(&mut self, offset: u32, operator: u32, net: super::Net) {
        self.payload(NETWORK, offset, 4);
        self.keep_bits(&net.mask().to_be_bytes());
        self.compare(operator, &net.start());
    }

    fn member(&mut self, offset: u32, set: &str) {
        self.payload(NETWORK, offset, 4);
        self.step("lookup", |lookup| {
            lookup.text(1, set);
            lookup.number(2, FIRST);
        });
    }

    fn verdict(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Accept => self.decide(libc::NF_ACCEPT, None),
            Verdict::Drop => self.decide(libc::NF_DROP, None),
            Verdict::Jump(chain) => self.decide(-3, Some(chain)),
            Verdict::Return => self.decide(-5, None),
            Verdict::Refuse => self.step("reject", |reject| {
                reject.number(1, 2); // in the packet's own version of the protocol
                reject.bytes(2, &[1]); // port unreachable
            }),
            Verdict::Masquerade => self.step("masq", |_| ()),
            Verdict::SendTo(to) => {
                self.put(FIRST, &to.ip().octets());
                self.put(SECOND, &to.port().to_be_bytes());
                self.step("nat", |nat| {
                    nat.number(1, 1); // the destination
                    nat.number(2, IPV4);
                    nat.number(3, FIRST);
                    nat.number(5, SECOND);
                });
            }
            Verdict::MoveTo(net) => {
                self.payload(NETWORK, DESTINATION, 4);
                self.change_bits(&(!net.mask()).to_be_bytes(), &net.start());
                self.step("nat", |nat| {
                    nat.number(1, 1);
                    nat.number(2, IPV4);
                    nat.number(3, FIRST);
                });
            }
            Verdict::Redirect(port) => {
                self.put(FIRST, &port.to_be_bytes());
                self.step("redir", |redirect| redirect.number(1, FIRST));
            }
        }
    }
}

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;
const LINK: u32 = 0;
const NETWORK: u32 = 1;
/// Where a packet has its addresses.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const TRANSPORT: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::firewall::Net;

    #[test]
    fn attributes_are_framed_and_filled_up_to_four_bytes() {
        let mut bytes = Vec::new();
        Attributes(&mut bytes).text(1, "ab");
        let mut expected = vec![7, 0, 1, 0, b'a', b'b', 0, 0];
        assert_eq!(bytes, expected);
        Attributes(&mut bytes).nested(2, |inner| inner.number(3, 5));
        expected.extend([12, 0, 2, 0x80, 8, 0, 3, 0, 0, 0, 0, 5]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_batch_is_whole_messages_and_only_the_last_asks_for_an_answer() {
        let mut chain = Chain::at("in", Hook::ToMachine);
        chain.rule([Test::Source(Net::one(Ipv4Addr::LOCALHOST))], Verdict::Drop);
        let table = Table {
            name: "t".into(),
            sets: Default::default(),
            chains: vec![chain],
        };
        let bytes = replacing(&table);
        let (mut at, mut asking) = (0, Vec::new());
        while at < bytes.len() {
            let length = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            let kind = u16::from_ne_bytes(bytes[at + 4..at + 6].try_into().unwrap());
            let flags = u16::from_ne_bytes(bytes[at + 6..at + 8].try_into().unwrap());
            if flags & ACKNOWLEDGE != 0 {
                asking.push(kind);
            }
            assert!(length >= 20 && length.is_multiple_of(4));
            at += length;
        }
        assert_eq!(at, bytes.len());
        assert_eq!(asking, [SUBSYSTEM << 8 | NEW_RULE]);
    }
}
