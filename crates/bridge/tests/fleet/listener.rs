//! Somebody beside the bridge who hears what robots report.

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use sandlot_api::robot::wire::{News, Reports, Topic};
use sandlot_bridge::broker::BRIDGE;

use crate::stage::{PATIENCE, Stage};

/// Who listens.
pub(crate) struct Listener {
    /// Kept, so that the connection is.
    _client: AsyncClient,
    wire: EventLoop,
}

impl Listener {
    /// Listens from now on.
    pub(crate) async fn new(stage: &Stage) -> Self {
        let port = stage.broker.address.port();
        let mut options = MqttOptions::new("listener", "127.0.0.1", port);
        options.set_credentials(BRIDGE, "bridge");
        // It says nothing while a test looks elsewhere, however long that takes.
        options.set_keep_alive(10 * PATIENCE);
        options.set_max_packet_size(2 << 20, 2 << 20);
        let (client, mut wire) = AsyncClient::new(options, 64);
        let filter = "k8s4r/robots/+/reports";
        client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        while !matches!(
            wire.poll().await.unwrap(),
            Event::Incoming(Packet::SubAck(_))
        ) {}
        Self {
            _client: client,
            wire,
        }
    }

    /// Waits until a robot has reported something of a task.
    pub(crate) async fn until(&mut self, robot: &str, event: &str) {
        let topic = Topic::Reports(robot.to_owned()).to_string();
        let hearing = async {
            loop {
                if let Event::Incoming(Packet::Publish(message)) = self.wire.poll().await.unwrap()
                    && message.topic == topic
                    && says(&message.payload, event)
                {
                    return;
                }
            }
        };
        let heard = tokio::time::timeout(PATIENCE, hearing).await;
        heard.unwrap_or_else(|_| panic!("{robot} does not report {event}"));
    }
}

fn says(payload: &[u8], event: &str) -> bool {
    let reports: Reports = serde_json::from_slice(payload).unwrap();
    reports.reports.iter().any(|report| match &report.news {
        News::Task(task) => task.event.as_deref() == Some(event),
        _ => false,
    })
}
