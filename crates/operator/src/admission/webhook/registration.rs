//! Tells the API server to ask the webhook.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::{
    Api, Client, Error,
    api::{Patch, PatchParams},
};
use sandlot_api::{arl::names, robot};
use serde_json::{Value, json};

use super::Webhook;

const NAME: &str = "arl-operator";

pub(super) async fn register(
    client: &Client,
    webhook: &Webhook,
    authority: &str,
) -> Result<(), Error> {
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let object = configuration(
        webhook,
        authority,
        "Mutating",
        "/mutate",
        &["CREATE", "UPDATE"],
    );
    mutating.patch(NAME, &params, &Patch::Apply(object)).await?;
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let object = configuration(
        webhook,
        authority,
        "Validating",
        "/validate",
        &["CREATE", "UPDATE", "DELETE"],
    );
    validating
        .patch(NAME, &params, &Patch::Apply(object))
        .await?;
    Ok(())
}

fn configuration(
    webhook: &Webhook,
    authority: &str,
    kind: &str,
    path: &str,
    operations: &[&str],
) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": format!("{kind}WebhookConfiguration"),
        "metadata": { "name": NAME },
        "webhooks": [{
            "name": format!("{}.arl.infra.io", kind.to_lowercase()),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": 5,
            // An operator that is down must not keep anybody from writing: the controllers
            // find the same faults themselves, only later.
            "failurePolicy": "Ignore",
            "clientConfig": {
                "caBundle": STANDARD.encode(authority),
                "service": {
                    "namespace": webhook.namespace, "name": webhook.service, "port": webhook.port, "path": path,
                },
            },
            "rules": [{
                "apiGroups": [names::GROUP], "apiVersions": ["v1alpha1"], "operations": operations,
                "resources": ["warmpools", "sandboxes", "tasks"], "scope": "Namespaced",
            }, {
                "apiGroups": [robot::names::GROUP], "apiVersions": ["v1alpha1"], "operations": operations,
                "resources": ["robots", "jobs", "tasks", "commands", "robotdeployments"], "scope": "Namespaced",
            }],
        }],
    })
}
