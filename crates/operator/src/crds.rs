//! Brings the custom resources to a cluster.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use sandlot_api::arl::names;

use crate::Error;

/// How long the API may take to serve a new kind.
const PATIENCE: Duration = Duration::from_secs(30);

/// Applies every custom resource definition and waits until the API serves them all.
pub async fn install_crds(client: Client) -> Result<(), Error> {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    let installs = sandlot_api::crds().into_iter().map(|crd| {
        let (api, params) = (&api, &params);
        async move {
            let name = crd.metadata.name.clone().unwrap_or_default();
            let failed = |error| Error::Install {
                name: name.clone(),
                error: Box::new(error),
            };
            api.patch(&name, params, &Patch::Apply(&crd))
                .await
                .map_err(failed)?;
            let established = await_condition(api.clone(), &name, is_crd_established());
            match tokio::time::timeout(PATIENCE, established).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(Error::NotServed { name }),
            }
        }
    });
    try_join_all(installs).await.map(drop)
}
