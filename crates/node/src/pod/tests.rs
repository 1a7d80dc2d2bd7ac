//! The life of pods as decisions, played against made-up events.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::json;

use super::next::{Act, next};
use super::*;

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn at(seconds: i64) -> Timestamp {
    START + SignedDuration::from_secs(seconds)
}

fn pod(spec: serde_json::Value) -> Facts {
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec}))
            .unwrap();
    let mut facts = Facts::new(pod, "127.0.0.1".into(), START);
    facts.sandbox = Some(Some("10.64.0.2".into()));
    facts
}

fn start(container: &str) -> Act {
    Act::Start {
        container: container.into(),
    }
}

fn run(facts: &mut Facts, name: &str, now: Timestamp) {
    facts.on_start(name);
    facts.runs.get_mut(name).unwrap().attempt += 1;
    facts.on_running(name, now);
}

fn end(facts: &mut Facts, name: &str, code: i32, started: Timestamp, finished: Timestamp) {
    let end = End {
        code,
        signal: None,
        reason: "Error".into(),
        message: String::new(),
        started,
        finished,
    };
    facts.on_end(name, end);
}

fn state_of(facts: &Facts, now: Timestamp, index: usize) -> serde_json::Value {
    let status = status(facts, now);
    serde_json::to_value(
        status.container_statuses.unwrap()[index]
            .state
            .clone()
            .unwrap(),
    )
    .unwrap()
}

/// Puts a container into a running pod.
fn put_in(facts: &mut Facts, container: serde_json::Value) {
    let mut pod = facts.pod.clone();
    let spec = pod.spec.as_mut().unwrap();
    let list = spec.ephemeral_containers.get_or_insert_default();
    list.push(serde_json::from_value(container).unwrap());
    facts.on_changed(pod);
}

#[test]
fn a_container_put_into_a_running_pod_runs_once_and_does_not_hold_up_its_end() {
    let mut facts =
        pod(json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}));
    run(&mut facts, "c", at(1));
    assert_eq!(next(&facts, at(2)).acts, []);
    put_in(&mut facts, json!({"name": "d", "image": "i"}));
    assert_eq!(next(&facts, at(2)).acts, [start("d")]);
    run(&mut facts, "d", at(2));
    let told = status(&facts, at(3)).ephemeral_container_statuses.unwrap();
    assert!(told[0].state.as_ref().unwrap().running.is_some());
    assert_eq!((told[0].ready, told[0].started), (false, None));
    end(&mut facts, "d", 7, at(2), at(3));
    assert_eq!(next(&facts, at(3600)).acts, [], "it was run again");
    assert_eq!(status(&facts, at(4)).phase.as_deref(), Some("Running"));
    // One that still runs when the pod is over ends with it, and does not make it fail.
    put_in(&mut facts, json!({"name": "e", "image": "i"}));
    run(&mut facts, "e", at(5));
    end(&mut facts, "c", 0, at(1), at(6));
    let acts = next(&facts, at(6)).acts;
    assert!(matches!(&acts[..], [Act::Stop { container, .. }] if container == "e"));
    end(&mut facts, "e", 137, at(5), at(7));
    assert_eq!(next(&facts, at(7)).acts, [Act::Rest]);
    assert_eq!(status(&facts, at(7)).phase.as_deref(), Some("Succeeded"));
}

#[test]
fn whoever_wants_to_see_a_container_s_processes_waits_until_there_are_some() {
    let mut facts = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    let debugger = json!({"name": "d", "image": "i", "targetContainerName": "c"});
    put_in(&mut facts, debugger);
    assert_eq!(next(&facts, at(0)).acts, [start("c")]);
    let told = status(&facts, at(0)).ephemeral_container_statuses.unwrap();
    let waiting = told[0].state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert!(waiting.message.as_ref().unwrap().contains("\"c\""));
    run(&mut facts, "c", at(1));
    assert_eq!(next(&facts, at(1)).acts, [start("d")]);
}

