//! Handing a table to the kernel, and hearing what it thinks of it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Chain, Table, encode};

/// The kernel's firewall, in the network that its socket was made in.
#[derive(Clone)]
pub(crate) struct Firewall {
    socket: Arc<Mutex<OwnedFd>>,
}

impl Firewall {
    /// Speaks through a socket of the netfilter family, which must not block.
    pub(crate) fn new(socket: OwnedFd) -> Firewall {
        Firewall {
            socket: Arc::new(Mutex::new(socket)),
        }
    }

    /// Makes the kernel hold this table instead of whatever it held under that name.
    pub(crate) async fn replace(&self, table: &Table) -> io::Result<()> {
        self.hand_over(encode::replacing(table)).await
    }

    /// Takes a table away; one that is not there is as good.
    pub(crate) async fn remove(&self, name: &str) -> io::Result<()> {
        self.hand_over(encode::removing(name)).await
    }

    /// Makes the kernel hold this chain at a link instead of what it held there; it goes with
    /// the table of such chains.
    pub(crate) async fn plug(&self, table: &str, chain: &Chain) -> io::Result<()> {
        self.hand_over(encode::plugging(table, chain)).await
    }

    /// Takes away all chains at links.
    pub(crate) async fn unplug_all(&self, table: &str) -> io::Result<()> {
        self.hand_over(encode::unplugging_all(table)).await
    }

    /// The kernel lets every processor finish what it is at, which takes milliseconds, so
    /// this is work for another thread.
    async fn hand_over(&self, batch: Vec<u8>) -> io::Result<()> {
        let socket = self.socket.clone();
        let handed = tokio::task::spawn_blocking(move || {
            let socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
            converse(&socket, &batch)
        });
        handed.await.map_err(io::Error::other)?
    }
}

/// The kernel works through a batch while it is sent, so its answers are there afterwards.
pub(super) fn converse(socket: &OwnedFd, batch: &[u8]) -> io::Result<()> {
    make_room(socket, batch.len());
    // SAFETY: the buffer outlives the call, which only reads it.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            batch.as_ptr().cast(),
            batch.len(),
            libc::MSG_NOSIGNAL,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = vec![0u8; 64 * 1024];
    let (mut first_error, mut answered) = (None, false);
    loop {
        // SAFETY: the buffer outlives the call, which writes no more than it has room for.
        let length = unsafe {
            libc::recv(
                socket.as_raw_fd(),
                answer.as_mut_ptr().cast(),
                answer.len(),
                libc::MSG_DONTWAIT,
            )
        };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock => break,
                io::ErrorKind::Interrupted => continue,
                _ => return Err(error),
            }
        };
        for code in errors(&answer[..length]) {
            answered = true;
            if code != 0 {
                first_error.get_or_insert(code);
            }
        }
    }
    match first_error {
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None if answered => Ok(()),
        None => Err(io::Error::other("the kernel's firewall gave no answer")),
    }
}

/// A batch must fit into the socket's buffer whole. Without root this stops at what the
/// machine allows, and then sending says so.
fn make_room(socket: &OwnedFd, bytes: usize) {
    let wanted = i32::try_from(bytes.max(1 << 20)).unwrap_or(i32::MAX);
    for option in [libc::SO_SNDBUF, libc::SO_SNDBUFFORCE] {
        // SAFETY: the option's value is an int that outlives the call.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const wanted).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        };
    }
}

