//! Reading a pod's specification.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

/// What part a container plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerKind {
    /// Runs to its end before the next may start.
    Init,
    /// An init container that stays: started in its turn, restarted for ever.
    Sidecar,
    /// What the pod is for.
    Main,
    /// Put into the running pod by somebody who wants to look around; run once.
    Ephemeral,
}

/// Every container the pod was made with and its part, in the order they start.
pub(crate) fn containers(spec: &PodSpec) -> impl Iterator<Item = (ContainerKind, &Container)> {
    let init = spec.init_containers.iter().flatten().map(|container| {
        let stays = container.restart_policy.as_deref() == Some("Always");
        (
            if stays {
                ContainerKind::Sidecar
            } else {
                ContainerKind::Init
            },
            container,
        )
    });
    init.chain(
        spec.containers
            .iter()
            .map(|container| (ContainerKind::Main, container)),
    )
}

/// The containers that were put into the running pod.
pub(crate) fn ephemeral(spec: &PodSpec) -> impl Iterator<Item = &EphemeralContainer> {
    spec.ephemeral_containers.iter().flatten()
}

/// The container of this name, whatever its part.
pub(crate) fn find(pod: &Pod, name: &str) -> Option<(ContainerKind, Container)> {
    let spec = pod.spec.as_ref()?;
    let made_with = containers(spec).map(|(kind, container)| (kind, container.clone()));
    let put_in = ephemeral(spec).map(|one| (ContainerKind::Ephemeral, as_container(one)));
    made_with
        .chain(put_in)
        .find(|(_, container)| container.name == name)
}

/// Where a container stands in its pod, as events point at it.
pub(crate) fn field_path(pod: &Pod, name: &str) -> String {
    let list = match find(pod, name) {
        Some((ContainerKind::Init | ContainerKind::Sidecar, _)) => "initContainers",
        Some((ContainerKind::Ephemeral, _)) => "ephemeralContainers",
        Some((ContainerKind::Main, _)) | None => "containers",
    };
    format!("spec.{list}{{{name}}}")
}

/// An ephemeral container as any other; what it may not have, the API has not let in.
pub(super) fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let one = ephemeral.clone();
    Container {
        name: one.name,
        image: one.image,
        image_pull_policy: one.image_pull_policy,
        command: one.command,
        args: one.args,
        working_dir: one.working_dir,
        env: one.env,
        env_from: one.env_from,
        volume_mounts: one.volume_mounts,
        volume_devices: one.volume_devices,
        security_context: one.security_context,
        termination_message_path: one.termination_message_path,
        termination_message_policy: one.termination_message_policy,
        stdin: one.stdin,
        stdin_once: one.stdin_once,
        tty: one.tty,
        ..Container::default()
    }
}

/// Whether a container that ended with this code is to run again.
pub(crate) fn restarts(spec: &PodSpec, kind: ContainerKind, code: i32) -> bool {
    match (kind, spec.restart_policy.as_deref().unwrap_or("Always")) {
        (ContainerKind::Sidecar, _) => true,
        (ContainerKind::Ephemeral, _) => false,
        (ContainerKind::Init, "Never") | (ContainerKind::Main, "Never") => false,
        (ContainerKind::Main, "Always") => true,
        (ContainerKind::Init | ContainerKind::Main, _) => code != 0,
    }
}

/// Whether all its containers are in one process namespace.
pub(crate) fn shares_processes(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.share_process_namespace) == Some(true)
}

/// How many seconds its containers are given to end by themselves.
pub(crate) fn grace(pod: &Pod) -> i64 {
    let asked = pod.metadata.deletion_grace_period_seconds;
    let usual = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.termination_grace_period_seconds);
    asked.or(usual).unwrap_or(30).max(0)
}
