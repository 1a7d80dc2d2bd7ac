//! The connection to the broker: kept up, subscribed at every connect, never waited for.

use std::{path::Path, sync::Arc, time::Duration};

use rumqttc::{
    AsyncClient, ClientError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS,
    SubscribeFilter, TlsConfiguration, Transport,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sandlot_api::robot::wire::{Filter, LONGEST_MESSAGE, LONGEST_PACKET, Topic};
use sandlot_decide::backoff::Backoff;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::settings::{Remote, Tls};

/// How many messages of robots may wait for the loop; then the broker is asked to wait.
const BACKLOG: usize = 512;
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
        payload: bytes::Bytes,
        retained: bool,
    },
}

/// Says things to robots.
#[derive(Clone)]
pub(crate) struct Mouth(AsyncClient);

impl Mouth {
    /// Says something, if there is room; what does not fit must be said later. What is too long for
    /// those who listen is not said at all.
    pub(crate) fn say(
        &self,
        topic: &Topic,
        payload: Vec<u8>,
        retain: bool,
    ) -> Result<(), ClientError> {
        if payload.len() > LONGEST_MESSAGE {
            let bytes = payload.len();
            tracing::error!(%topic, bytes, "a message is too long to be said, and is left out");
            return Ok(());
        }
        let qos = QoS::AtLeastOnce;
        self.0.try_publish(topic.to_string(), qos, retain, payload)
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
    let mut options = MqttOptions::new(client, &remote.host, remote.port);
    options
        .set_keep_alive(Duration::from_secs(15))
        .set_clean_session(false)
        .set_inflight(WINDOW)
        .set_max_packet_size(LONGEST_PACKET, LONGEST_PACKET);
    if let Some(user) = &remote.user {
        options.set_credentials(user, &remote.password);
    }
    if let Some(tls) = &remote.tls {
        options.set_transport(transport(tls)?);
    }
    let (mouth, mut wire) = AsyncClient::new(options, OUTGOING);
    // What is said goes out at once: held back until the broker has acknowledged what went before, a
    // short message takes forty milliseconds.
    wire.network_options.set_tcp_nodelay(true);
    let (to, heard) = mpsc::channel(BACKLOG);
    let keeping = keep(wire, mouth.clone(), remote.tls.clone(), to, cancel);
    Ok((Mouth(mouth), heard, keeping))
}

async fn keep(
    mut wire: EventLoop,
    mouth: AsyncClient,
    tls: Option<Tls>,
    to: mpsc::Sender<Heard>,
    cancel: CancellationToken,
) {
    let mut failures = 0;
    loop {
        let event = tokio::select! {
            event = wire.poll() => event,
            () = cancel.cancelled() => {
                leave(&mut wire, &mouth).await;
                return;
            }
        };
        let heard = match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                failures = 0;
                let filters = Filter::BRIDGE
                    .map(|filter| SubscribeFilter::new(filter.0.to_owned(), QoS::AtLeastOnce));
                // The queue may be full of what could not be said; then the connection is of no
                // use yet, and the next one will be.
                if mouth.try_subscribe_many(filters).is_err() {
                    tracing::warn!("no room to subscribe; connecting again");
                    wire.clean();
                    continue;
                }
                continue;
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => Heard::Connected,
            Ok(Event::Incoming(Packet::Publish(message))) => Heard::Said {
                topic: message.topic,
                payload: message.payload,
                retained: message.retain,
            },
            Ok(_) => continue,
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    tracing::warn!(%error, "the connection to the broker is gone; connecting again");
                }
                // Certificates may have been renewed since.
                if let Some(tls) = &tls
                    && let Ok(fresh) = transport(tls)
                {
                    wire.mqtt_options.set_transport(fresh);
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

/// Leaves in order: what is queued is sent first, within reason.
async fn leave(wire: &mut EventLoop, mouth: &AsyncClient) {
    if mouth.try_disconnect().is_err() {
        return;
    }
    let sending = async {
        while let Ok(event) = wire.poll().await {
            if matches!(event, Event::Outgoing(Outgoing::Disconnect)) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), sending).await;
}

fn transport(tls: &Tls) -> Result<Transport, TlsError> {
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
    Ok(Transport::tls_with_config(TlsConfiguration::Rustls(
        Arc::new(config),
    )))
}
