//! Registries that want to know who asks.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use serde_json::json;

use crate::Cluster;
use crate::harness::state;
use crate::making::{image, shell};
use crate::pulls::pod;
use crate::registry::{Registry, event};

async fn with_image() -> Option<Registry> {
    let registry = Registry::with_login().await?;
    let made = image(vec![shell()], json!({"Cmd": ["/bin/sh", "-c", "echo in"]}));
    registry.put("secret", "1", &made).await;
    Some(registry)
}

fn encoded(text: impl ToString) -> String {
    base64::engine::general_purpose::STANDARD.encode(text.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_in_with_its_own_secret_or_its_service_accounts() {
    let Some(registry) = with_image().await else {
        return;
    };
    let cluster = Cluster::start().await;
    let auth = encoded("someone:secret");
    let config = json!({"auths": {&registry.host: {"auth": auth}}});
    let legacy =
        json!({&registry.host: {"username": "someone", "password": "secret", "email": "x"}});
    let wrong = json!({"auths": {&registry.host: {"username": "someone", "password": "wrong"}}});
    for (name, kind, key, value) in [
        (
            "own",
            "kubernetes.io/dockerconfigjson",
            ".dockerconfigjson",
            config,
        ),
        (
            "wrong",
            "kubernetes.io/dockerconfigjson",
            ".dockerconfigjson",
            wrong,
        ),
        ("legacy", "kubernetes.io/dockercfg", ".dockercfg", legacy),
    ] {
        let secret =
            json!({"metadata": {"name": name}, "type": kind, "data": {key: encoded(value)}});
        cluster.make("secrets", secret).await;
    }
    let account = json!({"metadata": {"name": "worker"}, "imagePullSecrets": [{"name": "legacy"}]});
    cluster.make("serviceaccounts", account).await;

    let name = registry.name("secret:1");
    for (pod_name, secrets) in [
        ("nobody", vec![]),
        ("liar", vec!["wrong"]),
        ("absent", vec!["no-such-secret"]),
    ] {
        let mut wanted = pod(pod_name, &name);
        let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
        wanted["spec"]["imagePullSecrets"] = json!(secrets);
        cluster.create(wanted).await;
        cluster
            .until(pod_name, "refused", |pod| {
                state(pod)["waiting"]["reason"] == "ErrImagePull"
            })
            .await;
        event(&cluster.client, pod_name, "Failed", "pull access denied").await;
    }
    event(
        &cluster.client,
        "absent",
        "FailedToRetrieveImagePullSecret",
        "there is no such secret",
    )
    .await;
    let mut own = pod("own", &name);
    // A wrong login among the right ones does no harm.
    own["spec"]["imagePullSecrets"] = json!([{"name": "wrong"}, {"name": "own"}]);
    let mut account = pod("account", &name);
    account["spec"]["serviceAccountName"] = "worker".into();
    account["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
    for wanted in [own, account] {
        let name = wanted["metadata"]["name"].as_str().unwrap().to_owned();
        cluster.create(wanted).await;
        cluster.phase(&name, "Succeeded").await;
    }
    // That somebody may have it does not mean that everybody may.
    let mut thief = pod("thief", &name);
    thief["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
    cluster.create(thief).await;
    event(&cluster.client, "thief", "Failed", "pull access denied").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logins_of_docker_serve_too_also_those_a_helper_keeps() {
    let Some(registry) = with_image().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let in_file = json!({"auths": {&registry.host: {"auth": encoded("someone:secret")}}});
    std::fs::write(dir.path().join("config.json"), in_file.to_string()).unwrap();
    let folder = dir.path().to_owned();
    let cluster = Cluster::with(|config| config.docker_config = Some(folder)).await;
    cluster
        .create(pod("file", &registry.name("secret:1")))
        .await;
    cluster.phase("file", "Succeeded").await;

    // Helpers are found on the path; one of a name of our own disturbs nobody.
    let helper = format!("sandlot-test-{}", std::process::id());
    let program =
        std::path::Path::new("/usr/local/bin").join(format!("docker-credential-{helper}"));
    let script = "#!/bin/sh\nread place\ncase $1 in get) echo '{\"ServerURL\":\"x\",\"Username\":\"someone\",\"Secret\":\"secret\"}';; esac\n";
    if std::fs::write(&program, script).is_err() {
        eprintln!("SKIPPED: /usr/local/bin cannot be written, so no helper can be put on the path");
        return cluster.stop().await;
    }
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let by_helper = json!({"credHelpers": {&registry.host: helper}});
    std::fs::write(dir.path().join("config.json"), by_helper.to_string()).unwrap();
    let mut wanted = pod("helper", &registry.name("secret:1"));
    wanted["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
    cluster.create(wanted).await;
    cluster.phase("helper", "Succeeded").await;
    std::fs::remove_file(&program).unwrap();
    cluster.stop().await;
}
