//! A rule in the kernel's own words: what it tests and decides, as steps over registers. What a
//! register is compared with is as the register has it.

use super::attributes::Attributes;
use super::{Net, Test, Verdict};

/// The register that holds a verdict.
const VERDICT: u32 = 0;
/// The registers that hold everything else.
const FIRST: u32 = 1;
const SECOND: u32 = 2;

const IPV4: u32 = 2;

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

impl Attributes<'_> {
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

    /// What a packet must be like.
    pub(super) fn test(&mut self, test: &Test) {
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
            Test::SourcePort(port) => {
                self.payload(TRANSPORT, 0, 2);
                self.compare(EQUAL, &port.to_be_bytes());
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

    fn address(&mut self, offset: u32, operator: u32, net: Net) {
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

    /// What becomes of it.
    pub(super) fn verdict(&mut self, verdict: &Verdict) {
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
            Verdict::Untracked => self.step("notrack", |_| ()),
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
