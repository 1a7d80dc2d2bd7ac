//! `sandlot image`: archives in, images out, and nothing taken from a pod that runs.

use std::io::Cursor;

use sandlot_node::images_door::{Ask, Client, ImageInfo, Removed, Tell};

use crate::Cluster;
use crate::making::{Layer, count, docker_archive, gzip, oci_layout};
use crate::pulls::{pod, resting};
use crate::registry::Registry;

async fn ask(cluster: &Cluster, ask: Ask, archive: Option<Vec<u8>>) -> Tell {
    let client = Client::connect(&cluster.dir).await.unwrap();
    client
        .ask(&ask, archive.map(Cursor::new), |_, _| {})
        .await
        .unwrap()
}

async fn images(cluster: &Cluster) -> Vec<ImageInfo> {
    match ask(cluster, Ask::List {}, None).await {
        Tell::Images { images } => images
            .into_iter()
            .filter(|image| image.name != "host")
            .collect(),
        other => panic!("{other:?}"),
    }
}

async fn import(
    cluster: &Cluster,
    archive: Vec<u8>,
    name: Option<&str>,
) -> Result<Vec<String>, String> {
    let import = Ask::Import {
        name: name.map(str::to_owned),
    };
    match ask(cluster, import, Some(archive)).await {
        Tell::Images { images } => Ok(images.into_iter().map(|image| image.name).collect()),
        Tell::Failed { message } => Err(message),
        other => panic!("{other:?}"),
    }
}

async fn remove(cluster: &Cluster, name: &str) -> Result<Removed, String> {
    match ask(
        cluster,
        Ask::Remove {
            name: name.to_owned(),
        },
        None,
    )
    .await
    {
        Tell::Removed { removed } => Ok(removed),
        Tell::Failed { message } => Err(message),
        other => panic!("{other:?}"),
    }
}

