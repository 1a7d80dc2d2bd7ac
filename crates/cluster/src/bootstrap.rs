//! What is there from the start: the namespaces and roles that everybody expects.

use serde_json::json;

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
    for (path, object) in access::bootstrap() {
        cluster.ensure(&path, &object).await?;
    }
    Ok(())
}