#[test]
fn a_container_put_into_a_pod_may_use_no_more_than_the_pod() {
    let limited = |limits: serde_json::Value| json!({"name": "c", "resources": {"limits": limits}});
    let of = |containers: serde_json::Value| {
        let facts = pod(json!({"containers": containers}));
        limits_of_all(facts.pod.spec.as_ref().unwrap())
    };
    let both = of(json!([
        limited(json!({"cpu": "1", "memory": "1Ki"})),
        limited(json!({"memory": "2Ki"})),
    ]));
    assert_eq!((both.cpu_most, both.memory_bytes), (None, Some(3 << 10)));
}

#[test]
fn init_containers_run_one_after_the_other_and_a_sidecar_only_has_to_start() {
    let mut facts = pod(
        json!({"initContainers": [{"name": "a"}, {"name": "side", "restartPolicy": "Always"}, {"name": "b"}],
        "containers": [{"name": "c"}, {"name": "d"}]}),
    );
    assert_eq!(next(&facts, at(0)).acts, [start("a")]);
    run(&mut facts, "a", at(0));
    assert_eq!(next(&facts, at(1)).acts, []);
    end(&mut facts, "a", 0, at(0), at(1));
    assert_eq!(next(&facts, at(1)).acts, [start("side")]);
    run(&mut facts, "side", at(1));
    assert_eq!(next(&facts, at(1)).acts, [start("b")]);
    run(&mut facts, "b", at(1));
    end(&mut facts, "b", 0, at(1), at(2));
    assert_eq!(next(&facts, at(2)).acts, [start("c"), start("d")]);
}

#[test]
fn a_crashing_container_restarts_at_once_and_then_waits_ever_longer() {
    let mut facts = pod(json!({"containers": [{"name": "c"}]}));
    run(&mut facts, "c", at(0));
    end(&mut facts, "c", 1, at(0), at(1));
    assert_eq!(next(&facts, at(1)).acts, [start("c")]);
    run(&mut facts, "c", at(1));
    end(&mut facts, "c", 1, at(1), at(2));
    let decided = next(&facts, at(2));
    assert_eq!((decided.acts, decided.wake), (vec![], Some(at(12))));
    let waiting = &state_of(&facts, at(3), 0)["waiting"];
    assert_eq!(waiting["reason"], "CrashLoopBackOff");
    assert_eq!(
        waiting["message"],
        "back-off 10s restarting failed container=c pod=p_default(u)"
    );
    assert_eq!(next(&facts, at(12)).acts, [start("c")]);
}

#[test]
fn restart_policies_decide_whether_a_pod_succeeds_fails_or_goes_on() {
    for (policy, code, phase) in [
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 1, "Running"),
        ("Always", 0, "Running"),
    ] {
        let mut facts = pod(json!({"restartPolicy": policy, "containers": [{"name": "c"}]}));
        run(&mut facts, "c", at(0));
        end(&mut facts, "c", code, at(0), at(1));
        assert_eq!(
            status(&facts, at(1)).phase.as_deref(),
            Some(phase),
            "{policy} {code}"
        );
    }
}

#[test]
fn a_deleted_pod_is_asked_then_killed_then_removed() {
    let mut facts = pod(json!({"containers": [{"name": "c"}], "terminationGracePeriodSeconds": 5}));
    run(&mut facts, "c", at(0));
    facts.pod.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(15)));
    facts.pod.metadata.deletion_grace_period_seconds = Some(5);
    assert_eq!(
        next(&facts, at(10)).acts,
        [Act::Stop {
            container: "c".into(),
            deadline: at(15)
        }]
    );
    facts.runs.get_mut("c").unwrap().stopping = Some(Stopping {
        deadline: at(15),
        killed: false,
    });
    assert_eq!(next(&facts, at(11)).wake, Some(at(15)));
    assert_eq!(
        next(&facts, at(15)).acts,
        [Act::Kill {
            container: "c".into()
        }]
    );
    end(&mut facts, "c", 137, at(0), at(15));
    assert_eq!(next(&facts, at(15)).acts, [Act::Remove]);
}

