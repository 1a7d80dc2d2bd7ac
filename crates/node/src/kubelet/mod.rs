//! What the API asks of the node: logs, commands, streams, ports, use.

mod command;
mod logs;
mod ports;

use std::sync::PoisonError;

use bytes::Bytes;
use futures::stream::BoxStream;
use sandlot_cluster::kubelet::{
    BoxFuture, ContainerRef, ContainerUsage, Exit, Kubelet, KubeletError, LogOptions, PodUsage,
    Reader, Streams, Writer,
};

pub(crate) use command::run_quietly;
pub(crate) use logs::last_words;

use crate::node::Node;
use crate::pod::IMAGE_FAILED;
use crate::sandbox::Sandbox;
use crate::usage::Look;
use crate::visits::Visit;
use crate::worker::view::{ContainerView, View};

impl Node {
    fn pod_view(&self, namespace: &str, pod: &str) -> Result<View, KubeletError> {
        self.shared.view_of(namespace, pod).ok_or_else(|| {
            KubeletError::NotFound(format!("pod {namespace}/{pod} does not run on this node"))
        })
    }

    fn container_view(&self, of: &ContainerRef) -> Result<(View, ContainerView), KubeletError> {
        let view = self.pod_view(&of.namespace, &of.pod)?;
        let container = view.containers.get(&of.container).cloned().ok_or_else(|| {
            let why = match view.held.get(&of.container).map(String::as_str) {
                Some(IMAGE_FAILED) => "trying and failing to pull image",
                Some(held) => held,
                None => "ContainerCreating",
            };
            KubeletError::BadRequest(format!(
                "container {:?} in pod {:?} is waiting to start: {why}",
                of.container, of.pod
            ))
        })?;
        Ok((view, container))
    }

    /// A container that runs, and a visit of its pod that lasts as long as it is kept.
    fn running(
        &self,
        of: &ContainerRef,
    ) -> Result<(std::sync::Arc<Sandbox>, ContainerView, Option<Visit>), KubeletError> {
        let (view, container) = self.container_view(of)?;
        match view.sandbox {
            Some(sandbox) if container.running => {
                let enter = || self.shared.visits.enter(&of.namespace, &of.pod);
                Ok((sandbox, container, view.counts_visits.then(enter)))
            }
            _ => Err(KubeletError::BadRequest(format!(
                "container {} of pod {} is not running",
                of.container, of.pod
            ))),
        }
    }
}

impl Kubelet for Node {
    fn logs(
        &self,
        of: ContainerRef,
        options: LogOptions,
    ) -> BoxFuture<'_, Result<BoxStream<'static, std::io::Result<Bytes>>, KubeletError>> {
        Box::pin(async move {
            let (_, container) = self.container_view(&of)?;
            let path = match (options.previous, container.previous_log) {
                (false, _) => container.log,
                (true, Some(log)) => log,
                (true, None) => {
                    let message = format!(
                        "previous terminated container {:?} in pod {:?} not found",
                        of.container, of.pod
                    );
                    return Err(KubeletError::BadRequest(message));
                }
            };
            let shared = self.shared.clone();
            let id = container.id;
            let still_runs = move || {
                let view = shared.view_of(&of.namespace, &of.pod)?;
                let now = view.containers.get(&of.container)?;
                (now.id == id).then_some(now.running)
            };
            logs::read(path, options, still_runs)
                .map_err(|error| KubeletError::Internal(error.to_string()))
        })
    }

    fn exec(
        &self,
        of: ContainerRef,
        command: Vec<String>,
        streams: Streams,
    ) -> BoxFuture<'_, Result<Exit, KubeletError>> {
        Box::pin(async move {
            let (sandbox, container, _visit) = self.running(&of)?;
            command::exec(&sandbox, &container, command, streams).await
        })
    }

    fn attach(
        &self,
        of: ContainerRef,
        streams: Streams,
    ) -> BoxFuture<'_, Result<Exit, KubeletError>> {
        Box::pin(async move {
            let (sandbox, container, _visit) = self.running(&of)?;
            command::attach(&sandbox, &container, streams).await
        })
    }

    fn connect(
        &self,
        namespace: String,
        pod: String,
        port: u16,
    ) -> BoxFuture<'_, Result<(Reader, Writer), KubeletError>> {
        Box::pin(async move {
            let view = self.pod_view(&namespace, &pod)?;
            ports::connect(&self.shared, &view, port).await
        })
    }

    fn usage(&self) -> BoxFuture<'_, Vec<PodUsage>> {
        Box::pin(async move {
            let look = Look::now(&self.shared.cgroups);
            let rates = self
                .shared
                .rates
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let of_pod = |view: View| PodUsage {
                containers: view
                    .containers
                    .iter()
                    .filter(|(_, container)| container.running)
                    .map(|(name, container)| ContainerUsage {
                        name: name.clone(),
                        cpu_nanocores: rates.of(&view.namespace, &view.name, &container.id),
                        memory_bytes: look.at(container).memory_bytes,
                    })
                    .collect(),
                namespace: view.namespace,
                pod: view.name,
            };
            self.shared
                .views()
                .into_iter()
                .map(of_pod)
                .filter(|pod| !pod.containers.is_empty())
                .collect()
        })
    }
}
