//! One client's connection to the embedded broker.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use rumqttc::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, PubComp, PubRec, Publish, QoS, SubAck,
    SubscribeReasonCode, UnsubAck, valid_filter, valid_topic,
};
use sandlot_api::robot::wire::{LONGEST_MESSAGE, LONGEST_PACKET};
use sandlot_mqtt::Cut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::{codec::Framed, sync::CancellationToken};

use super::{
    rights::{Keyring, Login, Right},
    state::{Seat, State},
};

/// How long a client may take to say who it is.
pub(super) const HELLO: Duration = Duration::from_secs(10);
/// How long a client that does not say may be silent.
const SILENCE: Duration = Duration::from_secs(600);
/// How long one message may take to be sent.
const SENDING: Duration = Duration::from_secs(30);
/// How many messages are sent before the client is listened to again.
const BURST: usize = 64;

/// Serves a client until it leaves, or must.
pub(super) async fn serve<S>(stream: S, state: State, keys: Keyring, cancel: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut wire = Framed::new(stream, Cut::new(LONGEST_PACKET));
    let hello = tokio::select! {
        hello = tokio::time::timeout(HELLO, wire.next()) => hello,
        () = cancel.cancelled() => return,
    };
    let Ok(Some(Ok(Packet::Connect(connect)))) = hello else {
        return;
    };
    let keep_alive = match connect.keep_alive {
        0 => SILENCE,
        seconds => Duration::from_secs(u64::from(seconds) * 3 / 2),
    };
    let Some((login, seat)) = admit(&mut wire, &state, &keys, connect).await else {
        return;
    };
    let mut client = Client {
        wire,
        state: &state,
        login,
        seat: &seat,
    };
    let in_order = client.run(keep_alive, &cancel).await;
    state.leave(&seat, in_order);
}

/// Lets a client in, or tells it why not.
async fn admit<S>(
    wire: &mut Framed<S, Cut>,
    state: &State,
    keys: &Keyring,
    connect: Connect,
) -> Option<(Login, Seat)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (name, password) = match &connect.login {
        Some(login) => (Some(login.username.as_str()), login.password.as_str()),
        None => (None, ""),
    };
    let refusal = match keys.login(name, password) {
        None => ConnectReturnCode::BadUserNamePassword,
        // A client without a name gets one, if it leaves nothing behind.
        Some(login) if !connect.client_id.is_empty() || connect.clean_session => {
            let client = match connect.client_id.is_empty() {
                true => format!("anonymous-{:032x}", rand::random::<u128>()),
                false => connect.client_id,
            };
            let seat = state.sit(
                &client,
                login.clone(),
                connect.clean_session,
                connect.last_will,
            );
            match seat {
                // Its credential may have been taken from it while it sat down: who puts robots out
                // takes the credential first, so one of the two sees the other.
                Some(seat) if keys.login(name, password).is_none() => {
                    state.leave(&seat, true);
                    ConnectReturnCode::BadUserNamePassword
                }
                Some(seat) => {
                    let welcome = ConnAck::new(ConnectReturnCode::Success, seat.present);
                    let sent = wire.send(Packet::ConnAck(welcome)).await;
                    if sent.is_err() {
                        state.leave(&seat, false);
                        return None;
                    }
                    return Some((login, seat));
                }
                None => ConnectReturnCode::ServiceUnavailable,
            }
        }
        Some(_) => ConnectReturnCode::BadClientId,
    };
    tracing::debug!(name, ?refusal, "a client was not let in");
    // It is sent away either way.
    let _ = wire
        .send(Packet::ConnAck(ConnAck::new(refusal, false)))
        .await;
    None
}

/// A client that was let in.
struct Client<'a, S> {
    wire: Framed<S, Cut>,
    state: &'a State,
    login: Login,
    seat: &'a Seat,
}

/// How a packet was taken.
enum Taken {
    /// Go on.
    On,
    /// The client has left in order.
    Left,
    /// It did what nobody does.
    Fault,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<'_, S> {
    /// Listens and tells; says whether the client left in order.
    async fn run(&mut self, silence: Duration, cancel: &CancellationToken) -> bool {
        loop {
            let taken = tokio::select! {
                packet = tokio::time::timeout(silence, self.wire.next()) => match packet {
                    Ok(Some(Ok(packet))) => self.take(packet).await,
                    _ => return false,
                },
                () = self.seat.wake.notified() => self.tell().await,
                () = self.seat.end.cancelled() => return false,
                () = cancel.cancelled() => return false,
            };
            match taken {
                Taken::On => {}
                Taken::Left => return true,
                Taken::Fault => return false,
            }
        }
    }

