//! A [`Table`] in the kernel's own words.
//!
//! Messages that take effect together are a batch; each is a header and attributes. The numbers
//! are those of `linux/netfilter/nf_tables.h`.

use std::net::Ipv4Addr;

use super::attributes::Attributes;
use super::{Chain, Hook, Rule, Table};

/// Addresses in one message; an attribute's length has sixteen bits.
const ADDRESSES_AT_ONCE: usize = 1000;

const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
/// Tables for whatever passes the machine's internet protocols …
const INET: u8 = 1;
/// … and for what comes off a link, before anything of it is believed.
const LINKS: u8 = 5;

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
        fill(&mut Attributes::of(&mut self.bytes));
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
            Hook::BeforeSending => (3, -300, "filter"),
            Hook::Sending => (3, -100, "nat"),
            Hook::Sent => (3, 0, "filter"),
            Hook::ToMachine => (1, 0, "filter"),
            Hook::PassingOn => (2, 0, "filter"),
            Hook::Leaving => (4, 100, "nat"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::firewall::{Net, Test, Verdict};

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
