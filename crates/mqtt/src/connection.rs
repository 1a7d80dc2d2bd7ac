//! A client's connection to a broker: made, subscribed, kept up, and made again by whoever asks on
//! after it broke.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use futures::{FutureExt, SinkExt, StreamExt};
use rumqttc::{
    Connect, ConnectReturnCode, Disconnect, Event, LastWill, MqttState, Outgoing, Packet, PingReq,
    Publish, QoS, Request, StateError, Subscribe, SubscribeFilter,
};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::codec::Framed;

use crate::Cut;

/// How long a connection may take to be made, and one step to be sent.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many packets are read before they are passed on.
const BURST: usize = 10;

/// Where to connect, as whom, and what to hear there.
pub struct Options {
    /// The broker's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted, if it is.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The name of the client's session.
    pub client: String,
    /// Whether the session ends with the connection.
    pub clean: bool,
    /// The user and password, if the broker is told any.
    pub login: Option<(String, String)>,
    /// What the broker is to say when the connection breaks.
    pub will: Option<LastWill>,
    /// After how long of silence the broker is asked whether it is there.
    pub keep_alive: Duration,
    /// What is listened to.
    pub filters: Vec<String>,
    /// How many messages may wait to be sent.
    pub queue: usize,
    /// How many of them may be on their way at once.
    pub window: u16,
    /// The longest packet: messages are cut there.
    pub longest: usize,
}

/// What the broker brings.
#[derive(Debug)]
pub enum Heard {
    /// The connection is there, and a new one.
    Connected,
    /// The broker has heard what is listened to.
    Subscribed,
    /// Somebody said something.
    Said(Publish),
    /// The client has left, as it was asked to.
    Left,
}

/// Why a connection broke, or was not made.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The network did not carry it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The broker took too long.
    #[error("the broker took too long")]
    Timeout,
    /// The broker closed it.
    #[error("the broker closed the connection")]
    Closed,
    /// The broker does not let the client in.
    #[error("the broker refused the connection: {0:?}")]
    Refused(ConnectReturnCode),
    /// The broker answered with something else.
    #[error("the broker answered as none does: {0}")]
    Protocol(String),
    /// No certificate can name such a host.
    #[error("the broker's name cannot be in a certificate: {0}")]
    Name(#[from] InvalidDnsNameError),
}

impl From<StateError> for Broken {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Io(error) => Self::Io(error),
            StateError::AwaitPingResp => Self::Timeout,
            error => Self::Protocol(error.to_string()),
        }
    }
}

impl From<rumqttc::Error> for Broken {
    fn from(error: rumqttc::Error) -> Self {
        match error {
            rumqttc::Error::Io(error) => Self::Io(error),
            error => Self::Protocol(error.to_string()),
        }
    }
}

/// There is no room for more to be said now.
#[derive(Debug, thiserror::Error)]
#[error("too much waits to be said")]
pub struct Full;

/// Says things over a connection.
#[derive(Clone)]
pub struct Mouth(mpsc::Sender<Request>);

impl Mouth {
    /// Says something at least once, if there is room for it.
    pub fn say(&self, topic: String, retain: bool, message: Vec<u8>) -> Result<(), Full> {
        let mut message = Publish::new(topic, QoS::AtLeastOnce, message);
        message.retain = retain;
        self.ask(Request::Publish(message))
    }

    /// Leaves in order, after all that was said before.
    pub fn leave(&self) -> Result<(), Full> {
        self.ask(Request::Disconnect(Disconnect))
    }

    fn ask(&self, request: Request) -> Result<(), Full> {
        self.0.try_send(request).map_err(|_| Full)
    }
}

/// What bytes go through.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type Wire = Framed<Box<dyn Stream>, Cut>;

/// A connection, which is made when it is first asked what is heard.
pub struct Connection {
    /// What may be changed before it is made again.
    pub options: Options,
    wire: Option<(Wire, Interval)>,
    /// What was said and heard, and not acknowledged.
    state: MqttState,
    /// What an earlier connection did not get acknowledged.
    again: VecDeque<Request>,
    asked: mpsc::Receiver<Request>,
}

/// A connection, and what speaks over it.
pub fn open(options: Options) -> (Mouth, Connection) {
    let (ask, asked) = mpsc::channel(options.queue);
    let connection = Connection {
        wire: None,
        state: MqttState::new(options.window, false),
        again: VecDeque::new(),
        asked,
        options,
    };
    (Mouth(ask), connection)
}

impl Connection {
    /// What is heard next. After an error it is connected anew.
    pub async fn next(&mut self) -> Result<Heard, Broken> {
        let heard = self.hear().await;
        if heard.is_err() {
            self.give_up();
        }
        heard
    }

