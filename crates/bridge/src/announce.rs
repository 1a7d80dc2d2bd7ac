//! Saying that this bridge lives, where no election says it: of robots that no bridge hears, nobody
//! knows where they are.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, Error,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use sandlot_api::robot::names::{BRIDGE_LEASE, BRIDGE_MANAGER};
use tokio_util::sync::CancellationToken;

use crate::settings::Settings;

/// Renews the Lease until cancelled. It then simply runs out: a bridge that is started again at
/// once leaves no gap.
pub(crate) async fn announce(client: Client, settings: Arc<Settings>, stop: CancellationToken) {
    let Some(length) = settings.lease else {
        return;
    };
    let api = Api::namespaced(client, &settings.namespace);
    let renewing = async {
        loop {
            if let Err(error) = renew(&api, &settings.identity, length).await {
                tracing::warn!(%error, "the Lease that says that this bridge lives cannot be renewed");
            }
            tokio::time::sleep(length / 3).await;
        }
    };
    stop.run_until_cancelled(renewing).await;
}

async fn renew(api: &Api<Lease>, identity: &str, length: Duration) -> Result<(), Error> {
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(BRIDGE_LEASE.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: i32::try_from(length.as_secs().max(1)).ok(),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }),
    };
    let manager = Some(BRIDGE_MANAGER.to_owned());
    let params = PatchParams {
        field_manager: manager.clone(),
        ..PatchParams::default()
    };
    match api
        .patch(BRIDGE_LEASE, &params, &Patch::Merge(&lease))
        .await
    {
        Err(Error::Api(status)) if status.code == 404 => {
            let params = PostParams {
                field_manager: manager,
                ..PostParams::default()
            };
            api.create(&params, &lease).await.map(drop)
        }
        renewed => renewed.map(drop),
    }
}