async fn prune(cluster: &Cluster) -> Removed {
    match ask(cluster, Ask::Prune {}, None).await {
        Tell::Removed { removed } => removed,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_both_kinds_are_taken_in_and_run() {
    let cluster = Cluster::start().await;
    let made = resting(vec![Layer::new().file("x", b"x", 0o644)]);
    let layout = oci_layout(&made, Some("example.org/layout:1"));
    assert_eq!(
        import(&cluster, layout.clone(), None).await.unwrap(),
        ["example.org/layout:1"]
    );
    let saved = gzip(&docker_archive(&made, "saved:1"));
    assert_eq!(
        import(&cluster, saved, None).await.unwrap(),
        ["docker.io/library/saved:1"]
    );
    assert_eq!(
        import(&cluster, layout, Some("other:1")).await.unwrap(),
        ["docker.io/library/other:1"]
    );
    for (name, image) in [
        ("a", "example.org/layout:1"),
        ("b", "saved:1"),
        ("c", "other:1"),
    ] {
        cluster.create(pod(name, image)).await;
        cluster.ready(name).await;
    }
    // All of them are the same two layers.
    assert_eq!(count(&cluster.dir.join("images/layers")), 2);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_none_is_refused_with_what_is_wrong() {
    let cluster = Cluster::start().await;
    let made = resting(Vec::new());
    let nameless = oci_layout(&made, None);
    let mut cut = oci_layout(&made, Some("example.org/cut:1"));
    cut.truncate(cut.len() / 2);
    for (what, archive, words) in [
        ("empty", Vec::new(), "neither index.json"),
        ("no archive", b"hello".repeat(1000), "cannot be read"),
        ("nameless", nameless, "--name"),
        ("cut", cut, ""),
        (
            "escaping",
            Layer::new()
                .odd(
                    tar::EntryType::Regular,
                    b"../../../index.json",
                    b"",
                    b"{}",
                    2,
                )
                .archive(),
            "not readable",
        ),
    ] {
        let said = import(&cluster, archive, None).await.unwrap_err();
        assert!(said.contains(words), "{what}: {said}");
    }
    assert_eq!(count(&cluster.dir.join("images/incoming")), 0);
    assert!(images(&cluster).await.is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_removed_only_when_no_pod_uses_it() {
    let cluster = Cluster::start().await;
    let used = resting(vec![Layer::new().file("used", &[b'x'; 100_000], 0o644)]);
    let idle = resting(vec![Layer::new().file("idle", &[b'y'; 200_000], 0o644)]);
    for (name, made) in [("used:1", &used), ("idle:1", &idle), ("idle:2", &idle)] {
        import(&cluster, oci_layout(made, None), Some(name))
            .await
            .unwrap();
    }
    cluster.create(pod("user", "used:1")).await;
    cluster.ready("user").await;
    let all = images(&cluster).await;
    let users: Vec<_> = all
        .iter()
        .map(|image| (image.name.as_str(), image.used_by.clone()))
        .collect();
    assert_eq!(
        users[2],
        ("docker.io/library/used:1", vec!["default/user".to_owned()])
    );
    assert!(
        all.iter().all(|image| image.size_bytes > 1_000_000),
        "{all:?}"
    );

    let refused = remove(&cluster, "used:1").await.unwrap_err();
    assert!(refused.contains("default/user"), "{refused}");
    assert!(
        remove(&cluster, "nothing:1")
            .await
            .unwrap_err()
            .contains("sandlot image list")
    );
    assert!(remove(&cluster, "host").await.is_err());
    // The other name keeps the layers.
    assert_eq!(remove(&cluster, "idle:1").await.unwrap().bytes, 0);
    // A new node knows of the pod, too.
    let cluster = cluster.restart_node().await;
    let pruned = prune(&cluster).await;
    assert_eq!(
        (pruned.images.as_slice(), pruned.bytes),
        (&["docker.io/library/idle:2".to_owned()][..], 200_000)
    );
    assert_eq!(count(&cluster.dir.join("images/layers")), 2);

    cluster.delete("user").await;
    let pruned = prune(&cluster).await;
    assert_eq!(pruned.images, ["docker.io/library/used:1"]);
    assert_eq!(count(&cluster.dir.join("images/layers")), 0);
    assert_eq!(count(&cluster.dir.join("images/incoming")), 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_wrote_becomes_an_image_that_registries_take() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    let cluster = Cluster::start().await;
    let base = resting(vec![
        Layer::new()
            .file("goes", b"x", 0o644)
            .file("stays", b"x", 0o644)
            .file("folder/goes", b"x", 0o644),
    ]);
    registry.put("base", "1", &base).await;
    cluster
        .create(pod("writer", &registry.name("base:1")))
        .await;
    cluster.ready("writer").await;
    // The image has no `rm`: what is taken away is taken away by the host's view of the pod.
    cluster
        .exec_sh(
            "writer",
            "echo new > /new; echo changed > /stays; echo deep > /folder/deep",
        )
        .await;
    let name = registry.name("snapshot:1");
    let commit = Ask::Commit {
        namespace: "default".into(),
        pod: "writer".into(),
        container: None,
        name: name.clone(),
    };
    let told = ask(&cluster, commit, None).await;
    assert!(matches!(told, Tell::Images { .. }), "{told:?}");
    let check =
        "for f in /new /stays /folder/deep /goes /folder/goes; do read x < $f && echo $x; done; :";
    let expected = "new\nchanged\ndeep\n";
    cluster.create(pod("local", &name)).await;
    cluster.ready("local").await;
    assert_eq!(cluster.exec_sh("local", check).await, expected);

    let pushed = ask(
        &cluster,
        Ask::Push {
            name: name.clone(),
            to: name.clone(),
        },
        None,
    )
    .await;
    let Tell::Pushed { digest } = pushed else {
        panic!("{pushed:?}")
    };
    // The base came from this registry: its layers are given in the new repository's name.
    assert!(digest.starts_with("sha256:"));
    let mut pulled = pod("pulled", &name);
    pulled["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
    cluster.create(pulled).await;
    let ready = cluster.ready("pulled").await;
    let id = ready["status"]["containerStatuses"][0]["imageID"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(id.ends_with(&digest), "{id} is not {digest}");
    assert_eq!(cluster.exec_sh("pulled", check).await, expected);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_on_the_machines_own_programs_can_be_saved_too() {
    let cluster = Cluster::start().await;
    cluster
        .run(
            "writer",
            "echo root > /kept; rm /etc/nsswitch.conf; echo usr > /usr/local/kept; exec sleep 1000",
        )
        .await;
    cluster.ready("writer").await;
    let begun = std::time::Instant::now();
    while cluster.exec("writer", "cat /usr/local/kept").await.1 != "usr\n" {
        assert!(begun.elapsed().as_secs() < 20);
    }
    let commit = Ask::Commit {
        namespace: "default".into(),
        pod: "writer".into(),
        container: Some("c".into()),
        name: "saved:1".into(),
    };
    let told = ask(&cluster, commit, None).await;
    assert!(matches!(told, Tell::Images { .. }), "{told:?}");
    cluster.delete("writer").await;
    let mut again = pod("again", "saved:1");
    again["spec"]["containers"][0]["command"] = serde_json::json!(["sleep", "1000"]);
    cluster.create(again).await;
    cluster.ready("again").await;
    let (_, seen) = cluster
        .exec(
            "again",
            "cat /kept /usr/local/kept; ls /etc/nsswitch.conf || echo gone",
        )
        .await;
    assert!(
        seen.starts_with("root\nusr\n") && seen.contains("gone\n"),
        "{seen}"
    );
    let push = Ask::Push {
        name: "saved:1".into(),
        to: "127.0.0.1:1/x:1".into(),
    };
    let Tell::Failed { message } = ask(&cluster, push, None).await else {
        panic!()
    };
    assert!(message.contains("machine's own programs"), "{message}");
    cluster.stop().await;
}

impl Cluster {
    /// Runs a script with the image's own shell.
    async fn exec_sh(&self, pod: &str, script: &str) -> String {
        self.exec(pod, script).await.1
    }
}
