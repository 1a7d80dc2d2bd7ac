//! What a robot is to do, put together from what the API says.

use jiff::Timestamp;
use kube::ResourceExt;
use sandlot_api::{
    GoDuration,
    robot::{
        CommandResultState, DeploymentTarget, Robot, RobotDeployment, Task, TaskSpec, TaskState,
        wire::{
            Desired, DesiredCommand, DesiredDeployment, DesiredTask, ROOM_FOR_COMMANDS,
            ROOM_FOR_DEPLOYMENTS, ROOM_FOR_TASKS,
        },
    },
};
use serde::Serialize;

use super::index::Index;

/// Where a task stands.
pub(crate) fn state(task: &Task) -> TaskState {
    task.status
        .as_ref()
        .and_then(|status| status.state)
        .unwrap_or_default()
}

/// All that a robot is to do, but for the version of the document.
pub(crate) fn desired(index: &Index, name: &str, robot: &Robot, now: Timestamp) -> Desired {
    let mut tasks: Vec<DesiredTask> = index
        .tasks_of(name)
        .filter(|task| !state(task).is_terminal())
        .map(|task| DesiredTask::of(task, siblings(index, &task.spec)))
        .collect();
    tasks.sort_by(|one, other| (-one.priority, &one.name).cmp(&(-other.priority, &other.name)));
    let wish = robot.spec.credential.as_ref();
    let mut desired = Desired {
        robot_uid: robot.uid().unwrap_or_default(),
        tasks,
        commands: commands(index, name, now),
        deployments: deployments(index, name),
        labels: Some(robot.spec.labels.clone().unwrap_or_default()),
        credential_revision: wish.and_then(|wish| wish.revision),
        ..Desired::default()
    };
    fit(&mut desired);
    desired
}

/// Leaves out what is least important until the document can be sent: that has its turn when
/// something else is done.
fn fit(desired: &mut Desired) {
    keep_what_fits(&mut desired.tasks, ROOM_FOR_TASKS);
    keep_what_fits(&mut desired.commands, ROOM_FOR_COMMANDS);
    keep_what_fits(&mut desired.deployments, ROOM_FOR_DEPLOYMENTS);
}

/// Leaves out what finds no room in so many bytes; what comes first has it first.
pub(crate) fn keep_what_fits<T: Serialize>(all: &mut Vec<T>, mut room: usize) {
    all.retain(|one| {
        let size = serde_json::to_vec(one).map_or(0, |text| text.len() + 1);
        let fits = size <= room;
        if fits {
            room -= size;
        }
        fits
    });
}

/// How many tasks of a replica run beside one another.
fn siblings(index: &Index, spec: &TaskSpec) -> usize {
    let Some(robot) = &spec.target_robot else {
        return 1;
    };
    let same = index.tasks_of(robot).filter(|other| {
        other.spec.task_group_name == spec.task_group_name
            && other.spec.replica == spec.replica
            && other.spec.attempt == spec.attempt
    });
    same.count().max(1)
}

fn commands(index: &Index, robot: &str, now: Timestamp) -> Vec<DesiredCommand> {
    let open = index.commands.values().filter_map(|command| {
        let status = command.status.as_ref()?;
        let results = status.results.as_ref()?;
        let result = results.iter().find(|result| result.robot == robot)?;
        let expires_at = status.expires_at.as_ref()?.0;
        if CommandResultState::is_terminal(result.state) {
            return None;
        }
        let left = expires_at.duration_since(now);
        Some(DesiredCommand {
            uid: command.uid()?,
            name: command.name_any(),
            verb: command.spec.verb.clone(),
            args: command.spec.args.clone().unwrap_or_default(),
            expires_at,
            time_left: std::time::Duration::try_from(left).ok().map(GoDuration),
            cancel: command.spec.cancel.unwrap_or(false),
        })
    });
    open.collect()
}

fn deployments(index: &Index, robot: &str) -> Vec<DesiredDeployment> {
    let told = index.deployments.values().filter_map(|deployment| {
        let targets = deployment.status.as_ref()?.robots.as_ref()?;
        let target = targets.iter().find(|target| target.robot_name == robot)?;
        version(deployment, target)
    });
    told.collect()
}

/// A version of a deployment: what it says now, or what it went back to.
fn version(deployment: &RobotDeployment, target: &DeploymentTarget) -> Option<DesiredDeployment> {
    let spec = &deployment.spec;
    let stable = deployment
        .status
        .as_ref()
        .and_then(|status| status.stable.as_ref());
    let version = target.version.as_str();
    let (artifacts, health_check, activate) = if spec.version == version {
        (&spec.artifacts, &spec.health_check, &spec.activate)
    } else {
        let stable = stable.filter(|stable| stable.version == version)?;
        (&stable.artifacts, &stable.health_check, &stable.activate)
    };
    Some(DesiredDeployment {
        uid: deployment.uid()?,
        name: deployment.name_any(),
        generation: target
            .generation
            .or(deployment.metadata.generation)
            .unwrap_or(1),
        version: version.to_owned(),
        artifacts: artifacts.clone(),
        health_check: health_check.clone(),
        health_deadline: spec.health_deadline,
        activate: activate.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_left_out_and_lets_others_through() {
        let texts = |lengths: &[usize]| -> Vec<String> {
            let texts = lengths.iter().map(|length| "a".repeat(*length));
            texts.collect()
        };
        let mut all = texts(&[10, 100, 20, 10]);
        // With its quotes and a comma each takes three more.
        keep_what_fits(&mut all, 36);
        assert_eq!(all, texts(&[10, 20]));
    }
}
