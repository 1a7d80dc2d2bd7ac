//! SandboxSnapshot: which pod is saved as which images, and how that went.

use std::sync::Arc;

use jiff::Timestamp;
use sandlot_api::opensandbox::{
    SandboxSnapshot, SandboxSnapshotStatus, SavedContainer, SnapshotPhase, names,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    condition::holds,
    index::{Executor, PodEntry, SnapshotEntry},
    world::World,
    writes::{Saving, Write},
};
use crate::{
    index::{Key, Uid},
    saving::{Save, SaveError, SavedImage, Saver},
    world::reference,
};

/// What is said where nobody saves.
pub(super) const NOWHERE: &str =
    "this operator has nowhere to save to: start it with a snapshot registry";

/// Looks at a snapshot and puts on the tray what is to be done.
pub(super) fn look(world: &mut World, key: &Key, now: Timestamp) {
    let Some(entry) = world.index.snapshots.get(key) else {
        return;
    };
    if entry.writing {
        return;
    }
    if entry.leaving {
        return let_go(world, key);
    }
    if entry.is_over() {
        return;
    }
    let Some(saver) = world.saver.clone() else {
        return fail(world, key, "RegistryNotConfigured", NOWHERE.to_owned(), now);
    };
    match entry.status.phase {
        Some(SnapshotPhase::Committing) => go_on(world, key, saver),
        _ => match plan(world, key, entry, saver.registry()) {
            Ok((pod, status)) => begin(world, key, &pod, status),
            Err((reason, why)) => fail(world, key, reason, why, now),
        },
    }
}

/// Which pod is to be saved, and as which images.
fn plan(
    world: &World,
    key: &Key,
    entry: &SnapshotEntry,
    registry: &str,
) -> Result<(Uid, SandboxSnapshotStatus), (&'static str, String)> {
    let sandbox = key.beside(&entry.spec.sandbox_name);
    let name = &entry.spec.sandbox_name;
    let Some(batch) = world.index.batches.get(&sandbox) else {
        let why = format!("there is no BatchSandbox {name:?} in this namespace");
        return Err(("SandboxNotFound", why));
    };
    if batch.replicas() != 1 {
        let why = format!(
            "BatchSandbox {name:?} has {} sandboxes, and only one alone can be saved",
            batch.replicas()
        );
        return Err(("UnsupportedReplicas", why));
    }
    let pod = world
        .index
        .pod_at(&sandbox, batch, 0)
        .filter(|pod| pod.is_ready());
    let Some(pod) = pod else {
        let why = format!("BatchSandbox {name:?} has no pod that is ready");
        return Err(("PodNotFound", why));
    };
    let tag = match &entry.owner {
        Some(owner) if *owner == batch.uid => format!(
            "snap-gen{}-{}",
            entry.answers.or(batch.generation).unwrap_or_default(),
            letters(&entry.uid)
        ),
        _ => format!("snap-{}", letters(&entry.uid)),
    };
    let containers = saved_containers(pod).map(|container| SavedContainer {
        container_name: container.to_owned(),
        image_uri: format!("{registry}/{}/{name}-{container}:{tag}", key.namespace),
        image_digest: None,
    });
    let status = SandboxSnapshotStatus {
        phase: Some(SnapshotPhase::Committing),
        containers: containers.collect(),
        conditions: None,
        source_pod_name: Some(pod.key.name.to_string()),
        source_node_name: pod.node.as_deref().map(str::to_owned),
        observed_generation: entry.generation,
    };
    Ok((pod.uid.clone(), status))
}

/// The containers of a pod that hold somebody's files: our own executor holds none.
fn saved_containers(pod: &PodEntry) -> impl Iterator<Item = &str> {
    let names = pod.containers.keys().map(String::as_str);
    names.filter(|name| pod.executor != Executor::Ours || *name != names::EXECUTOR_CONTAINER)
}

