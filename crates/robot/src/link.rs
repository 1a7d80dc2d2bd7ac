//! A connection to the broker. One that breaks is over: the next has a last will with a number of
//! its own, so that the will of the one before says nothing of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use rumqttc::{ConnectReturnCode, LastWill, Publish, QoS};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sandlot_api::robot::{
    names::BOOTSTRAP_LOGIN,
    wire::{LONGEST_MESSAGE, LONGEST_PACKET, Presence, PresenceState, Topic},
};
use sandlot_mqtt::{Broken, Connection, Mouth, Options};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::settings::{Settings, Tls};

/// So many messages may wait to be sent; what finds no room is said again later.
const OUTGOING: usize = 64;
/// So many messages may wait to be read; then the broker waits.
const INCOMING: usize = 64;
/// So many messages may be on their way at once.
const WINDOW: u16 = 100;
/// After how long of silence the broker says that the robot is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What a robot with a credential of its own listens to.
const OWN: [fn(String) -> Topic; 6] = [
    Topic::Response,
    Topic::Desired,
    Topic::Acknowledged,
    Topic::LogRequest,
    Topic::Dispatch,
    Topic::State,
];
/// What a robot of a server of the published protocol listens to, of both revisions.
const PUBLISHED: [fn(String) -> Topic; 6] = [
    Topic::Response,
    Topic::FirstResponse,
    Topic::Dispatch,
    Topic::FirstDispatch,
    Topic::State,
    Topic::Words,
];

/// What is heard over a connection.
#[derive(Debug)]
pub(crate) enum Heard {
    /// It stands.
    Connected,
    /// It broke, for this reason.
    Lost(String),
    /// The broker does not let the robot in.
    Refused,
    /// Somebody said something.
    Message(Topic, Bytes),
}

