//! Who may come in, and what a robot may say and hear.

use std::sync::Arc;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS, SubscribeReasonCode};
use sandlot_api::robot::{Robot, RobotPhase};
use sandlot_bridge::Approval;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::stage::{PATIENCE, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_robot_waits_for_approval_where_that_is_asked_for() {
    let mut stage = Stage::set(|settings| settings.approval = Approval::Manual).await;
    stage.robot("arm-1", |_| {});
    let waits = |robot: &Robot| {
        let message = robot
            .status
            .as_ref()
            .and_then(|status| status.message.as_deref());
        message.is_some_and(|message| message.contains("approval"))
    };
    let robot = stage.until("arm-1", waits).await;
    assert_eq!(robot.status.unwrap().phase, Some(RobotPhase::Pending));
    let _: Robot = stage
        .change("arm-1", json!({ "spec": { "approved": true } }))
        .await;
    stage.phase("arm-1", RobotPhase::Online).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_robot_is_put_out() {
    let mut stage = Stage::set(|_| {}).await;
    stage.robot("arm-1", |_| {});
    stage.works("arm-1").await;
    let wish = json!({ "spec": { "credential": { "revoked": true } } });
    let _: Robot = stage.change("arm-1", wish).await;
    stage.phase("arm-1", RobotPhase::Offline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_robot_that_lives_registers_again() {
    let mut stage = Stage::set(|_| {}).await;
    stage.robot("arm-1", |_| {});
    let robot = stage.phase("arm-1", RobotPhase::Online).await;
    stage
        .api::<Robot>()
        .delete("arm-1", &Default::default())
        .await
        .unwrap();
    let again = |found: &Robot| {
        let phase = found.status.as_ref().and_then(|status| status.phase);
        found.metadata.uid != robot.metadata.uid && phase == Some(RobotPhase::Online)
    };
    stage.until("arm-1", again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_takes_a_robots_name_is_not_in_its_way() {
    let mut stage = Stage::set(|_| {}).await;
    let port = stage.broker.address.port();
    let mut options = MqttOptions::new("k8s4r-agent-arm-1", "127.0.0.1", port);
    // It leaves a session behind, and would take over one that is there.
    options.set_clean_session(false);
    let (_client, mut wire) = AsyncClient::new(options, 16);
    while !matches!(
        wire.poll().await.unwrap(),
        Event::Incoming(Packet::ConnAck(_))
    ) {}
    tokio::spawn(async move { while wire.poll().await.is_ok() {} });
    stage.robot("arm-1", |_| {});
    stage.works("arm-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_hears_nothing_that_is_not_for_everybody() {
    let stage = Stage::set(|_| {}).await;
    let options = MqttOptions::new("stranger", "127.0.0.1", stage.broker.address.port());
    let (client, mut wire) = AsyncClient::new(options, 16);
    for filter in [
        "#",
        "k8s4r/robots/+/desired",
        "k8s4r/robots/arm-1/desired",
        "k8s4r/register",
    ] {
        client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        let answer = async {
            loop {
                if let Event::Incoming(Packet::SubAck(answer)) = wire.poll().await.unwrap() {
                    return answer;
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap();
        assert_eq!(
            answer.return_codes,
            [SubscribeReasonCode::Failure],
            "{filter}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_is_counted_and_keeps_nobody_from_going_on() {
    let pages = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    pages.set_nonblocking(true).unwrap();
    let address = pages.local_addr().unwrap();
    let mut stage = Stage::set(|settings| settings.serve = Some(Arc::new(pages))).await;
    stage.robot("arm-1", |_| {});
    let mut options = MqttOptions::new("loud", "127.0.0.1", stage.broker.address.port());
    options.set_max_packet_size(usize::MAX, 64 << 20);
    let (client, mut wire) = AsyncClient::new(options, 16);
    // A little too long, and more than any packet that is kept.
    for bytes in [(1 << 20) + 1, 2 << 20, 40 << 20, 1] {
        let message = vec![b'x'; bytes];
        let said = client.publish("k8s4r/register", QoS::AtLeastOnce, false, message);
        said.await.unwrap();
        let answer = async {
            loop {
                let event = wire.poll().await.expect("the connection stays");
                if matches!(event, Event::Incoming(Packet::PubAck(_))) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap();
    }
    let mut page = TcpStream::connect(address).await.unwrap();
    let ask = "GET /metrics HTTP/1.0\r\nHost: bridge\r\n\r\n";
    page.write_all(ask.as_bytes()).await.unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).await.unwrap();
    let counted = r#"k8s4r_broker_messages_refused_total{reason="too_long"} 3"#;
    assert!(text.contains(counted), "{text}");
    stage.works("arm-1").await;
}
