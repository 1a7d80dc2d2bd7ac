//! The objects that are made: groups of jobs, tasks of groups.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt, api::ObjectMeta};
use sandlot_api::robot::{
    Job, JobType, Task, TaskDefinition, TaskGroup, TaskGroupSpec, TaskGroupTemplate, TaskSpec,
    names::{FINALIZER, GROUP_NAME, JOB, REPLICA, REVISION, TASK, TASK_GROUP, label_value},
};
use sandlot_decide::robots::replicas::Start;
use serde::{Deserialize, Serialize};

use crate::index::Key;

/// What a replica is made from: the part of a group whose edits are rolled out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Template {
    #[serde(default)]
    pub(crate) init_tasks: Vec<TaskDefinition>,
    pub(crate) tasks: Vec<TaskDefinition>,
    #[serde(default)]
    pub(crate) restart_policy: Option<sandlot_api::robot::RestartPolicy>,
    #[serde(default)]
    pub(crate) disconnect: Option<sandlot_api::robot::DisconnectPolicy>,
}

impl Template {
    /// What a group's replicas are made from.
    pub(crate) fn of(spec: &TaskGroupSpec) -> Self {
        Self {
            init_tasks: spec.init_tasks.clone().unwrap_or_default(),
            tasks: spec.tasks.clone(),
            restart_policy: spec.restart_policy.clone(),
            disconnect: spec.disconnect.clone(),
        }
    }

    /// A word that is the same for the same template.
    pub(crate) fn revision(&self) -> String {
        // A template is plain data: writing it as JSON cannot fail.
        let text = serde_json::to_string(self).unwrap_or_default();
        // FNV-1a: a few bytes to tell templates apart, not a secret.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{hash:016x}")
    }
}

/// The name of a job's group.
pub(crate) fn group_name(job: &str, group: &str) -> String {
    format!("{job}-{group}")
}

/// What a job's group is to say.
pub(crate) fn group_spec(job: &Job, template: &TaskGroupTemplate) -> TaskGroupSpec {
    let template = template.clone();
    let constraints: Vec<_> = [&job.spec.constraints, &template.constraints]
        .into_iter()
        .flatten()
        .flatten()
        .cloned()
        .collect();
    TaskGroupSpec {
        job_name: job.name_any(),
        group_name: template.name,
        count: template.count,
        robot_selector: job.spec.robot_selector.clone(),
        kind: job.spec.kind,
        priority: job.spec.priority,
        init_tasks: template.init_tasks,
        tasks: template.tasks,
        constraints: (!constraints.is_empty()).then_some(constraints),
        restart_policy: template.restart_policy,
        reschedule_policy: template.reschedule_policy,
        disconnect: template.disconnect,
        update: template.update.or_else(|| job.spec.update.clone()),
        ephemeral_disk: template.ephemeral_disk,
        resources: template.resources,
        network: template.network,
        cancel: job.spec.cancel.filter(|cancel| *cancel),
        meta: template.meta.or_else(|| job.spec.meta.clone()),
    }
}

/// A job's group.
pub(crate) fn group(key: &Key, job: &Job, template: &TaskGroupTemplate) -> TaskGroup {
    let labels = [(JOB, job.name_any()), (GROUP_NAME, template.name.clone())];
    TaskGroup {
        metadata: meta(key, job, &labels),
        spec: group_spec(job, template),
        status: None,
    }
}

/// The tasks of one run of a group's replica.
pub(crate) fn tasks(
    key: &Key,
    group: &TaskGroup,
    template: &Template,
    start: &Start,
) -> Vec<(Key, Task)> {
    let revision = template.revision();
    let attempt = match start.attempt {
        0 => String::new(),
        attempt => format!("-a{attempt}"),
    };
    let made = template.tasks.iter().map(|definition| {
        let name = format!(
            "{}-r{}-{}{attempt}",
            key.name, start.replica, definition.name
        );
        let labels = [
            (JOB, group.spec.job_name.clone()),
            (TASK_GROUP, key.name.to_string()),
            (REPLICA, start.replica.to_string()),
            (TASK, definition.name.clone()),
            (REVISION, revision.clone()),
        ];
        let key = key.beside(&name);
        let task = Task {
            metadata: meta(&key, group, &labels),
            spec: spec(group, template, definition, start),
            status: None,
        };
        (key, task)
    });
    made.collect()
}

fn spec(
    group: &TaskGroup,
    template: &Template,
    definition: &TaskDefinition,
    start: &Start,
) -> TaskSpec {
    let definition = definition.clone();
    TaskSpec {
        name: definition.name,
        driver: definition.driver,
        config: definition.config,
        job_name: Some(group.spec.job_name.clone()),
        task_group_name: Some(group.name_any()),
        replica: Some(start.replica),
        kind: group.spec.kind,
        priority: group.spec.priority,
        meta: group.spec.meta.clone(),
        attempt: Some(start.attempt),
        target_robot: Some(start.robot.clone()),
        resources: definition.resources,
        constraints: None,
        env: definition.env,
        user: definition.user,
        timeout: definition.timeout,
        kill_timeout: definition.kill_timeout,
        restart_policy: template.restart_policy.clone(),
        disconnect: template.disconnect.clone(),
        artifacts: definition.artifacts,
        templates: definition.templates,
        init_tasks: (!template.init_tasks.is_empty()).then(|| template.init_tasks.clone()),
        services: None,
        network: group.spec.network.clone(),
    }
}

fn meta<K>(key: &Key, owner: &K, labels: &[(&str, String)]) -> ObjectMeta
where
    K: Resource<DynamicType = ()>,
{
    let labels: BTreeMap<String, String> = labels
        .iter()
        .map(|(label, value)| ((*label).to_owned(), label_value(value)))
        .collect();
    ObjectMeta {
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        labels: Some(labels),
        finalizers: Some(vec![FINALIZER.to_owned()]),
        owner_references: owner_reference(owner).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn owner_reference<K: Resource<DynamicType = ()>>(owner: &K) -> Option<OwnerReference> {
    owner.controller_owner_ref(&())
}

/// How a group lives when it does not say.
pub(crate) fn kind(spec: &TaskGroupSpec) -> JobType {
    spec.kind.unwrap_or_default()
}
