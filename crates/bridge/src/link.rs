//! The connection to the broker: kept up, subscribed at every connect, never waited for.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use rumqttc::Publish;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sandlot_api::robot::wire::{Filter, LONGEST_MESSAGE, LONGEST_PACKET, Topic};
use sandlot_decide::backoff::Backoff;
use sandlot_mqtt::{Connection, Full};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::settings::{Remote, Tls};

/// How many messages of robots may wait for the loop; then the broker is asked to wait.
const BACKLOG: usize = 512;
/// How many bytes they may have together.
const BACKLOG_BYTES: usize = 32 * 1024 * 1024;
/// How many messages to robots may wait for the connection.
const OUTGOING: usize = 1024;
/// How many of them are on their way at once.
const WINDOW: u16 = 512;
/// Waits between attempts to connect.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(10),
};

/// What the broker brings.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The connection is there, and subscribed to: a new one.
    Connected,
    /// The connection is gone.
    Gone,
    /// Somebody said something.
    Said {
        topic: String,
        payload: Bytes,
        retained: bool,
        /// Its share of what may wait.
        _room: OwnedSemaphorePermit,
    },
    /// Somebody said more at once than anybody may.
    TooLong { topic: String },
}

/// Says things to robots.
#[derive(Clone)]
pub(crate) struct Mouth(sandlot_mqtt::Mouth);

impl Mouth {
    /// Says something, if there is room; what does not fit must be said later. What is too long for
    /// those who listen is not said at all.
    pub(crate) fn say(&self, topic: &Topic, payload: Vec<u8>, retain: bool) -> Result<(), Full> {
        if payload.len() > LONGEST_MESSAGE {
            let bytes = payload.len();
            tracing::error!(%topic, bytes, "a message is too long to be said, and is left out");
            return Ok(());
        }
        self.0.say(topic.to_string(), retain, payload)
    }
}

/// Why a connection cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{file} cannot be read as PEM: {error}")]
    File {
        /// The file.
        file: String,
        /// Why.
        error: String,
    },
    /// They do not fit together.
    #[error("the certificates cannot be used: {0}")]
    Config(#[from] rustls::Error),
}

/// Starts keeping a connection up.
pub(crate) fn open(
    remote: &Remote,
    client: &str,
    cancel: CancellationToken,
) -> Result<
    (
        Mouth,
        mpsc::Receiver<Heard>,
        impl Future<Output = ()> + use<>,
    ),
    TlsError,
> {
    let login = remote.user.clone();
    let (mouth, connection) = sandlot_mqtt::open(sandlot_mqtt::Options {
        host: remote.host.clone(),
        port: remote.port,
        tls: remote.tls.as_ref().map(transport).transpose()?,
        client: client.to_owned(),
        clean: false,
        login: login.map(|user| (user, remote.password.clone())),
        will: None,
        keep_alive: Duration::from_secs(15),
        filters: Filter::BRIDGE.map(|filter| filter.0.to_owned()).into(),
        queue: OUTGOING,
        window: WINDOW,
        longest: LONGEST_PACKET,
    });
    let (to, heard) = mpsc::channel(BACKLOG);
    let keeping = keep(connection, mouth.clone(), remote.tls.clone(), to, cancel);
    Ok((Mouth(mouth), heard, keeping))
}

async fn keep(
    mut connection: Connection,
    mouth: sandlot_mqtt::Mouth,
    tls: Option<Tls>,
    to: mpsc::Sender<Heard>,
    cancel: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(BACKLOG_BYTES));
    let mut failures = 0;
    loop {
        let event = tokio::select! {
            event = connection.next() => event,
            () = cancel.cancelled() => {
                leave(&mut connection, &mouth).await;
                return;
            }
        };
        let heard = match event {
            Ok(sandlot_mqtt::Heard::Connected) => {
                failures = 0;
                continue;
            }
            Ok(sandlot_mqtt::Heard::Subscribed) => Heard::Connected,
            Ok(sandlot_mqtt::Heard::Said(message)) => passed_on(message, &room).await,
            Ok(sandlot_mqtt::Heard::Left) => return,
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    tracing::warn!(%error, "the connection to the broker is gone; connecting again");
                }
                // Certificates may have been renewed since.
                if let Some(tls) = &tls
                    && let Ok(fresh) = transport(tls)
                {
                    connection.options.tls = Some(fresh);
                }
                if failures == 1 && to.send(Heard::Gone).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(RETRY.after(failures)) => {}
                    () = cancel.cancelled() => return,
                }
                continue;
            }
        };
        if to.send(heard).await.is_err() {
            return;
        }
    }
}

/// A message as it is passed on, once there is room for it.
async fn passed_on(message: Publish, room: &Arc<Semaphore>) -> Heard {
    let (topic, payload) = (message.topic, message.payload);
    if payload.len() > LONGEST_MESSAGE {
        return Heard::TooLong { topic };
    }
    // No message is longer than what there is room for; and the room is never closed.
    let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let Ok(place) = room.clone().acquire_many_owned(bytes).await else {
        return Heard::TooLong { topic };
    };
    Heard::Said {
        topic,
        // Of its own: what was read with it, which may have been long, is not kept for it.
        payload: Bytes::copy_from_slice(&payload),
        retained: message.retain,
        _room: place,
    }
}

/// Leaves in order: what is queued is sent first, within reason.
async fn leave(connection: &mut Connection, mouth: &sandlot_mqtt::Mouth) {
    if mouth.leave().is_err() {
        return;
    }
    let sending = async {
        while let Ok(event) = connection.next().await {
            if matches!(event, sandlot_mqtt::Heard::Left) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), sending).await;
}

fn transport(tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    let failed = |file: &Path, error: &dyn std::fmt::Display| TlsError::File {
        file: file.display().to_string(),
        error: error.to_string(),
    };
    let certificates = |file: &Path| -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let read = CertificateDer::pem_file_iter(file).map_err(|error| failed(file, &error))?;
        read.collect::<Result<_, _>>()
            .map_err(|error| failed(file, &error))
    };
    let mut roots = RootCertStore::empty();
    if let Some(authority) = &tls.authority {
        for certificate in certificates(authority)? {
            roots.add(certificate)?;
        }
    } else {
        for certificate in rustls_native_certs::load_native_certs().certs {
            // One that cannot be used vouches for nobody.
            let _ = roots.add(certificate);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, &error))?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    Ok(Arc::new(config))
}
