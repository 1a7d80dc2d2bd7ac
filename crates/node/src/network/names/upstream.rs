//! Names of the world: asked of whoever the machine itself asks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// One server is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(2);
const NAMES: u16 = 53;
/// An answer over UDP that says where it was cut off is never longer.
const LONGEST: usize = 4096;

/// Asks the machine's servers in turn; the answer is what the first one says.
pub(super) async fn ask(question: &[u8], over_tcp: bool) -> io::Result<Vec<u8>> {
    let resolv = tokio::fs::read_to_string("/etc/resolv.conf").await;
    let mut last = io::Error::other("the machine has no name server in /etc/resolv.conf");
    for server in servers(&resolv.unwrap_or_default()) {
        let answered = tokio::time::timeout(PATIENCE, async {
            if over_tcp {
                by_stream(server, question).await
            } else {
                by_packet(server, question).await
            }
        });
        match answered.await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

fn servers(resolv: &str) -> Vec<SocketAddr> {
    resolv
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .take(3)
        .map(|ip| SocketAddr::new(ip, NAMES))
        .collect()
}

async fn by_packet(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    // A port of its own for each question, and a number that the pod does not know, so that
    // nobody who cannot see the question can answer it.
    let own: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(own).await?;
    socket.connect(server).await?;
    let asked = question.first_chunk::<2>().copied().unwrap_or_default();
    let random = uuid::Uuid::new_v4();
    let number = [random.as_bytes()[0], random.as_bytes()[1]];
    let mut sent = question.to_vec();
    renumber(&mut sent, number);
    socket.send(&sent).await?;
    let mut answer = vec![0u8; LONGEST];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answer[..length].starts_with(&number) {
            answer.truncate(length);
            renumber(&mut answer, asked);
            return Ok(answer);
        }
    }
}

fn renumber(message: &mut [u8], number: [u8; 2]) {
    if let Some(place) = message.first_chunk_mut::<2>() {
        *place = number;
    }
}

async fn by_stream(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, question).await?;
    read_message(&mut stream)
        .await?
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// A message with its length before it, as streams have them.
pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut whole = length.to_be_bytes().to_vec();
    whole.extend_from_slice(message);
    stream.write_all(&whole).await
}

/// The next message; none at the end.
pub(super) async fn read_message(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0u8; 2];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut message = vec![0u8; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_the_machine_reads_them() {
        let text =
            "# made by hand\nsearch lan\nnameserver 1.1.1.1\nnameserver\t::1\nnameserver x\n";
        let found: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["1.1.1.1:53", "[::1]:53"]);
    }
}
