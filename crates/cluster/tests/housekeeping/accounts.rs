//! Every namespace has an account, and the certificate of the authority.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use sandlot_cluster::{Cluster, Config};
use serde_json::json;

use crate::office::{object, until};

const AUTHORITY: &str = "kube-root-ca.crt";

async fn cluster() -> (Cluster, tempfile::TempDir) {
    let keys = tempfile::tempdir().unwrap();
    let config = Config {
        keys: Some(keys.path().to_owned()),
        ..Config::default()
    };
    (Cluster::start(config).await.expect("starts"), keys)
}

fn certificate(map: Option<&ConfigMap>) -> bool {
    let data = map.and_then(|map| map.data.as_ref());
    data.is_some_and(|data| {
        data.len() == 1 && data["ca.crt"].starts_with("-----BEGIN CERTIFICATE-----")
    })
}

#[tokio::test]
async fn a_new_namespace_gets_an_account_and_the_certificate() {
    let (cluster, _keys) = cluster().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let namespace = object(json!({"metadata": {"name": "new"}}));
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .expect("created");
    for namespace in ["new", "default", "kube-system"] {
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), namespace);
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), namespace);
        until(&accounts, "default", |a: Option<&ServiceAccount>| {
            a.is_some()
        })
        .await;
        until(&maps, AUTHORITY, certificate).await;
    }
}

#[tokio::test]
async fn what_is_deleted_or_changed_comes_back() {
    let (cluster, _keys) = cluster().await;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client());
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    until(&accounts, "default", |a: Option<&ServiceAccount>| {
        a.is_some()
    })
    .await;
    until(&maps, AUTHORITY, certificate).await;

    let old = accounts.get("default").await.expect("there").metadata.uid;
    accounts
        .delete("default", &DeleteParams::default())
        .await
        .expect("deleted");
    let another = |a: Option<&ServiceAccount>| a.is_some_and(|a| a.metadata.uid != old);
    until(&accounts, "default", another).await;

    let wrong = Patch::Merge(json!({"data": {"ca.crt": "forged", "more": "x"}}));
    maps.patch(AUTHORITY, &PatchParams::default(), &wrong)
        .await
        .expect("changed");
    until(&maps, AUTHORITY, certificate).await;
    maps.delete(AUTHORITY, &DeleteParams::default())
        .await
        .expect("deleted");
    until(&maps, AUTHORITY, certificate).await;
}
