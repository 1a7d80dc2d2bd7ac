//! Somebody in the broker's place who says again what was said: later, and in another order.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use rand::RngExt;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, Publish, QoS};
use sandlot_bridge::broker::BRIDGE;

use crate::stage::PASSWORD;

/// Works until it is aborted.
pub(crate) async fn echo(port: u16) {
    let mut options = MqttOptions::new("echo", "127.0.0.1", port);
    options.set_credentials(BRIDGE, PASSWORD);
    options.set_max_packet_size(4 << 20, 4 << 20);
    let (client, mut wire) = AsyncClient::new(options, 1024);
    // What was said again is heard too, and must not be said for ever.
    let mut known = HashSet::new();
    loop {
        match wire.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                for topic in ["desired", "reports", "reports/ack", "heartbeat"] {
                    let filter = format!("k8s4r/robots/+/{topic}");
                    // With no room for it, less is said again.
                    let _ = client.try_subscribe(filter, QoS::AtLeastOnce);
                }
            }
            Ok(Event::Incoming(Packet::Publish(said))) => {
                let mut hash = DefaultHasher::new();
                (&said.topic, &said.payload).hash(&mut hash);
                if known.insert(hash.finish()) && rand::rng().random_bool(0.5) {
                    tokio::spawn(say_again(client.clone(), said));
                }
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn say_again(client: AsyncClient, said: Publish) {
    let times = rand::rng().random_range(1..3);
    for _ in 0..times {
        let late = rand::rng().random_range(0..2000);
        tokio::time::sleep(Duration::from_millis(late)).await;
        let _ = client.try_publish(&said.topic, QoS::AtLeastOnce, false, said.payload.clone());
    }
}
