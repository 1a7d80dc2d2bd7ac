//! What is there from the start: the namespaces, the service and the roles that everybody
//! expects.

use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::access;
use crate::cluster::Cluster;
use crate::status::ApiError;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes what is missing. What is there stays as it is.
pub(crate) async fn fill(cluster: &Cluster) -> Result<(), ApiError> {
    let namespaces = NAMESPACES.map(|name| {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ("/api/v1/namespaces".to_owned(), object)
    });
    all(cluster, namespaces).await?;
    let services = "/api/v1/namespaces/default/services".to_owned();
    all(
        cluster,
        access::bootstrap().chain([(services, own_service())]),
    )
    .await
}

/// Objects that do not need one another are made at the same time: they share their commits.
async fn all(
    cluster: &Cluster,
    objects: impl IntoIterator<Item = (String, Value)>,
) -> Result<(), ApiError> {
    let made = objects
        .into_iter()
        .map(|(path, object)| async move { cluster.ensure(&path, &object).await });
    try_join_all(made).await.map(drop)
}

/// The API as pods look for it.
fn own_service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
        },
    })
}