    /// Sends what waits for the client.
    async fn tell(&mut self) -> Taken {
        let messages = self.state.take(self.seat, BURST);
        let more = messages.len() == BURST;
        let sending = async {
            for message in messages {
                self.wire.feed(Packet::Publish(message)).await?;
            }
            self.wire.flush().await
        };
        match tokio::time::timeout(SENDING, sending).await {
            Ok(Ok(())) => {}
            _ => return Taken::Fault,
        }
        if more {
            self.seat.wake.notify_one();
        }
        Taken::On
    }

    async fn take(&mut self, packet: Packet) -> Taken {
        match packet {
            Packet::Publish(message) => self.publish(message).await,
            Packet::PubAck(ack) => {
                self.state.acknowledge(self.seat, ack.pkid);
                Taken::On
            }
            Packet::PubRel(release) => {
                self.answer(Packet::PubComp(PubComp::new(release.pkid)))
                    .await
            }
            Packet::Subscribe(subscribe) => {
                let wanted = subscribe
                    .filters
                    .into_iter()
                    .map(|filter| (filter.path, filter.qos));
                self.subscribe(subscribe.pkid, wanted.collect()).await
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.state.unsubscribe(self.seat, &unsubscribe.topics);
                self.answer(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid)))
                    .await
            }
            Packet::PingReq => self.answer(Packet::PingResp).await,
            Packet::Disconnect => Taken::Left,
            _ => Taken::Fault,
        }
    }

    async fn publish(&mut self, mut message: Publish) -> Taken {
        if !valid_topic(&message.topic) {
            return Taken::Fault;
        }
        let (id, qos) = (message.pkid, message.qos);
        // The protocol has no way to refuse one message: as Mosquitto does, what is thrown away is
        // acknowledged, or it would come again with every connection.
        if message.payload.len() > LONGEST_MESSAGE {
            let refused = &self.state.refused;
            refused.too_long(&self.seat.client, &message.topic);
        } else if self.login.may(Right::Publish, &message.topic) {
            // Exactly once is passed on as at least once: everything said here may be said twice.
            message.qos = match qos {
                QoS::AtMostOnce => QoS::AtMostOnce,
                _ => QoS::AtLeastOnce,
            };
            self.state.route(message);
        } else {
            self.state.refused.not_allowed();
            tracing::debug!(login = ?self.login, topic = message.topic, "a message was not allowed");
        }
        match qos {
            QoS::AtMostOnce => Taken::On,
            QoS::AtLeastOnce => self.answer(Packet::PubAck(PubAck::new(id))).await,
            QoS::ExactlyOnce => self.answer(Packet::PubRec(PubRec::new(id))).await,
        }
    }

    async fn subscribe(&mut self, id: u16, wanted: Vec<(String, QoS)>) -> Taken {
        let allowed: Vec<bool> = wanted
            .iter()
            .map(|(filter, _)| valid_filter(filter) && self.login.may(Right::Subscribe, filter))
            .collect();
        let given: Vec<(String, QoS)> = wanted
            .iter()
            .zip(&allowed)
            .filter(|(_, allowed)| **allowed)
            .map(|((filter, qos), _)| {
                let qos = match qos {
                    QoS::AtMostOnce => QoS::AtMostOnce,
                    _ => QoS::AtLeastOnce,
                };
                (filter.clone(), qos)
            })
            .collect();
        let mut taken = self
            .state
            .subscribe(self.seat, &given)
            .into_iter()
            .zip(given);
        let codes = allowed.into_iter().map(|allowed| match allowed {
            true => match taken.next() {
                Some((true, (_, qos))) => SubscribeReasonCode::Success(qos),
                _ => SubscribeReasonCode::Failure,
            },
            false => SubscribeReasonCode::Failure,
        });
        let codes = codes.collect();
        self.answer(Packet::SubAck(SubAck::new(id, codes))).await
    }

    async fn answer(&mut self, packet: Packet) -> Taken {
        match tokio::time::timeout(SENDING, self.wire.send(packet)).await {
            Ok(Ok(())) => Taken::On,
            _ => Taken::Fault,
        }
    }
}