#[test]
fn sidecars_end_last_and_in_reverse() {
    let mut facts = pod(
        json!({"restartPolicy": "Never", "containers": [{"name": "c"}],
        "initContainers": [{"name": "s1", "restartPolicy": "Always"}, {"name": "s2", "restartPolicy": "Always"}]}),
    );
    for name in ["s1", "s2", "c"] {
        run(&mut facts, name, at(0));
    }
    end(&mut facts, "c", 0, at(0), at(1));
    let stopped = |facts: &Facts| match next(facts, at(1)).acts.as_slice() {
        [Act::Stop { container, .. }] => container.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(stopped(&facts), "s2");
    end(&mut facts, "s2", 143, at(0), at(1));
    assert_eq!(stopped(&facts), "s1");
    end(&mut facts, "s1", 143, at(0), at(1));
    assert_eq!(next(&facts, at(1)).acts, [Act::Rest]);
    assert_eq!(status(&facts, at(1)).phase.as_deref(), Some("Succeeded"));
}

#[test]
fn a_pod_past_its_deadline_is_given_up() {
    let facts = pod(json!({"activeDeadlineSeconds": 3, "containers": [{"name": "c"}]}));
    assert!(matches!(
        next(&facts, at(3)).acts.as_slice(),
        [Act::GiveUp {
            reason: "DeadlineExceeded",
            ..
        }]
    ));
}

#[test]
fn a_ready_pod_says_so_in_every_condition() {
    let mut facts = pod(json!({"containers": [{"name": "c", "image": "host"}]}));
    run(&mut facts, "c", at(1));
    let told = status(&facts, at(2));
    let conditions = told.conditions.unwrap();
    assert!(
        conditions
            .iter()
            .all(|condition| condition.status == "True"),
        "{conditions:?}"
    );
    assert_eq!(told.phase.as_deref(), Some("Running"));
    assert_eq!(told.pod_ip.as_deref(), Some("10.64.0.2"));
}

/// What a node that starts knows of a pod whose status is this one's.
fn seen_again(facts: &Facts, now: Timestamp) -> Facts {
    let mut pod = facts.pod.clone();
    pod.status = Some(status(facts, now));
    Facts::new(pod, "127.0.0.1".into(), now)
}

#[test]
fn what_was_over_is_not_run_again_by_a_node_that_starts() {
    for (code, phase) in [(0, "Succeeded"), (3, "Failed")] {
        let mut facts = pod(json!({"restartPolicy": "Never", "containers": [{"name": "c"}]}));
        run(&mut facts, "c", at(0));
        end(&mut facts, "c", code, at(0), at(1));
        let again = seen_again(&facts, at(100));
        assert_eq!(next(&again, at(100)).acts, [Act::Rest]);
        assert_eq!(status(&again, at(100)).phase.as_deref(), Some(phase));
        assert_eq!(state_of(&again, at(100), 0), state_of(&facts, at(1), 0));
    }
    let mut facts = pod(json!({"containers": [{"name": "c"}]}));
    facts.over = Some(("Evicted".into(), "too big".into()));
    let again = seen_again(&facts, at(100));
    assert_eq!(next(&again, at(100)).acts, [Act::Rest]);
    assert_eq!(status(&again, at(100)).reason.as_deref(), Some("Evicted"));
}

#[test]
fn a_container_that_is_not_there_any_more_is_lost_and_run_again_if_it_may_be() {
    for (policy, phase) in [("Always", "Running"), ("Never", "Failed")] {
        let mut facts = pod(json!({"restartPolicy": policy, "containers": [{"name": "c"}]}));
        run(&mut facts, "c", at(0));
        let mut again = seen_again(&facts, at(100));
        let told = status(&again, at(100));
        assert_eq!(told.phase.as_deref(), Some(phase), "{policy}");
        let ended = &state_of(&again, at(100), 0)["terminated"];
        assert_eq!(ended["reason"], "ContainerStatusUnknown");
        assert_eq!(ended["exitCode"], 137);
        if policy == "Always" {
            again.sandbox = Some(None);
            assert_eq!(next(&again, at(100)).acts, [start("c")]);
            run(&mut again, "c", at(100));
            let told = status(&again, at(100)).container_statuses.unwrap();
            assert_eq!(told[0].restart_count, 1);
        }
    }
}

#[test]
fn an_image_that_cannot_be_had_is_an_error_first_and_a_back_off_then() {
    let mut facts = pod(json!({"containers": [{"name": "c", "image": "nowhere/x"}]}));
    facts.on_start("c");
    facts.on_held("c", IMAGE_FAILED, "no such host".into(), at(0));
    assert_eq!(
        state_of(&facts, at(1), 0)["waiting"]["reason"],
        "ErrImagePull"
    );
    // Somebody must look again for the words to change.
    assert_eq!(next(&facts, at(1)).wake, Some(at(2)));
    let waiting = &state_of(&facts, at(2), 0)["waiting"];
    assert_eq!(waiting["reason"], "ImagePullBackOff");
    assert_eq!(
        waiting["message"],
        "Back-off pulling image \"nowhere/x\": ErrImagePull: no such host"
    );
    assert_eq!(next(&facts, at(10)).acts, [start("c")]);
    facts.on_start("c");
    assert_eq!(
        state_of(&facts, at(11), 0)["waiting"]["reason"],
        "ImagePullBackOff"
    );
    run(&mut facts, "c", at(12));
    assert!(state_of(&facts, at(12), 0)["running"].is_object());
}

#[test]
fn a_node_that_stops_ends_what_runs_and_starts_nothing() {
    let mut facts = pod(json!({"containers": [{"name": "c"}, {"name": "d"}]}));
    run(&mut facts, "c", at(0));
    facts.leaving = Some(at(12));
    let stop = Act::Stop {
        container: "c".into(),
        deadline: at(12),
    };
    assert_eq!(next(&facts, at(5)).acts, [stop]);
    facts.runs.get_mut("c").unwrap().stopping = Some(Stopping {
        deadline: at(12),
        killed: false,
    });
    // Hurried.
    facts.leaving = Some(at(6));
    let kill = Act::Kill {
        container: "c".into(),
    };
    assert_eq!(next(&facts, at(6)).acts, [kill]);
    end(&mut facts, "c", 143, at(0), at(7));
    assert_eq!(next(&facts, at(7)).acts, [Act::Rest]);
    assert!(state_of(&facts, at(7), 0)["terminated"].is_object());
}

proptest! {
    /// Whatever ends in whatever way, a deleted pod always comes to its removal, and nothing
    /// is started on the way.
    #[test]
    fn a_deleted_pod_always_ends(codes in proptest::collection::vec(0i32..3, 4), running in proptest::collection::vec(any::<bool>(), 4)) {
        let mut facts = pod(json!({"initContainers": [{"name": "a"}, {"name": "b", "restartPolicy": "Always"}],
            "containers": [{"name": "c"}, {"name": "d"}]}));
        let names = ["a", "b", "c", "d"];
        for ((name, code), running) in names.iter().zip(&codes).zip(&running) {
            run(&mut facts, name, at(0));
            if !running {
                end(&mut facts, name, *code, at(0), at(1));
            }
        }
        facts.pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(10)));
        let mut now = at(2);
        for _ in 0..20 {
            let decided = next(&facts, now);
            for act in &decided.acts {
                match act {
                    Act::Stop { container, deadline } => {
                        facts.runs.get_mut(container).unwrap().stopping = Some(Stopping { deadline: *deadline, killed: false });
                    }
                    Act::Kill { container } => end(&mut facts, container, 137, at(0), now),
                    Act::Remove => return Ok(()),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            now = decided.wake.unwrap_or(now);
        }
        prop_assert!(false, "never removed");
    }
}
