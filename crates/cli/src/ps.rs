//! `sandlot ps`: the sandboxes of a namespace.

use anyhow::Result;
use kube::{Api, api::ListParams};
use sandlot_api::arl::Sandbox;

use crate::{args::List, table, target};

/// Prints them.
pub(crate) async fn run(options: &List) -> Result<()> {
    let (client, namespace) = target::connect(&options.target).await?;
    let sandboxes: Api<Sandbox> = Api::namespaced(client, &namespace);
    let sandboxes = sandboxes.list(&ListParams::default()).await?.items;
    table::print(
        options.output,
        &["NAME", "POOL", "PHASE", "POD", "IP"],
        &sandboxes,
        |sandbox| {
            let status = sandbox.status.clone().unwrap_or_default();
            vec![
                sandbox.metadata.name.clone().unwrap_or_default(),
                sandbox.spec.pool_ref.clone(),
                status
                    .phase
                    .map(|phase| format!("{phase:?}"))
                    .unwrap_or_default(),
                status.pod_name.unwrap_or_default(),
                status.pod_ip.unwrap_or_default(),
            ]
        },
    )
}
