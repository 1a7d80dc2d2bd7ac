//! The RobotDeployment controller: which robots are told which version now.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use sandlot_api::robot::{
    DeploymentState, DeploymentTarget, InstalledDeployment, RobotDeployment, RobotDeploymentStatus,
    RolloutState, StableVersion,
};
use sandlot_decide::robots::{
    placement::Wish,
    rollout::{Health, Rollout, Towards, Unit},
};

use super::{
    fleet::Fleet,
    sights::Kind,
    world::World,
    writes::{What, condition, status_patch},
};
use crate::index::Key;

/// Looks at a deployment that may have changed; how many robots it is for.
pub(crate) fn look(world: &mut World, key: &Key, fleet: &mut Fleet, now: Timestamp) -> usize {
    let Some(deployment) = world.index.deployments.get(key).cloned() else {
        return 0;
    };
    if deployment.metadata.deletion_timestamp.is_some() || world.must_wait(Kind::Deployment, key) {
        return 0;
    }
    let before = deployment.status.clone().unwrap_or_default();
    let mut targets = targets(world, key, &deployment, &before, fleet);
    let units: Vec<Unit<'_>> = targets
        .iter()
        .map(|target| Unit {
            revision: (!target.version.is_empty()).then_some(target.version.as_str()),
            health: health(target),
            since: target.since.as_ref().map_or(now, |since| since.0),
        })
        .collect();
    let policy = deployment.spec.update.clone().unwrap_or_default();
    let stable = before.stable.as_ref().map(|stable| stable.version.as_str());
    let step = Rollout {
        policy: &policy,
        latest: &deployment.spec.version,
        stable,
        before: before.rollout.as_ref(),
    }
    .step(&units, now);
    let latest = came_with(&deployment.spec.version, &before).or(deployment.metadata.generation);
    let (version, generation) = match (step.towards, &before.stable) {
        (Towards::Stable, Some(stable)) => (stable.version.clone(), stable.generation),
        _ => (deployment.spec.version.clone(), latest),
    };
    // A robot that has nothing yet takes whatever is wanted now: there is nothing to lose on it.
    let fresh = targets
        .iter()
        .enumerate()
        .filter(|(_, target)| target.version.is_empty());
    let fresh: Vec<usize> = fresh.map(|(index, _)| index).collect();
    for index in step.change.iter().copied().chain(fresh) {
        targets[index].version.clone_from(&version);
        targets[index].generation = generation;
        targets[index].since = Some(Time(now));
        targets[index].state = DeploymentState::Pending;
        targets[index].message = None;
    }
    let healthy = |target: &&DeploymentTarget| {
        target.version == deployment.spec.version && target.state == DeploymentState::Healthy
    };
    let (ready, all) = (targets.iter().filter(healthy).count(), targets.len());
    let complete = step.status.state == RolloutState::Completed && step.status.failed == 0;
    let available = ready == all && ready > 0;
    let known = before.conditions.iter().flatten();
    let reason = if available {
        "Available"
    } else {
        "Progressing"
    };
    let status = RobotDeploymentStatus {
        observed_generation: deployment.metadata.generation,
        desired: number(all),
        updated: number(
            targets
                .iter()
                .filter(|one| one.version == deployment.spec.version)
                .count(),
        ),
        ready: number(ready),
        failed: step.status.failed,
        stable: match complete && available {
            true => Some(stable_version(&deployment, latest)),
            false => before.stable.clone(),
        },
        rollout: Some(step.status),
        robots: Some(targets),
        conditions: Some(vec![condition(known, "Available", available, reason, now)]),
    };
    world.wake(step.wake, (Kind::Deployment, key.clone()));
    if deployment.status.as_ref() != Some(&status) {
        let patch = status_patch(&deployment, &before, &status);
        world.write(Kind::Deployment, key, What::Status(patch));
    }
    all
}

/// The robots that fit, with what each was told and has said.
fn targets(
    world: &World,
    key: &Key,
    deployment: &RobotDeployment,
    before: &RobotDeploymentStatus,
    fleet: &mut Fleet,
) -> Vec<DeploymentTarget> {
    let empty = BTreeMap::new();
    let wish = Wish {
        selector: deployment.spec.robot_selector.as_ref().unwrap_or(&empty),
        constraints: &[],
        drivers: &BTreeSet::new(),
    };
    let told: BTreeMap<&str, &DeploymentTarget> = before
        .robots
        .iter()
        .flatten()
        .map(|target| (target.robot_name.as_str(), target))
        .collect();
    let uid = deployment.uid().unwrap_or_default();
    let fitting = fleet
        .of(&world.index, &key.namespace)
        .iter()
        .filter(|robot| wish.fits(robot));
    let targets = fitting.map(|robot| {
        let mut target = told.get(robot.name.as_str()).map_or_else(
            || DeploymentTarget {
                robot_name: robot.name.clone(),
                ..DeploymentTarget::default()
            },
            |known| (*known).clone(),
        );
        if let Some(said) = said(world, &key.beside(&robot.name), &uid)
            && said.version == target.version
        {
            target.state = said.state;
            target.message.clone_from(&said.message);
        }
        target
    });
    targets.collect()
}

/// What a robot has said of a deployment.
fn said<'a>(world: &'a World, robot: &Key, uid: &str) -> Option<&'a InstalledDeployment> {
    let status = world.index.robots.get(robot)?.status.as_ref()?;
    let mut installed = status.deployments.iter().flatten();
    installed.find(|installed| installed.uid == uid)
}

fn health(target: &DeploymentTarget) -> Health {
    match target.state {
        // The robot's own health check is the gate here.
        DeploymentState::Healthy => Health::Done,
        DeploymentState::RolledBack | DeploymentState::Failed => Health::Failed,
        _ => Health::Starting,
    }
}

/// The generation that a version came with, as robots were told before: other edits than of the
/// version are no reason to install it again.
fn came_with(version: &str, before: &RobotDeploymentStatus) -> Option<i64> {
    let told = before.robots.iter().flatten();
    let same = told.filter(|target| target.version == version);
    same.filter_map(|target| target.generation).max()
}

fn stable_version(deployment: &RobotDeployment, generation: Option<i64>) -> StableVersion {
    StableVersion {
        version: deployment.spec.version.clone(),
        generation,
        artifacts: deployment.spec.artifacts.clone(),
        health_check: deployment.spec.health_check.clone(),
        activate: deployment.spec.activate.clone(),
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