/// The error numbers in the kernel's answers; zero says that all went well.
fn errors(mut bytes: &[u8]) -> Vec<i32> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (word(bytes, 0), half(bytes, 4)) {
        if kind == libc::NLMSG_ERROR as u16 {
            found.extend(word(bytes, 16).map(|code| code as i32));
        }
        let step = (length as usize).max(16).next_multiple_of(4);
        bytes = bytes.get(step..).unwrap_or_default();
    }
    found
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::firewall::{Chain, Frame, Hook, Net, Protocol, Test, Verdict};
    use std::net::{Ipv4Addr, SocketAddrV4};

    /// A table with every kind of test and verdict.
    fn everything() -> Table {
        let ip = Ipv4Addr::new(10, 0, 0, 1);
        let (link, set) = ("br".to_owned(), "some".to_owned());
        let mut arriving = Chain::at("arriving", Hook::Arriving);
        let named = [
            Test::Version4,
            Test::Protocol(Protocol::Tcp),
            Test::DestinationPort(1..=2),
        ];
        arriving.rule(named.clone(), Verdict::SendTo(SocketAddrV4::new(ip, 80)));
        arriving.rule(named.clone(), Verdict::MoveTo(Net::new(ip, 8)));
        arriving.rule(named, Verdict::Redirect(80));
        let mut passing = Chain::at("passing", Hook::PassingOn);
        let mut sending = Chain::at("sending", Hook::Sending);
        sending.rule([Test::Version4], Verdict::Jump("chosen".to_owned()));
        let mut chosen = Chain::called("chosen");
        let web = [Test::Protocol(Protocol::Tcp)];
        chosen.rule(web, Verdict::SendTo(SocketAddrV4::new(ip, 80)));
        arriving.rule([Test::Version4], Verdict::Jump("chosen".to_owned()));
        let mut sent = Chain::at("sent", Hook::Sent);
        sent.rule([Test::To(link.clone())], Verdict::Refuse);
        for test in [
            Test::From(link.clone()),
            Test::To(link.clone()),
            Test::NotTo(link),
            Test::Source(Net::one(ip)),
            Test::NotSource(Net::one(ip)),
            Test::Destination(Net::one(ip)),
            Test::NotDestination(Net::one(ip)),
            Test::SourceIn(set.clone()),
            Test::DestinationIn(set.clone()),
            Test::Known,
            Test::OneOf(3),
            Test::Share { nth: 1, of: 3 },
        ] {
            passing.rule([test], Verdict::Jump("called".to_owned()));
        }
        let mut called = Chain::called("called");
        for verdict in [
            Verdict::Accept,
            Verdict::Drop,
            Verdict::Refuse,
            Verdict::Return,
        ] {
            called.rule([Test::Protocol(Protocol::Sctp)], verdict);
        }
        let mut leaving = Chain::at("leaving", Hook::Leaving);
        leaving.rule([Test::Version4], Verdict::Masquerade);
        Table {
            name: "everything".into(),
            sets: [(set, (0..3000u32).map(Ipv4Addr::from).collect())].into(),
            chains: vec![
                arriving,
                passing,
                called,
                sending,
                chosen,
                sent,
                leaving,
                Chain::at("in", Hook::ToMachine),
            ],
        }
    }

    /// Runs this with a socket to the firewall of a network of its own, gone with it.
    fn in_own_network(tried: impl FnOnce(OwnedFd) + Send + 'static) {
        use nix::sched::{CloneFlags, unshare};
        let thread = std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                return println!("skipped: only root can make a network to try rules in");
            }
            // SAFETY: no pointers are passed, and the descriptor is the kernel's newest.
            let socket = unsafe {
                use std::os::fd::FromRawFd as _;
                let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
                let made = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_NETFILTER);
                assert!(made >= 0, "{}", io::Error::last_os_error());
                OwnedFd::from_raw_fd(made)
            };
            tried(socket);
        });
        thread.join().unwrap();
    }

    #[test]
    fn the_kernel_takes_every_kind_of_rule_again_and_again() {
        in_own_network(|socket| {
            for _ in 0..2 {
                converse(&socket, &encode::replacing(&everything())).unwrap();
            }
            let mut wrong = everything();
            wrong.chains[1].rule([], Verdict::Jump("nowhere".into()));
            converse(&socket, &encode::replacing(&wrong)).unwrap_err();
            for _ in 0..2 {
                converse(&socket, &encode::removing("everything")).unwrap();
            }
        });
    }

    #[test]
    fn a_link_s_chain_is_taken_again_and_again() {
        in_own_network(|socket| {
            let (ip, hardware) = (Ipv4Addr::new(10, 0, 0, 1), [2, 0, 0, 0, 0, 1]);
            let mut chain = Chain::at("cable", Hook::OffLink("lo".to_owned()));
            chain.rule([Test::NotFromHardware(hardware)], Verdict::Drop);
            let own = Test::Source(Net::one(ip));
            chain.rule([Test::Frame(Frame::Version4), own], Verdict::Accept);
            let told = Test::Tells { hardware, ip };
            chain.rule([Test::Frame(Frame::Arp), told], Verdict::Accept);
            chain.rule([], Verdict::Drop);
            for _ in 0..3 {
                converse(&socket, &encode::plugging("cables", &chain)).unwrap();
            }
            for _ in 0..2 {
                converse(&socket, &encode::unplugging_all("cables")).unwrap();
            }
            chain.rule([], Verdict::Jump("nowhere".into()));
            converse(&socket, &encode::plugging("cables", &chain)).unwrap_err();
        });
    }

    #[test]
    fn answers_are_read_to_their_end_and_nonsense_ends_the_reading() {
        let mut bytes = Vec::new();
        for code in [0i32, -22] {
            bytes.extend(20u32.to_ne_bytes());
            bytes.extend((libc::NLMSG_ERROR as u16).to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(code.to_ne_bytes());
        }
        assert_eq!(errors(&bytes), [0, -22]);
        assert_eq!(errors(&bytes[..25]), [0]);
        assert_eq!(errors(&[0; 7]), [0i32; 0]);
        assert_eq!(errors(&[0; 64]), [0i32; 0]);
    }
}
