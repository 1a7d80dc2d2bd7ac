//! From a registry to a running pod.

use serde_json::{Value, json};
use tar::EntryType;

use crate::Cluster;
use crate::harness::state;
use crate::making::{Layer, Packing, REST, count, image, image_for, shell};
use crate::registry::{Liar, Registry, event, events};

/// A pod of one container that runs an image as the image says.
pub(crate) fn pod(name: &str, image: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": image, "imagePullPolicy": "IfNotPresent"}]}})
}

/// An image that rests, and with these layers over the shell's.
pub(crate) fn resting(layers: Vec<Layer>) -> crate::making::Image {
    let layers = std::iter::once(shell()).chain(layers).collect();
    image(
        layers,
        json!({"Entrypoint": ["/bin/sh", "-c"], "Cmd": [REST]}),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_what_the_images_layers_and_configuration_make_it() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    let base = shell()
        .file(
            "etc/passwd",
            b"root:x:0:0::/:/bin/sh\napp:x:1234:55::/home:/bin/sh\n",
            0o644,
        )
        .file("etc/group", b"root:x:0:\nstaff:x:55:\n", 0o644)
        .file("gone", b"x", 0o644)
        .folder("hidden/", 0o755, (0, 0))
        .file("hidden/below", b"x", 0o644)
        .file("kept/below", b"x", 0o644);
    let second = Layer::new()
        .packed(Packing::Zstd)
        .file(".wh.gone", b"", 0o600)
        .folder("hidden/", 0o755, (0, 0))
        .file("hidden/.wh..wh..opq", b"", 0o600)
        .file("hidden/above", b"x", 0o644)
        .owned("owned", b"hello", 0o640, (1234, 55))
        .link(EntryType::Symlink, "symlink", "/owned")
        .link(EntryType::Link, "hardlink", "owned");
    let third = Layer::new()
        .packed(Packing::Plain)
        .folder("home/", 0o700, (1234, 55));
    let script = "for f in /gone /hidden/below /hidden/above /kept/below /data; do test -e $f && echo has $f; done; \
        read x < /symlink; read y < /hardlink; echo $x $y $COLOUR $1 $PWD; \
        while read name a b; do case $name in Uid:|Gid:) echo $name $a;; esac; done < /proc/self/status";
    let made = image(
        vec![base, second, third],
        json!({"Entrypoint": ["/bin/sh", "-c", script, "sh"], "Cmd": ["from-cmd"], "User": "app:staff",
            "Env": ["PATH=/bin", "COLOUR=blue"], "WorkingDir": "/work/here", "Volumes": {"/data": {}}}),
    );
    let digest = registry.put("made/image", "1", &made).await;
    let cluster = Cluster::start().await;
    let name = registry.name("made/image:1");
    cluster.create(pod("whole", &name)).await;
    let ended = cluster.phase("whole", "Succeeded").await;
    let said = cluster.logs("whole", Default::default()).await;
    assert_eq!(
        said,
        "has /hidden/above\nhas /kept/below\nhas /data\nhello hello blue from-cmd /work/here\nUid: 1234\nGid: 55\n"
    );
    let status = &ended["status"]["containerStatuses"][0];
    assert_eq!(
        status["imageID"],
        json!(format!("{}@{digest}", registry.name("made/image")))
    );
    event(
        &cluster.client,
        "whole",
        "Pulling",
        &format!("Pulling image \"{name}\""),
    )
    .await;
    event(
        &cluster.client,
        "whole",
        "Pulled",
        "Successfully pulled image",
    )
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_arguments_replace_the_images() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    let made = image(
        vec![shell()],
        json!({"Entrypoint": ["/bin/sh", "-c", "echo $@", "sh"], "Cmd": ["cmd"]}),
    );
    registry.put("args", "1", &made).await;
    let cluster = Cluster::start().await;
    let echo = |more: &[&str]| {
        let words = [&["/bin/sh", "-c", "echo \"$@\"", "sh"], more].concat();
        json!({"command": words})
    };
    let cases = [
        ("none", json!({}), "cmd\n"),
        ("args", json!({"args": ["a", "b"]}), "a b\n"),
        (
            "command",
            json!({"command": ["/bin/sh", "-c", "echo own"]}),
            "own\n",
        ),
        // What an agent that starts a container's command is told to start.
        (
            "stands-for",
            echo(&["$(SANDLOT_IMAGE_COMMAND)"]),
            "/bin/sh -c echo $@ sh cmd\n",
        ),
        (
            "with-args",
            echo(&["$(SANDLOT_IMAGE_COMMAND)", "x"]),
            "/bin/sh -c echo $@ sh x\n",
        ),
    ];
    for (name, more, said) in cases {
        let mut wanted = pod(name, &registry.name("args:1"));
        let container = wanted["spec"]["containers"][0].as_object_mut().unwrap();
        container.extend(more.as_object().unwrap().clone());
        cluster.create(wanted).await;
        cluster.phase(name, "Succeeded").await;
        assert_eq!(cluster.logs(name, Default::default()).await, said, "{name}");
    }
    let silent = image(vec![shell()], json!({}));
    registry.put("silent", "1", &silent).await;
    let mut wanted = pod("silent", &registry.name("silent:1"));
    wanted["spec"]["containers"][0]["command"] = json!(["/bin/sh", "$(SANDLOT_IMAGE_COMMAND)"]);
    cluster.create(wanted).await;
    let refused = |pod: &Value| state(pod)["waiting"]["reason"] == "CreateContainerConfigError";
    let held = cluster.until("silent", "refused", refused).await;
    let message = state(&held)["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("no command specified"), "{message}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_platforms_this_machines_is_taken_and_a_digest_names_one_for_ever() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    let ours = image(
        vec![shell()],
        json!({"Cmd": ["/bin/sh", "-c", "echo ours"]}),
    );
    let theirs = image_for(
        "s390x",
        vec![Layer::new().file("x", b"x", 0o644)],
        json!({"Cmd": ["/x"]}),
    );
    let mut entries = Vec::new();
    for (made, architecture) in [(&theirs, "s390x"), (&ours, "")] {
        let digest = registry.put("multi", "parts", made).await;
        let config: Value = serde_json::from_slice(&made.config).unwrap();
        let architecture = if architecture.is_empty() {
            config["architecture"].clone()
        } else {
            json!(architecture)
        };
        entries.push(json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
            "size": made.manifest.len(), "platform": {"os": "linux", "architecture": architecture}}));
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries});
    let digest = registry
        .put_manifest("multi", "1", kind, &serde_json::to_vec(&index).unwrap())
        .await;
    let only_theirs = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries[..1]});
    registry
        .put_manifest(
            "multi",
            "theirs",
            kind,
            &serde_json::to_vec(&only_theirs).unwrap(),
        )
        .await;

    let cluster = Cluster::start().await;
    for (name, image) in [
        ("tag", "multi:1".to_owned()),
        ("digest", format!("multi@{digest}")),
    ] {
        cluster.create(pod(name, &registry.name(&image))).await;
        let ended = cluster.phase(name, "Succeeded").await;
        assert_eq!(cluster.logs(name, Default::default()).await, "ours\n");
        let id = ended["status"]["containerStatuses"][0]["imageID"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(id.ends_with(&digest), "{id}");
    }
    cluster
        .create(pod("theirs", &registry.name("multi:theirs")))
        .await;
    event(&cluster.client, "theirs", "Failed", "linux/s390x").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_fails_waits_longer_each_time_and_says_so_as_anywhere() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    let cluster = Cluster::start().await;
    let name = registry.name("no/such:1");
    cluster.create(pod("absent", &name)).await;
    let reason = |pod: &Value| {
        state(pod)["waiting"]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    cluster
        .until("absent", "failed", |pod| reason(pod) == "ErrImagePull")
        .await;
    let waiting = cluster
        .until("absent", "waiting", |pod| reason(pod) == "ImagePullBackOff")
        .await;
    let message = state(&waiting)["waiting"]["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!(
            "Back-off pulling image \"{name}\": ErrImagePull: "
        )),
        "{message}"
    );
    assert_eq!(waiting["status"]["phase"], "Pending");
    for (reason, words) in [
        ("Pulling", name.as_str()),
        ("Failed", "Failed to pull image"),
        ("Failed", "is not found in the registry"),
        ("Failed", "Error: ErrImagePull"),
        ("BackOff", "Back-off pulling image"),
        ("Failed", "Error: ImagePullBackOff"),
    ] {
        event(&cluster.client, "absent", reason, words).await;
    }
    // Once it is there, the next attempt gets it.
    registry.put("no/such", "1", &resting(Vec::new())).await;
    cluster.ready("absent").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pull_policy_decides_who_is_asked() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    registry.put("policy", "1", &resting(Vec::new())).await;
    let cluster = Cluster::start().await;
    let with = |name: &str, policy: &str| {
        let mut pod = pod(name, &registry.name("policy:1"));
        pod["spec"]["containers"][0]["imagePullPolicy"] = policy.into();
        pod
    };
    cluster.create(with("never", "Never")).await;
    let reason = |pod: &Value| state(pod)["waiting"]["reason"] == "ErrImageNeverPull";
    cluster.until("never", "refused", reason).await;
    event(
        &cluster.client,
        "never",
        "ErrImageNeverPull",
        "is not present with pull policy of Never",
    )
    .await;
    assert_eq!(registry.asked("GET", "policy"), 0);
    cluster.create(with("first", "IfNotPresent")).await;
    cluster.ready("first").await;
    let asked = registry.asked("GET", "policy/manifests");
    cluster.create(with("again", "IfNotPresent")).await;
    cluster.ready("again").await;
    event(
        &cluster.client,
        "again",
        "Pulled",
        "already present on machine",
    )
    .await;
    assert_eq!(registry.asked("GET", "policy/manifests"), asked);
    let blobs = registry.asked("GET", "policy/blobs");
    cluster.create(with("always", "Always")).await;
    cluster.ready("always").await;
    assert_eq!(registry.asked("GET", "policy/manifests"), asked + 1);
    // The configuration is read again, the layer is not.
    assert_eq!(registry.asked("GET", "policy/blobs"), blobs + 1);

    cluster.create(pod("nameless", "Not A Name")).await;
    let reason = |pod: &Value| state(pod)["waiting"]["reason"] == "InvalidImageName";
    cluster.until("nameless", "refused", reason).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_pods_that_want_the_same_image_at_once_pull_it_once() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    let noise: Vec<u8> = (0..2_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let made = resting(vec![Layer::new().file("noise", &noise, 0o644)]);
    registry.put("wanted", "1", &made).await;
    let cluster = Cluster::start().await;
    let names: Vec<String> = (0..20).map(|number| format!("pod-{number}")).collect();
    for name in &names {
        cluster.create(pod(name, &registry.name("wanted:1"))).await;
    }
    for name in &names {
        cluster.ready(name).await;
    }
    for layer in &made.layers {
        assert_eq!(registry.asked("GET", layer), 1);
    }
    // Another image shares the shell.
    let other = resting(vec![Layer::new().file("other", b"x", 0o644)]);
    registry.put("other", "1", &other).await;
    cluster
        .create(pod("other", &registry.name("other:1")))
        .await;
    cluster.ready("other").await;
    assert_eq!(
        registry.asked("GET", &format!("other/blobs/{}", other.layers[0])),
        0
    );
    assert_eq!(count(&cluster.dir.join("images/layers")), 3);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_its_digest_says_is_refused_and_leaves_nothing() {
    let made = resting(vec![Layer::new().file("x", b"x", 0o644)]);
    let layer = made.layers[1].clone();
    let evil = crate::making::gzip(&Layer::new().file("x", b"y", 0o644).archive());
    let cases = [
        ("layer", format!("/blobs/{layer}"), evil.clone()),
        (
            "longer",
            format!("/blobs/{layer}"),
            [evil.as_slice(), &vec![0; 4 << 20]].concat(),
        ),
        (
            "cut",
            format!("/blobs/{layer}"),
            made.blobs[&layer][..20].to_vec(),
        ),
        (
            "config",
            format!("/blobs/{}", crate::making::digest(&made.config)),
            b"{}".to_vec(),
        ),
    ];
    for (name, path, lie) in cases {
        let liar = Liar::of(&made, |answers| {
            answers.insert(path, lie);
        })
        .await;
        let cluster = Cluster::start().await;
        cluster
            .create(pod(name, &format!("{}/made:1", liar.host)))
            .await;
        cluster
            .until(name, "refused", |pod| {
                state(pod)["waiting"]["reason"] == "ErrImagePull"
            })
            .await;
        assert_eq!(count(&cluster.dir.join("images/names")), 0, "{name}");
        assert_eq!(count(&cluster.dir.join("images/incoming")), 0, "{name}");
        let failed = events(&cluster.client, name, "Failed").await;
        assert!(
            failed.iter().all(|words| !words.contains("panicked")),
            "{failed:?}"
        );
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_by_digest_that_is_another_is_refused_and_endless_ones_are_cut() {
    let made = resting(Vec::new());
    let mut lie = made.manifest.clone();
    lie.push(b' ');
    let wanted = crate::making::digest(&made.manifest);
    let liar = Liar::of(&made, |answers| {
        answers.insert(format!("/manifests/{wanted}"), lie);
        answers.insert("/manifests/endless".to_owned(), vec![b' '; 8 << 20]);
    })
    .await;
    let cluster = Cluster::start().await;
    cluster
        .create(pod("other", &format!("{}/made@{wanted}", liar.host)))
        .await;
    event(&cluster.client, "other", "Failed", "it lies or was changed").await;
    cluster
        .create(pod("endless", &format!("{}/made:endless", liar.host)))
        .await;
    event(&cluster.client, "endless", "Failed", "is longer than").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_on_the_same_folder_has_the_images_and_no_leftovers() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    registry.put("kept", "1", &resting(Vec::new())).await;
    let cluster = Cluster::start().await;
    cluster
        .create(pod("before", &registry.name("kept:1")))
        .await;
    cluster.ready("before").await;
    let name = registry.name("kept:1");
    drop(registry);
    // What a node leaves that is killed while it unpacks.
    let images = cluster.dir.join("images");
    std::fs::create_dir_all(images.join("incoming/half/tree/bin")).unwrap();
    let orphan = images.join("layers").join("0".repeat(64));
    std::fs::create_dir_all(orphan.join("tree")).unwrap();
    std::fs::write(images.join("names/half.new"), b"{").unwrap();
    let cluster = cluster.restart_node().await;
    assert_eq!(count(&images.join("incoming")), 0);
    assert!(!orphan.exists() && !images.join("names/half.new").exists());
    let again = cluster.ready("before").await;
    assert_eq!(again["status"]["containerStatuses"][0]["restartCount"], 0);
    cluster.create(pod("after", &name)).await;
    cluster.ready("after").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_tells_which_images_it_has() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    registry.put("told", "1", &resting(Vec::new())).await;
    let cluster = Cluster::start().await;
    cluster.create(pod("one", &registry.name("told:1"))).await;
    cluster.ready("one").await;
    let cluster = cluster.restart_node().await;
    let node = http::Request::get("/api/v1/nodes/node")
        .body(Vec::new())
        .unwrap();
    let node = cluster.client.request::<Value>(node).await.unwrap();
    let told = &node["status"]["images"][0];
    assert!(
        told["names"]
            .as_array()
            .unwrap()
            .contains(&json!(registry.name("told:1"))),
        "{told}"
    );
    assert!(told["sizeBytes"].as_u64().unwrap() > 100_000);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_missing_images_are_replaced_a_pull_is_tried_first() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    registry.put("there", "1", &resting(Vec::new())).await;
    let cluster =
        Cluster::with(|config| config.missing_images = sandlot_node::MissingImages::Host).await;
    cluster
        .create(pod("there", &registry.name("there:1")))
        .await;
    let there = cluster.ready("there").await;
    assert_ne!(there["status"]["containerStatuses"][0]["imageID"], "host");
    let mut absent = pod("absent", &registry.name("absent:1"));
    absent["spec"]["containers"][0]["command"] = json!(["sleep", "1000"]);
    cluster.create(absent).await;
    cluster.ready("absent").await;
    event(
        &cluster.client,
        "absent",
        "MissingImageReplaced",
        "is not found in the registry",
    )
    .await;
    cluster.stop().await;
}
