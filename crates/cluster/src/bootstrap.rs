//! What is there from the start: the namespaces, the service and the roles that everybody
//! expects.

use serde_json::{Value, json};

use crate::access;
use crate::cluster::Cluster;
use crate::status::ApiError;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes what is missing. What is there stays as it is.
pub(crate) async fn fill(cluster: &Cluster) -> Result<(), ApiError> {
    for name in NAMESPACES {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        cluster.ensure("/api/v1/namespaces", &namespace).await?;
    }
    cluster
        .ensure("/api/v1/namespaces/default/services", &own_service())
        .await?;
    for (path, object) in access::bootstrap() {
        cluster.ensure(&path, &object).await?;
    }
    Ok(())
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