/// Who connects.
pub(crate) enum Login<'a> {
    /// A robot that is about to register, with the token if it was given one.
    Bootstrap(Option<&'a str>),
    /// A robot that a server of the published protocol knows, with the token if it was given one.
    Published(Option<&'a str>),
    /// The robot itself, over its connection of this number.
    Own {
        credential: &'a str,
        /// The end of its session's name.
        client: &'a str,
        session: i64,
    },
}

/// A connection, until it is dropped.
pub(crate) struct Link {
    mouth: Mouth,
    heard: mpsc::Receiver<Heard>,
    stop: CancellationToken,
}

impl Link {
    /// Connects. The last will says that the robot is gone when it is not heard of any more.
    pub(crate) fn open(settings: &Settings, login: &Login<'_>) -> Result<Self, LinkError> {
        let robot = &settings.robot;
        let broker = &settings.broker;
        let name = match login {
            Login::Own { client, .. } => format!("k8s4r-agent-{robot}-{client}"),
            _ => format!("k8s4r-agent-{robot}"),
        };
        let names: &[fn(String) -> Topic] = match login {
            Login::Bootstrap(_) => &[Topic::Response, Topic::FirstResponse],
            Login::Published(_) => &PUBLISHED,
            Login::Own { .. } => &OWN,
        };
        let (user, will) = match login {
            Login::Bootstrap(token) | Login::Published(token) => {
                (token.map(|token| (BOOTSTRAP_LOGIN, token)), None)
            }
            Login::Own {
                credential,
                session,
                ..
            } => {
                let will = LastWill::new(
                    Topic::Presence(robot.clone()).to_string(),
                    presence(PresenceState::ConnectionBroken, *session),
                    QoS::AtLeastOnce,
                    true,
                );
                (Some((robot.as_str(), *credential)), Some(will))
            }
        };
        let filters = names.iter().map(|name| name(robot.clone()).to_string());
        let encrypted = broker.tls.then(|| transport(&settings.tls)).transpose()?;
        let (mouth, connection) = sandlot_mqtt::open(Options {
            host: broker.host.clone(),
            port: broker.port,
            tls: encrypted,
            client: name,
            clean: matches!(login, Login::Bootstrap(_)),
            login: user.map(|(user, password)| (user.to_owned(), password.to_owned())),
            will,
            keep_alive: KEEP_ALIVE,
            filters: filters.collect(),
            queue: OUTGOING,
            window: WINDOW,
            longest: LONGEST_PACKET,
        });
        let (sender, heard) = mpsc::channel(INCOMING);
        let stop = CancellationToken::new();
        let ears = Ears {
            sender,
            stop: stop.clone(),
        };
        tokio::spawn(ears.listen(connection));
        Ok(Self { mouth, heard, stop })
    }

    /// What is heard next.
    pub(crate) async fn next(&mut self) -> Heard {
        match self.heard.recv().await {
            Some(heard) => heard,
            // Its sender goes only when this is dropped.
            None => std::future::pending().await,
        }
    }

    /// Says something; `false` when there is no room for it now.
    pub(crate) fn say(&self, topic: &Topic, message: impl Into<Vec<u8>>, retain: bool) -> bool {
        let said = self.mouth.say(topic.to_string(), retain, message.into());
        said.is_ok()
    }

    /// Leaves in order: the broker forgets the last will.
    pub(crate) async fn leave(self) {
        // What does not get out in time is what a broken connection would have kept too.
        let _ = self.mouth.leave();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a robot's presence says.
pub(crate) fn presence(state: PresenceState, session: i64) -> Vec<u8> {
    let presence = Presence {
        state,
        session,
        at: (state != PresenceState::ConnectionBroken).then(Timestamp::now),
    };
    // A few plain fields are always JSON.
    serde_json::to_vec(&presence).unwrap_or_default()
}

/// Who listens.
struct Ears {
    sender: mpsc::Sender<Heard>,
    stop: CancellationToken,
}

impl Ears {
    async fn listen(self, mut connection: Connection) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(async {
            loop {
                match connection.next().await {
                    Ok(sandlot_mqtt::Heard::Connected) => self.tell(Heard::Connected).await,
                    Ok(sandlot_mqtt::Heard::Said(said)) => self.pass_on(said).await,
                    Ok(sandlot_mqtt::Heard::Subscribed) => {}
                    Ok(sandlot_mqtt::Heard::Left) => return,
                    Err(error) => return self.tell(what_broke(&error)).await,
                }
            }
        })
        .await;
    }

    async fn pass_on(&self, said: Publish) {
        let Some(topic) = Topic::read(&said.topic) else {
            return;
        };
        if said.payload.len() > LONGEST_MESSAGE {
            tracing::warn!(%topic, "a message is too long and is not listened to");
            return;
        }
        self.tell(Heard::Message(topic, said.payload)).await;
    }

    async fn tell(&self, heard: Heard) {
        // Who is not there any more does not want to know.
        let _ = self.sender.send(heard).await;
    }
}

fn what_broke(error: &Broken) -> Heard {
    match error {
        Broken::Refused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => Heard::Refused,
        error => Heard::Lost(error.to_string()),
    }
}

/// Why a connection cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// A certificate or key cannot be had.
    #[error("{0} cannot be read as PEM: {1}")]
    Pem(String, rustls::pki_types::pem::Error),
    /// They make no sense together.
    #[error("the certificates cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

fn transport(tls: &Tls) -> Result<Arc<rustls::ClientConfig>, LinkError> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = |path: &std::path::Path| {
        let shown = path.display().to_string();
        move |error| LinkError::Pem(shown.clone(), error)
    };
    match &tls.authorities {
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).map_err(pem(path))? {
                roots.add(certificate.map_err(pem(path))?)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match &tls.identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_file_iter(certificate).map_err(pem(certificate))?;
            let chain = chain
                .collect::<Result<Vec<_>, _>>()
                .map_err(pem(certificate))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
            config.with_client_auth_cert(chain, key)?
        }
    };
    Ok(Arc::new(config))
}
