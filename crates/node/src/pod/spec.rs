//! Reading a pod's specification.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// What part a container plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerKind {
    /// Runs to its end before the next may start.
    Init,
    /// An init container that stays: started in its turn, restarted for ever.
    Sidecar,
    /// What the pod is for.
    Main,
}

/// Every container with its part, in the order they start.
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

/// Whether a container that ended with this code is to run again.
pub(crate) fn restarts(spec: &PodSpec, kind: ContainerKind, code: i32) -> bool {
    match (kind, spec.restart_policy.as_deref().unwrap_or("Always")) {
        (ContainerKind::Sidecar, _) => true,
        (ContainerKind::Init, "Never") | (ContainerKind::Main, "Never") => false,
        (ContainerKind::Main, "Always") => true,
        (ContainerKind::Init | ContainerKind::Main, _) => code != 0,
    }
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