/// The letters and digits of a uid: no two snapshots, not even of one name, are saved alike.
fn letters(uid: &str) -> String {
    uid.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// Writes down what is to be saved, before anything is: an operator that comes later saves the
/// same pod under the same names, or none.
fn begin(world: &mut World, key: &Key, pod: &Uid, status: SandboxSnapshotStatus) {
    let Some(entry) = world.index.snapshots.get_mut(key) else {
        return;
    };
    entry.writing = true;
    let mut finalizers = entry.finalizers.clone();
    if !finalizers
        .iter()
        .any(|name| name == names::SNAPSHOT_CLEANUP)
    {
        finalizers.push(names::SNAPSHOT_CLEANUP.to_owned());
    }
    let meta = json!({
        "finalizers": finalizers,
        "annotations": { names::SOURCE_POD_UID: &**pod },
    });
    world.tray.writes.push(Write::Snapshot {
        key: key.clone(),
        version: entry.resource_version.clone(),
        meta: Some(meta),
        status: Some(json!(status)),
    });
}

/// Has the pod saved, unless it is being saved already.
fn go_on(world: &mut World, key: &Key, saver: Arc<dyn Saver>) {
    let Some(entry) = world.index.snapshots.get_mut(key) else {
        return;
    };
    if entry.saving.is_some() {
        return;
    }
    let cancel = CancellationToken::new();
    entry.saving = Some(cancel.clone());
    let status = &entry.status;
    let what = Save {
        namespace: key.namespace.to_string(),
        snapshot: key.name.to_string(),
        snapshot_uid: entry.uid.to_string(),
        pod: status.source_pod_name.clone().unwrap_or_default(),
        pod_uid: entry.source.as_deref().unwrap_or_default().to_owned(),
        node: status.source_node_name.clone().unwrap_or_default(),
        containers: status
            .containers
            .iter()
            .map(|saved| (saved.container_name.clone(), saved.image_uri.clone()))
            .collect(),
    };
    let about = reference::<SandboxSnapshot>(key, &entry.uid);
    let note = format!(
        "saving {} of pod {}",
        counted(what.containers.len()),
        what.pod
    );
    let reason = if saver.uses_jobs() {
        "CreatedJob"
    } else {
        "Committing"
    };
    world.events.tell(about, reason, "Commit", note);
    world.tray.writes.push(Write::Save(Box::new(Saving {
        key: key.clone(),
        uid: entry.uid.clone(),
        saver,
        what,
        cancel,
    })));
}

fn counted(containers: usize) -> String {
    match containers {
        1 => "1 container".to_owned(),
        more => format!("{more} containers"),
    }
}

/// What came of saving a pod.
pub(super) fn saved(
    world: &mut World,
    key: &Key,
    uid: &Uid,
    result: Result<Vec<SavedImage>, SaveError>,
    now: Timestamp,
) {
    let Some(entry) = world
        .index
        .snapshots
        .get_mut(key)
        .filter(|entry| entry.uid == *uid)
    else {
        return;
    };
    entry.saving = None;
    if entry.leaving || entry.is_over() {
        world.index.marks.snapshots.insert(key.clone());
        return;
    }
    let images = match result {
        Ok(images) => images,
        Err(error) => return fail(world, key, error.reason(), error.to_string(), now),
    };
    let mut status = entry.status.clone();
    status.phase = Some(SnapshotPhase::Succeed);
    for image in images {
        let found = status
            .containers
            .iter_mut()
            .find(|saved| saved.container_name == image.container);
        if let Some(found) = found {
            (found.image_uri, found.image_digest) = (image.image, image.digest);
        }
    }
    let words = format!("saved {}", counted(status.containers.len()));
    status.conditions = Some(vec![holds(&[], ("Ready", "Committed", words.clone()), now)]);
    let about = reference::<SandboxSnapshot>(key, uid);
    let reason = if uses_jobs(world) {
        "JobSucceeded"
    } else {
        "Committed"
    };
    world.events.tell(about, reason, "Commit", words);
    write_status(world, key, &status);
}

fn fail(world: &mut World, key: &Key, reason: &str, why: String, now: Timestamp) {
    let Some(entry) = world.index.snapshots.get(key) else {
        return;
    };
    tracing::warn!(snapshot = %key, reason, why, "a sandbox could not be saved");
    let about = reference::<SandboxSnapshot>(key, &entry.uid);
    let mut status = entry.status.clone();
    status.phase = Some(SnapshotPhase::Failed);
    status.observed_generation = entry.generation;
    status.conditions = Some(vec![holds(&[], ("Failed", reason, why.clone()), now)]);
    let told = if uses_jobs(world) && reason == "CommitFailed" {
        "JobFailed"
    } else {
        reason
    };
    world.events.warn(about, told, "Commit", why);
    write_status(world, key, &status);
}

fn uses_jobs(world: &World) -> bool {
    world.saver.as_ref().is_some_and(|saver| saver.uses_jobs())
}

fn write_status(world: &mut World, key: &Key, status: &SandboxSnapshotStatus) {
    let Some(entry) = world.index.snapshots.get_mut(key) else {
        return;
    };
    // What was found out is not lost if it has to be written again.
    entry.status = status.clone();
    entry.writing = true;
    world.tray.writes.push(Write::Snapshot {
        key: key.clone(),
        version: entry.resource_version.clone(),
        meta: None,
        status: Some(json!(status)),
    });
}

/// Ends what is under way for a snapshot that is being deleted, and lets it go.
fn let_go(world: &mut World, key: &Key) {
    let Some(entry) = world.index.snapshots.get_mut(key) else {
        return;
    };
    if let Some(saving) = &entry.saving {
        // It goes when what saves it has ended.
        saving.cancel();
        return;
    }
    let held = entry
        .finalizers
        .iter()
        .any(|name| name == names::SNAPSHOT_CLEANUP);
    if !held {
        return;
    }
    entry.writing = true;
    let finalizers: Vec<_> = entry
        .finalizers
        .iter()
        .filter(|name| *name != names::SNAPSHOT_CLEANUP)
        .collect();
    world.tray.writes.push(Write::Snapshot {
        key: key.clone(),
        version: entry.resource_version.clone(),
        meta: Some(json!({ "finalizers": finalizers })),
        status: None,
    });
}