    async fn hear(&mut self) -> Result<Heard, Broken> {
        loop {
            if let Some(heard) = self.waiting() {
                return Ok(heard);
            }
            let Some((wire, ping)) = &mut self.wire else {
                timeout(PATIENCE, self.connect())
                    .await
                    .map_err(|_| Broken::Timeout)??;
                return Ok(Heard::Connected);
            };
            let crowded =
                self.state.inflight() >= self.options.window || self.state.collision.is_some();
            let step = tokio::select! {
                packet = wire.next() => Step::TakeIn(packet),
                _ = ping.tick() => Step::Send(Request::PingReq(PingReq)),
                request = next(&mut self.again, &mut self.asked), if !crowded => Step::Send(request),
            };
            timeout(PATIENCE, step.go(wire, &mut self.state))
                .await
                .map_err(|_| Broken::Timeout)??;
        }
    }

    /// What was heard and not passed on.
    fn waiting(&mut self) -> Option<Heard> {
        while let Some(event) = self.state.events.pop_front() {
            match event {
                Event::Incoming(Packet::Publish(message)) => return Some(Heard::Said(message)),
                Event::Incoming(Packet::SubAck(_)) => return Some(Heard::Subscribed),
                Event::Outgoing(Outgoing::Disconnect) => return Some(Heard::Left),
                _ => {}
            }
        }
        None
    }

    async fn connect(&mut self) -> Result<(), Broken> {
        let options = &self.options;
        let stream = TcpStream::connect((options.host.as_str(), options.port)).await?;
        // What is said goes out at once: held back until the broker has acknowledged what went
        // before, a short message takes forty milliseconds.
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &options.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from(options.host.clone())?;
                Box::new(
                    TlsConnector::from(tls.clone())
                        .connect(name, stream)
                        .await?,
                )
            }
        };
        let mut wire = Framed::new(stream, Cut::new(options.longest));
        let mut hello = Connect::new(&options.client);
        hello.keep_alive = u16::try_from(options.keep_alive.as_secs()).unwrap_or(u16::MAX);
        hello.clean_session = options.clean;
        hello.last_will = options.will.clone();
        if let Some((user, password)) = &options.login {
            hello.set_login(user, password);
        }
        wire.send(Packet::Connect(hello)).await?;
        let welcome = match wire.next().await.ok_or(Broken::Closed)?? {
            Packet::ConnAck(welcome) => welcome,
            other => return Err(Broken::Protocol(format!("{other:?}"))),
        };
        if welcome.code != ConnectReturnCode::Success {
            return Err(Broken::Refused(welcome.code));
        }
        if !welcome.session_present {
            // The broker knows nothing of what it was told before.
            self.again.clear();
        }
        // At every connect: a broker may have forgotten what it was asked for.
        let filters = options.filters.iter();
        let filters = filters.map(|path| SubscribeFilter::new(path.clone(), QoS::AtLeastOnce));
        let subscribe = Request::Subscribe(Subscribe::new_many(filters));
        if let Some(packet) = self.state.handle_outgoing_packet(subscribe)? {
            wire.send(packet).await?;
        }
        let every = options.keep_alive;
        let mut ping = interval_at(Instant::now() + every, every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.wire = Some((wire, ping));
        Ok(())
    }

    /// The connection is no more: what was not acknowledged is said again over the next.
    fn give_up(&mut self) {
        self.wire = None;
        let mut again: Vec<Request> = self.state.clean();
        for request in &mut again {
            if let Request::Publish(message) = request {
                message.dup = true;
            }
        }
        // One that waited for another's number gets one of its own.
        again.extend(self.state.collision.take().map(|mut message| {
            message.pkid = 0;
            Request::Publish(message)
        }));
        let later = std::mem::replace(&mut self.again, again.into());
        self.again.extend(later);
        // What was heard counts; the rest was about the connection.
        let events = &mut self.state.events;
        events.retain(|event| matches!(event, Event::Incoming(Packet::Publish(_))));
    }
}

/// What is done next.
enum Step {
    TakeIn(Option<Result<Packet, rumqttc::Error>>),
    Send(Request),
}

impl Step {
    async fn go(self, wire: &mut Wire, state: &mut MqttState) -> Result<(), Broken> {
        match self {
            Self::TakeIn(first) => take_in(wire, state, first).await?,
            Self::Send(request) => {
                if let Some(packet) = state.handle_outgoing_packet(request)? {
                    wire.feed(packet).await?;
                }
            }
        }
        Ok(wire.flush().await?)
    }
}

/// Takes in a packet, and what has come with it.
async fn take_in(
    wire: &mut Wire,
    state: &mut MqttState,
    first: Option<Result<Packet, rumqttc::Error>>,
) -> Result<(), Broken> {
    let mut packet = first;
    for _ in 1..BURST {
        answer(wire, state, packet).await?;
        match wire.next().now_or_never() {
            Some(next) => packet = next,
            None => return Ok(()),
        }
    }
    answer(wire, state, packet).await
}

async fn answer(
    wire: &mut Wire,
    state: &mut MqttState,
    packet: Option<Result<Packet, rumqttc::Error>>,
) -> Result<(), Broken> {
    let packet = packet.ok_or(Broken::Closed)??;
    if let Some(answer) = state.handle_incoming_packet(packet)? {
        wire.feed(answer).await?;
    }
    Ok(())
}

