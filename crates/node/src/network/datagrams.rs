//! Taking packets in one place and sending them on from another, with the answers back to
//! whoever asked.
//!
//! UDP has no connections. So each client's address stands for one: what it sends leaves from a
//! socket of its own, and what comes to that socket is for this client, until neither has had
//! anything to say for a while.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Clients of one port at one time; with more, the one that was silent for longest is dropped.
const MOST_CLIENTS: usize = 128;
/// A client that neither asks nor is answered for so long has gone.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// Packets of a client that wait to be sent on. Whatever comes then is lost, as packets are.
const MOST_WAITING: usize = 16;
/// No packet is longer.
const LONGEST: usize = 64 << 10;

/// A client and the way to whatever sends its packets on.
struct Client {
    packets: mpsc::Sender<Vec<u8>>,
    heard: Instant,
}

/// Opens a port for packets.
pub(super) fn listen(address: Ipv4Addr, port: u16) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((address, port))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Carries packets until the task is ended; `dial` makes the other side of each client.
pub(super) async fn carry<Dialled>(outside: UdpSocket, dial: impl Fn() -> Dialled + Send + 'static)
where
    Dialled: Future<Output = io::Result<UdpSocket>> + Send + 'static,
{
    let outside = Arc::new(outside);
    let mut clients: HashMap<SocketAddr, Client> = HashMap::new();
    let mut working = JoinSet::new();
    let mut packet = vec![0u8; LONGEST];
    loop {
        let (length, from) = tokio::select! {
            Some(ended) = working.join_next() => {
                // One that was dropped may have come back since.
                if let Ok(client) = ended
                    && clients.get(&client).is_some_and(|held| held.packets.is_closed())
                {
                    clients.remove(&client);
                }
                continue;
            }
            received = outside.recv_from(&mut packet) => match received {
                Ok(received) => received,
                Err(error) => {
                    // Somebody we answered has gone, for one.
                    tracing::debug!(%error, "cannot take a packet for a pod");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
            },
        };
        let heard = Instant::now();
        let client = match clients.get_mut(&from) {
            Some(client) if !client.packets.is_closed() => client,
            _ => {
                make_room(&mut clients);
                let (packets, inbox) = mpsc::channel(MOST_WAITING);
                let (outside, dialled) = (outside.clone(), dial());
                working.spawn(async move {
                    if let Err(error) = serve(from, &outside, inbox, dialled).await {
                        tracing::debug!(%from, %error, "packets for a pod were not sent on");
                    }
                    from
                });
                clients
                    .entry(from)
                    .insert_entry(Client { packets, heard })
                    .into_mut()
            }
        };
        client.heard = heard;
        // A full queue loses a packet.
        let _ = client.packets.try_send(packet[..length].to_vec());
    }
}

/// Lets go of whoever was silent for longest, if there are too many.
fn make_room(clients: &mut HashMap<SocketAddr, Client>) {
    if clients.len() < MOST_CLIENTS {
        return;
    }
    let oldest = clients.iter().min_by_key(|(_, client)| client.heard);
    if let Some(oldest) = oldest.map(|(from, _)| *from) {
        clients.remove(&oldest);
    }
}

/// Sends one client's packets on, and the answers back, until both are silent.
async fn serve(
    client: SocketAddr,
    outside: &UdpSocket,
    mut packets: mpsc::Receiver<Vec<u8>>,
    dialled: impl Future<Output = io::Result<UdpSocket>>,
) -> io::Result<()> {
    let within = dialled.await?;
    loop {
        tokio::select! {
            packet = packets.recv() => match packet {
                Some(packet) => within.send(&packet).await.map(|_| ())?,
                None => return Ok(()),
            },
            ready = within.readable() => {
                ready?;
                answer(client, outside, &within).await?;
            }
            () = tokio::time::sleep(LONGEST_SILENCE) => return Ok(()),
        }
    }
}

/// Gives a client the answers that are there, but does not stay for ever with one that is flooded.
async fn answer(client: SocketAddr, outside: &UdpSocket, within: &UdpSocket) -> io::Result<()> {
    // Only while there is something: a client that waits costs no buffer.
    let mut packet = vec![0u8; LONGEST];
    for _ in 0..MOST_WAITING {
        match within.try_recv(&mut packet) {
            // A client that has gone needs no answer.
            Ok(length) => drop(outside.send_to(&packet[..length], client).await),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn socket() -> UdpSocket {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
    }

    /// Asks and returns the answer.
    async fn ask(client: &UdpSocket, port: SocketAddr, question: &str) -> String {
        client.send_to(question.as_bytes(), port).await.unwrap();
        let mut answer = [0u8; 100];
        let heard = client.recv_from(&mut answer);
        let (length, from) = tokio::time::timeout(Duration::from_secs(30), heard)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(from, port, "the answer came from elsewhere");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    /// A port that is carried to somebody who says who asks, and what.
    async fn carried() -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let server = socket().await;
        let behind = server.local_addr().unwrap();
        tokio::spawn(async move {
            let mut packet = [0u8; 100];
            while let Ok((length, from)) = server.recv_from(&mut packet).await {
                let said = format!("{from} {}", String::from_utf8_lossy(&packet[..length]));
                let _ = server.send_to(said.as_bytes(), from).await;
            }
        });
        let outside = socket().await;
        let port = outside.local_addr().unwrap();
        let dial = move || async move {
            let within = socket().await;
            within.connect(behind).await?;
            Ok(within)
        };
        (port, tokio::spawn(carry(outside, dial)))
    }

    #[tokio::test]
    async fn each_client_has_its_own_way_and_keeps_it() {
        let (port, _task) = carried().await;
        let (one, other) = (socket().await, socket().await);
        let first = ask(&one, port, "a").await;
        assert!(first.ends_with(" a"));
        let second = ask(&other, port, "b").await;
        let way = |said: &str| said.split(' ').next().unwrap().to_owned();
        assert_ne!(way(&first), way(&second));
        assert_eq!(way(&first), way(&ask(&one, port, "c").await));
    }

    #[tokio::test]
    async fn however_many_have_asked_the_next_is_answered() {
        let (port, _task) = carried().await;
        for number in 0..MOST_CLIENTS + 20 {
            let client = socket().await;
            let said = ask(&client, port, &number.to_string()).await;
            assert!(said.ends_with(&format!(" {number}")), "{said}");
        }
    }
}
