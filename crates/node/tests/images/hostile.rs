//! Images made to do harm: refused with the reason, nothing outside touched, nothing left.

use serde_json::json;
use tar::EntryType;

use crate::Cluster;
use crate::harness::state;
use crate::making::{Layer, Packing, count, image, shell};
use crate::pulls::{pod, resting};
use crate::registry::{Liar, event};

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_reach_outside_or_are_bombs_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("target");
    std::fs::write(&target, "safe").unwrap();
    let (folder, file) = (outside.path().to_str().unwrap(), target.to_str().unwrap());
    let huge = |kind| Layer::new().odd(kind, b"huge", b"", b"", 1 << 50);
    // A header that claims a name of a gigabyte, and sends it.
    let long_name = |packing| {
        let zeros = vec![b'a'; 64 << 20];
        Layer::new()
            .odd(
                EntryType::GNULongName,
                b"././@LongLink",
                b"",
                &zeros,
                zeros.len() as u64,
            )
            .packed(packing)
    };
    let cases = [
        (
            "dots",
            Layer::new().odd(EntryType::Regular, b"../../evil", b"", b"x", 1),
            "leads out of the image",
        ),
        (
            "dots-inside",
            Layer::new().odd(EntryType::Regular, b"a/../../evil", b"", b"x", 1),
            "leads out of the image",
        ),
        (
            "dots-whiteout",
            Layer::new().odd(EntryType::Regular, b"a/../../.wh.x", b"", b"", 0),
            "leads out of the image",
        ),
        (
            "whiteout-of-above",
            Layer::new().odd(EntryType::Regular, b"a/.wh...", b"", b"", 0),
            "cannot be unpacked",
        ),
        (
            "hard-link",
            Layer::new().odd(EntryType::Link, b"link", file.as_bytes(), b"", 0),
            "which is not in it",
        ),
        (
            "hard-link-dots",
            Layer::new().odd(EntryType::Link, b"link", b"../../../etc/passwd", b"", 0),
            "leads out of the image",
        ),
        (
            "through-link",
            Layer::new()
                .link(EntryType::Symlink, "way", folder)
                .file("way/target", b"evil", 0o644),
            "cannot be unpacked",
        ),
        ("huge", huge(EntryType::Regular), "more than"),
        ("sparse", huge(EntryType::GNUSparse), ""),
        (
            "bomb",
            Layer::new()
                .file("zeros", &vec![0; 120 << 20], 0o644)
                .packed(Packing::Zstd),
            "more than",
        ),
        ("long-name", long_name(Packing::Zstd), "headers are larger"),
        (
            "kind",
            Layer::new().odd(EntryType::new(b'Z'), b"odd", b"", b"", 0),
            "unknown kind",
        ),
        (
            "no-archive",
            Layer::new()
                .packed(Packing::Plain)
                .odd(EntryType::Regular, b"x", b"", b"", 100_000),
            "",
        ),
        (
            "owner",
            Layer::new().owned("x", b"x", 0o644, (1 << 40, 0)),
            "no number of a user",
        ),
    ];
    let cluster = Cluster::start().await;
    for (name, layer, words) in cases {
        let made = image(vec![layer], json!({"Cmd": ["/x"]}));
        let liar = Liar::of(&made, |_| {}).await;
        cluster
            .create(pod(name, &format!("{}/evil:1", liar.host)))
            .await;
        cluster
            .until(name, "refused", |pod| {
                state(pod)["waiting"]["reason"] == "ErrImagePull"
            })
            .await;
        event(&cluster.client, name, "Failed", words).await;
        for folder in ["incoming", "layers", "names"] {
            assert_eq!(
                count(&cluster.dir.join("images").join(folder)),
                0,
                "{name} left something in {folder}"
            );
        }
    }
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "safe");
    assert_eq!(count(outside.path()), 1);
    // Everything else goes on.
    cluster.run("fine", "exec sleep 1000").await;
    cluster.ready("fine").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absolute_paths_and_links_stay_in_the_image_and_devices_are_left_out() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().to_str().unwrap().to_owned();
    let layer = Layer::new()
        .odd(EntryType::Regular, b"/absolute", b"", b"here", 4)
        .odd(EntryType::Char, b"memory", b"", b"", 0)
        .folder(folder.trim_start_matches('/'), 0o777, (0, 0))
        .link(EntryType::Symlink, "way", &folder)
        .file("way/inside", b"inside", 0o644)
        .attributes(&[
            ("trusted.overlay.redirect", b"/elsewhere"),
            ("user.colour", b"blue"),
        ])
        .file("marked", b"x", 0o644);
    let made = resting(vec![layer]);
    let liar = Liar::of(&made, |_| {}).await;
    let cluster = Cluster::start().await;
    cluster
        .create(pod("odd", &format!("{}/odd:1", liar.host)))
        .await;
    cluster.ready("odd").await;
    let script = format!(
        "read a < /absolute; read b < {folder}/inside; echo $a $b; test -e /memory || echo no device"
    );
    assert_eq!(
        cluster.exec("odd", &script).await.1,
        "here inside\nno device\n"
    );
    assert_eq!(count(outside.path()), 0);
    let layers = std::fs::read_dir(cluster.dir.join("images/layers"))
        .unwrap()
        .flatten();
    let marked = layers
        .map(|layer| layer.path().join("tree/marked"))
        .find(|path| path.exists())
        .unwrap();
    let names: Vec<_> = xattr::list(&marked).unwrap().collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().starts_with("trusted")),
        "{names:?}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_cannot_lead_the_node_elsewhere_when_its_container_is_built() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("made").to_str().unwrap().to_owned();
    let cluster = Cluster::start().await;
    for (name, layer) in [
        ("dev", Layer::new().link(EntryType::Symlink, "dev", &folder)),
        (
            "proc",
            Layer::new().link(EntryType::Symlink, "proc", &folder),
        ),
        ("sys", Layer::new().file("sys", b"x", 0o644)),
    ] {
        let liar = Liar::of(
            &image(vec![shell(), layer], json!({"Cmd": ["/bin/sh"]})),
            |_| {},
        )
        .await;
        cluster
            .create(pod(name, &format!("{}/evil:1", liar.host)))
            .await;
        let refused =
            |pod: &serde_json::Value| state(pod)["waiting"]["reason"] == "CreateContainerError";
        let held = cluster.until(name, "refused", refused).await;
        let message = state(&held)["waiting"]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            message.contains(&format!("the image's /{name}")),
            "{message}"
        );
    }
    assert_eq!(count(outside.path()), 0);
    // A pipe where a file is expected does not keep the node waiting.
    let pipe = Layer::new().odd(EntryType::Fifo, b"etc/passwd", b"", b"", 0);
    let liar = Liar::of(
        &image(
            vec![shell(), pipe],
            json!({"Cmd": ["/bin/sh", "-c", "echo in"]}),
        ),
        |_| {},
    )
    .await;
    cluster
        .create(pod("pipe", &format!("{}/evil:1", liar.host)))
        .await;
    cluster.phase("pipe", "Succeeded").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_pull_with_the_reason_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    std::fs::create_dir(&images).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "none"])
        .arg(&images)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: a small disk cannot be mounted here; it takes root");
        return;
    }
    let folder = dir.path().to_owned();
    let cluster = Cluster::with(|config| config.data_dir = folder).await;
    let noise: Vec<u8> = (0..10_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let made = resting(vec![
        Layer::new()
            .packed(Packing::Plain)
            .file("noise", &noise, 0o644),
    ]);
    let liar = Liar::of(&made, |_| {}).await;
    cluster
        .create(pod("big", &format!("{}/big:1", liar.host)))
        .await;
    event(&cluster.client, "big", "Failed", "no space left on device").await;
    // Ends the attempts; the one that may be under way clears up behind it.
    cluster.delete("big").await;
    let begun = std::time::Instant::now();
    while count(&images.join("incoming")) > 0 {
        assert!(begun.elapsed().as_secs() < 20, "a pull left something");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let small = resting(Vec::new());
    let other = Liar::of(&small, |_| {}).await;
    cluster
        .create(pod("small", &format!("{}/small:1", other.host)))
        .await;
    cluster.ready("small").await;
    cluster.stop().await;
    let unmounted = std::process::Command::new("umount")
        .arg("-l")
        .arg(&images)
        .status();
    assert!(unmounted.unwrap().success());
}
