//! The logins a pod brings: `imagePullSecrets` of its own and of its service account.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::Api;

use super::credentials::Keyring;

/// What a pod's secrets hold, and what was wrong with them, for an event.
pub(crate) async fn of_pod(client: &kube::Client, pod: &Pod) -> (Keyring, Vec<String>) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let spec = pod.spec.clone().unwrap_or_default();
    let mut names: BTreeSet<String> = spec
        .image_pull_secrets
        .iter()
        .flatten()
        .map(|secret| secret.name.clone())
        .collect();
    let account = spec.service_account_name.as_deref().unwrap_or("default");
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    if let Ok(Some(account)) = accounts.get_opt(account).await {
        names.extend(
            account
                .image_pull_secrets
                .into_iter()
                .flatten()
                .map(|secret| secret.name),
        );
    }
    let mut keyring = Keyring::default();
    let mut troubles = Vec::new();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for name in names {
        if let Err(trouble) = add(&secrets, &name, &mut keyring).await {
            troubles.push(format!("{namespace}/{name}: {trouble}"));
        }
    }
    (keyring, troubles)
}

async fn add(secrets: &Api<Secret>, name: &str, keyring: &mut Keyring) -> Result<(), String> {
    let secret = secrets
        .get_opt(name)
        .await
        .map_err(|error| error.to_string())?;
    let secret = secret.ok_or("there is no such secret")?;
    let data = secret.data.unwrap_or_default();
    let added = match (data.get(".dockerconfigjson"), data.get(".dockercfg")) {
        (Some(json), _) => keyring.add_config(&json.0),
        (None, Some(json)) => keyring.add_legacy(&json.0),
        (None, None) => return Err("it has neither .dockerconfigjson nor .dockercfg".to_owned()),
    };
    // What is in it is secret, also where it is wrong.
    added.map_err(|error| {
        format!(
            "it is not readable at line {} column {}",
            error.line(),
            error.column()
        )
    })
}