/// What is to be said next.
async fn next(again: &mut VecDeque<Request>, asked: &mut mpsc::Receiver<Request>) -> Request {
    if let Some(request) = again.pop_front() {
        return request;
    }
    match asked.recv().await {
        Some(request) => request,
        // Nobody says anything any more; what others say is still heard.
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::{ConnAck, PubAck, SubAck, SubscribeReasonCode};
    use tokio::net::TcpListener;

    use super::*;

    const LONGEST: usize = 4096;
    type Broker = Framed<TcpStream, rumqttc::Codec>;

    async fn listen() -> (TcpListener, Options) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = Options {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            tls: None,
            client: "one".to_owned(),
            clean: false,
            login: None,
            will: None,
            keep_alive: Duration::from_secs(30),
            filters: vec!["a/#".to_owned()],
            queue: 10,
            window: 10,
            longest: LONGEST,
        };
        (listener, options)
    }

    /// A broker's side of a connection that was let in and has subscribed.
    async fn serve(listener: &TcpListener, present: bool) -> Broker {
        let codec = rumqttc::Codec {
            max_incoming_size: usize::MAX,
            max_outgoing_size: usize::MAX,
        };
        let (stream, _) = listener.accept().await.unwrap();
        let mut wire = Framed::new(stream, codec);
        let hello = wire.next().await.unwrap().unwrap();
        assert!(matches!(hello, Packet::Connect(_)), "{hello:?}");
        let welcome = ConnAck::new(ConnectReturnCode::Success, present);
        wire.send(Packet::ConnAck(welcome)).await.unwrap();
        let asked = wire.next().await.unwrap().unwrap();
        let Packet::Subscribe(asked) = asked else {
            panic!("{asked:?}");
        };
        let codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
        let answer = Packet::SubAck(SubAck::new(asked.pkid, codes));
        wire.send(answer).await.unwrap();
        wire
    }

    fn message(id: u16, bytes: usize) -> Packet {
        let mut message = Publish::new("a/b", QoS::AtLeastOnce, vec![b'x'; bytes]);
        message.pkid = id;
        Packet::Publish(message)
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_is_acknowledged_and_the_next_one_is_heard() {
        let (listener, options) = listen().await;
        let (_mouth, mut connection) = open(options);
        let broker = tokio::spawn(async move {
            let mut wire = serve(&listener, true).await;
            for (id, bytes) in [(1, 50_000_000), (2, 10)] {
                wire.send(message(id, bytes)).await.unwrap();
                let answer = wire.next().await.unwrap().unwrap();
                assert_eq!(answer, Packet::PubAck(PubAck::new(id)));
            }
            wire
        });
        let mut lengths = Vec::new();
        while lengths.len() < 2 {
            if let Heard::Said(message) = connection.next().await.unwrap() {
                lengths.push(message.payload.len());
            }
        }
        assert!(
            lengths[0] > LONGEST - 20 && lengths[0] < LONGEST,
            "{lengths:?}"
        );
        assert_eq!(lengths[1], 10);
        tokio::select! {
            _ = broker => {}
            broken = connection.next() => panic!("{broken:?}"),
        }
    }

    #[tokio::test]
    async fn what_was_not_acknowledged_is_said_again_over_the_next_connection() {
        let (listener, options) = listen().await;
        let (mouth, mut connection) = open(options);
        for word in ["first", "second"] {
            mouth.say("a/c".to_owned(), false, word.into()).unwrap();
        }
        let broker = tokio::spawn(async move {
            let heard = async |wire: &mut Broker| match wire.next().await.unwrap().unwrap() {
                Packet::Publish(message) => message,
                other => panic!("{other:?}"),
            };
            let mut wire = serve(&listener, true).await;
            assert_eq!(heard(&mut wire).await.payload, "first");
            drop(wire);
            let mut wire = serve(&listener, true).await;
            let first = heard(&mut wire).await;
            assert_eq!((first.payload.as_ref(), first.dup), (&b"first"[..], true));
            assert_eq!(heard(&mut wire).await.payload, "second");
            wire
        });
        let hearing = async {
            loop {
                // The first connection breaks.
                let _ = connection.next().await;
            }
        };
        tokio::select! {
            told = broker => drop(told.unwrap()),
            () = hearing => {}
        }
    }

    #[tokio::test]
    async fn who_is_not_let_in_is_told_why() {
        let (listener, options) = listen().await;
        let (_mouth, mut connection) = open(options);
        let refusing = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut wire = Framed::new(stream, Cut::new(LONGEST));
            wire.next().await.unwrap().unwrap();
            let answer = ConnAck::new(ConnectReturnCode::NotAuthorized, false);
            wire.send(Packet::ConnAck(answer)).await.unwrap();
        };
        let (told, ()) = tokio::join!(connection.next(), refusing);
        let refused = Broken::Refused(ConnectReturnCode::NotAuthorized);
        assert_eq!(told.unwrap_err().to_string(), refused.to_string());
    }
}
