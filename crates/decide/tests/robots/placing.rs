//! Constraints and budgets.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use proptest::prelude::*;
use sandlot_api::{
    GoDuration,
    robot::{Constraint, DelayFunction, DeviceInfo, JobType, Operand, Platform, ReschedulePolicy},
};
use sandlot_decide::robots::{
    budget::{Again, again, wait},
    constraint::{attributes, meets},
};

fn constraint(left: &str, operand: Operand, right: &str) -> Constraint {
    Constraint {
        l_target: Some(left.to_owned()),
        r_target: Some(right.to_owned()),
        operand: Some(operand),
        ..Constraint::default()
    }
}

#[test]
fn constraints_look_at_what_a_robot_says_of_itself() {
    let device = DeviceInfo {
        platform: Some(Platform {
            os: "linux".to_owned(),
            kernel_version: "5.10.0-28-amd64".to_owned(),
            ..Platform::default()
        }),
        ..DeviceInfo::default()
    };
    let labels = BTreeMap::from([
        ("site".to_owned(), "north".to_owned()),
        ("tools".to_owned(), "arm, lidar".to_owned()),
    ]);
    let facts = attributes("arm-1", &labels, &["docker".to_owned()], Some(&device));
    for (left, operand, right, met) in [
        ("${attr.kernel.name}", Operand::Equal, "linux", true),
        ("${attr.kernel.name}", Operand::NotEqual, "linux", false),
        (
            "${attr.kernel.version}",
            Operand::Version,
            ">= 5.4, < 6",
            true,
        ),
        ("${attr.kernel.version}", Operand::Version, "~> 5.9", true),
        (
            "${attr.kernel.version}",
            Operand::Version,
            "~> 5.9.1",
            false,
        ),
        ("${label.site}", Operand::Regexp, "^n", true),
        ("${label.site}", Operand::Regexp, "(", false),
        ("${label.tools}", Operand::SetContains, "lidar", true),
        ("${label.tools}", Operand::SetContains, "lidar,legs", false),
        ("${label.missing}", Operand::Equal, "x", false),
        ("${label.missing}", Operand::NotEqual, "x", true),
        ("10", Operand::Greater, "9", true),
        ("b", Operand::Less, "a", false),
        ("${attr.driver.docker}", Operand::Equal, "1", true),
        ("${unclosed", Operand::Equal, "x", false),
    ] {
        assert_eq!(
            meets(&constraint(left, operand, right), &facts),
            met,
            "{left} {operand:?} {right}"
        );
    }
}

#[test]
fn waits_grow_as_the_policy_says() {
    let policy = |function| ReschedulePolicy {
        delay: Some(GoDuration(Duration::from_secs(5))),
        max_delay: Some(GoDuration(Duration::from_secs(60))),
        delay_function: Some(function),
        ..ReschedulePolicy::default()
    };
    let waits = |function| -> Vec<u64> {
        (1..=6)
            .map(|failures| wait(&policy(function), failures).as_secs())
            .collect()
    };
    assert_eq!(waits(DelayFunction::Constant), [5, 5, 5, 5, 5, 5]);
    assert_eq!(waits(DelayFunction::Exponential), [5, 10, 20, 40, 60, 60]);
    assert_eq!(waits(DelayFunction::Fibonacci), [5, 5, 10, 15, 25, 40]);
}

proptest! {
    #[test]
    fn nothing_is_tried_more_often_than_allowed(attempts in 0i32..5, failures in 1usize..8) {
        let policy = ReschedulePolicy { attempts: Some(attempts), ..ReschedulePolicy::default() };
        let at: Vec<Timestamp> = (0..failures)
            .map(|second| Timestamp::from_second(second as i64).unwrap())
            .collect();
        let tried = again(Some(&policy), JobType::Batch, &at) != Again::Never;
        prop_assert_eq!(tried, failures <= attempts as usize);
    }
}

#[test]
fn a_service_is_tried_for_ever_and_a_batch_once_when_nobody_says() {
    let failed = [Timestamp::UNIX_EPOCH];
    assert_eq!(again(None, JobType::Batch, &failed), Again::Never);
    assert!(matches!(
        again(None, JobType::Service, &failed),
        Again::At(_)
    ));
}
