//! The same without root: some of these tests are run again by an ordinary user, who can give
//! files to nobody else, make no devices, and no whiteouts as root makes them.

use serde_json::json;
use tar::EntryType;

use crate::Cluster;
use crate::making::{Layer, Packing, image, shell};
use crate::ordinary::{as_ordinary_user, or_say_why_not};
use crate::pulls::pod;
use crate::registry::Registry;

#[test]
fn an_ordinary_user_s_images_are_those_of_root() {
    let tests = [
        "rootless::an_image_of_many_owners_and_removed_files_is_root_s_alone",
        "archives::archives_of_both_kinds_are_taken_in_and_run",
        "archives::a_container_on_the_machines_own_programs_can_be_saved_too",
    ];
    or_say_why_not(as_ordinary_user(&tests, ""));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test above, as somebody else"]
async fn an_image_of_many_owners_and_removed_files_is_root_s_alone() {
    let Some(registry) = Registry::start().await else {
        return;
    };
    let base = shell()
        .file("gone", b"x", 0o644)
        .folder("hidden/", 0o755, (0, 0))
        .file("hidden/below", b"x", 0o644)
        .file("kept/below", b"x", 0o644);
    let upper = Layer::new()
        .packed(Packing::Zstd)
        .file(".wh.gone", b"", 0o600)
        .folder("hidden/", 0o755, (7, 7))
        .file("hidden/.wh..wh..opq", b"", 0o600)
        .file("hidden/above", b"x", 0o644)
        .owned("owned", b"hello", 0o600, (1234, 55))
        .owned("closed", b"words", 0o000, (1234, 55))
        .folder("home/", 0o700, (1234, 55))
        .link(EntryType::Symlink, "symlink", "/owned")
        .link(EntryType::Link, "hardlink", "owned");
    let script = "for f in /gone /hidden/below /hidden/above /kept/below; do test -e $f && echo has $f; done; \
        read x < /symlink; read y < /hardlink; read z < /closed; echo $x $y $z; \
        echo new > /home/new && echo more >> /owned && echo written; test -O /owned && echo mine";
    let made = image(
        vec![base, upper],
        json!({"Entrypoint": ["/bin/sh", "-c", script]}),
    );
    registry.put("owners", "1", &made).await;
    let cluster = Cluster::start().await;
    cluster.create(pod("p", &registry.name("owners:1"))).await;
    cluster.phase("p", "Succeeded").await;
    let said = cluster.logs("p", Default::default()).await;
    assert_eq!(
        said,
        "has /hidden/above\nhas /kept/below\nhello hello words\nwritten\nmine\n"
    );
    cluster.delete("p").await;
    cluster.stop().await;
}
