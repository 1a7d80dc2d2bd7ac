use serde_json::json;

use super::{upstream::Status, *};
use crate::robot::{TaskState, is_robot_id};

#[test]
fn every_topic_is_read_as_it_is_written() {
    let id = || "arm-1.site".to_owned();
    let uid = || "7f3c-11".to_owned();
    let topics = [
        Topic::Register,
        Topic::Heartbeat,
        Topic::OwnRegister(id()),
        Topic::OwnHeartbeat(id()),
        Topic::Response(id()),
        Topic::FirstResponse(id()),
        Topic::Presence(id()),
        Topic::Desired(id()),
        Topic::Reports(id()),
        Topic::Acknowledged(id()),
        Topic::Credential(id()),
        Topic::LogRequest(id()),
        Topic::LogChunk(id(), uid()),
        Topic::Dispatch(id()),
        Topic::FirstDispatch(id()),
        Topic::Words(id()),
        Topic::Status(id(), uid()),
        Topic::FirstStatus(id(), uid()),
        Topic::State(id()),
    ];
    for topic in topics {
        assert_eq!(Topic::read(&topic.to_string()), Some(topic));
    }
}

#[test]
fn what_can_be_no_robot_is_no_topic() {
    for id in [
        "",
        "+",
        "#",
        "A",
        "a_b",
        "-a",
        "a-",
        "a..b",
        "ä",
        "sandlot-bridge",
        "bootstrap",
        &"a".repeat(64),
    ] {
        assert!(!is_robot_id(id), "{id}");
        assert_eq!(Topic::read(&format!("k8s4r/robots/{id}/reports")), None);
    }
    for topic in [
        "",
        "k8s4r",
        "k8s4r/robots/a",
        "k8s4r/robots/a/b/c/d",
        "/k8s4r/register",
    ] {
        assert_eq!(Topic::read(topic), None, "{topic}");
    }
}

#[test]
fn a_registration_of_the_published_agents_is_read() {
    let sent =
        json!({ "robotId": "arm-1", "token": "t", "deviceInfo": { "os": "linux" }, "more": 1 });
    let read: Registration = serde_json::from_value(sent).unwrap();
    assert_eq!(read.robot_id, "arm-1");
    assert_eq!(read.protocol, None);
    assert!(
        !format!("{read:?}").contains("\"t\""),
        "a token is never printed"
    );
}

#[test]
fn the_published_words_for_a_tasks_state_are_understood() {
    let status = |state: &str, exit: Option<i32>| Status {
        task_uid: "u".to_owned(),
        state: state.to_owned(),
        exit_code: exit,
        ..Status::default()
    };
    for (state, exit, meant, code) in [
        ("pending", Some(0), Some(TaskState::Accepted), None),
        ("running", Some(0), Some(TaskState::Running), None),
        ("exited", Some(0), Some(TaskState::Completed), Some(0)),
        ("exited", Some(3), Some(TaskState::Failed), Some(3)),
        ("complete", Some(0), Some(TaskState::Completed), Some(0)),
        ("dead", Some(0), Some(TaskState::Failed), Some(0)),
        ("dancing", None, None, None),
    ] {
        let report = status(state, exit).report(1, 0);
        assert_eq!(report.as_ref().map(|report| report.state), meant, "{state}");
        assert_eq!(report.and_then(|report| report.exit_code), code, "{state}");
    }
}

#[test]
fn what_a_robot_says_is_said_in_the_published_words_and_means_the_same() {
    let report = |state, exit_code, event: &str| TaskReport {
        state,
        exit_code,
        event: Some(event.to_owned()),
        ..TaskReport::default()
    };
    for (state, code, event, word, back) in [
        (
            TaskState::Accepted,
            None,
            "Assigned",
            "pending",
            TaskState::Accepted,
        ),
        (
            TaskState::Running,
            None,
            "Started",
            "running",
            TaskState::Running,
        ),
        (
            TaskState::Completed,
            Some(0),
            "Completed",
            "exited",
            TaskState::Completed,
        ),
        (
            TaskState::Failed,
            Some(3),
            "Failed",
            "exited",
            TaskState::Failed,
        ),
        (
            TaskState::Failed,
            Some(0),
            "Timeout",
            "failed",
            TaskState::Failed,
        ),
        (
            TaskState::Rejected,
            None,
            "StartFailed",
            "failed",
            TaskState::Failed,
        ),
    ] {
        let said = Status::of(
            &report(state, code, event),
            "arm-1",
            jiff::Timestamp::UNIX_EPOCH,
        );
        assert_eq!(said.state, word);
        assert_eq!(said.updated_at, json!("1970-01-01T00:00:00Z"));
        assert_eq!(said.report(1, 0).unwrap().state, back);
    }
}

#[test]
fn a_newer_document_is_read_as_far_as_it_is_understood() {
    let sent = json!({
        "version": 3, "epoch": "e", "colour": "blue",
        "tasks": [{
            "key": { "uid": "u", "generation": 1, "attempt": 0 }, "name": "t", "namespace": "n",
            "definition": { "name": "t", "driver": "raw_exec", "config": { "execConfig": { "command": "true" } } },
            "mood": "good",
        }],
    });
    let read: Desired = serde_json::from_value(sent).unwrap();
    assert_eq!(read.tasks[0].key.to_string(), "u.1.0");
    assert!(!read.tasks[0].stop);
}
