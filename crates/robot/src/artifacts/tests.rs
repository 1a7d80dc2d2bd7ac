use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

use super::*;

fn artifact(source: &Path, destination: Option<&str>, options: &[(&str, &str)]) -> Artifact {
    let options: BTreeMap<_, _> = options
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Artifact {
        getter_source: format!("file://{}", source.display()),
        getter_options: Some(options),
        relative_dest: destination.map(str::to_owned),
        getter_mode: None,
    }
}

async fn fetch(artifact: &Artifact, folder: &Path) -> Result<(), FetchError> {
    // Whoever runs tests has not chosen how TLS is done yet.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Fetcher::new().unwrap().fetch(artifact, folder).await
}

/// An archive of one entry, whose name is taken as it is.
fn archive(folder: &Path, name: &str, kind: tar::EntryType, link: &str) -> PathBuf {
    let path = folder.join("hostile.tar");
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(if kind.is_file() { 2 } else { 0 });
    header.set_mode(0o755);
    header.set_cksum();
    let mut builder = tar::Builder::new(File::create(&path).unwrap());
    let content: &[u8] = if kind.is_file() { b"hi" } else { b"" };
    builder.append(&header, content).unwrap();
    builder.finish().unwrap();
    path
}

#[tokio::test]
async fn a_file_lands_in_the_tasks_folder_and_can_be_run() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    fs::write(from.path().join("tool"), "#!/bin/sh\n").unwrap();
    let tool = artifact(&from.path().join("tool"), Some("bin"), &[]);
    fetch(&tool, to.path()).await.unwrap();
    let placed = to.path().join("bin/tool");
    assert_eq!(
        placed.metadata().unwrap().permissions().mode() & 0o777,
        0o755
    );
    assert_eq!(
        fs::read_dir(to.path()).unwrap().count(),
        1,
        "nothing is left over"
    );
}

#[tokio::test]
async fn what_is_not_what_it_should_be_is_thrown_away() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let file = from.path().join("data");
    fs::write(&file, "hello").unwrap();
    let good = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    fetch(&artifact(&file, None, &[("checksum", good)]), to.path())
        .await
        .unwrap();
    fs::write(&file, "hellO").unwrap();
    let error = fetch(
        &artifact(&file, Some("b"), &[("checksum", good)]),
        to.path(),
    )
    .await;
    assert!(matches!(
        error,
        Err(FetchError::Mismatch(Mismatch::Checksum { .. }))
    ));
    assert!(!to.path().join("b").exists());
    let error = fetch(&artifact(&file, None, &[("checksum", "md5:1")]), to.path()).await;
    assert!(matches!(error, Err(FetchError::Option("checksum", _))));
}

#[tokio::test]
async fn only_what_the_key_signed_is_taken() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use ring::signature::{Ed25519KeyPair, KeyPair};
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let file = from.path().join("data");
    fs::write(&file, "hello").unwrap();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let key = STANDARD.encode(pair.public_key().as_ref());
    let signature = STANDARD.encode(pair.sign(b"hello").as_ref());
    let options = [
        ("signature", signature.as_str()),
        ("publicKey", key.as_str()),
    ];
    fetch(&artifact(&file, None, &options), to.path())
        .await
        .unwrap();
    fs::write(&file, "other").unwrap();
    let error = fetch(&artifact(&file, None, &options), to.path()).await;
    assert!(matches!(
        error,
        Err(FetchError::Mismatch(Mismatch::Signature))
    ));
}

#[tokio::test]
async fn nothing_gets_out_of_the_tasks_folder() {
    let from = tempfile::tempdir().unwrap();
    let outer = tempfile::tempdir().unwrap();
    let to = outer.path().join("task");
    fs::create_dir(&to).unwrap();
    let file = tar::EntryType::Regular;
    let link = tar::EntryType::Symlink;
    for (name, kind, target) in [
        ("../out", file, ""),
        ("/tmp/sandlot-out", file, ""),
        ("a/../../out", file, ""),
        ("link", link, "/etc/passwd"),
        ("link", link, "../../out"),
        ("hard", tar::EntryType::Link, "/etc/passwd"),
        ("device", tar::EntryType::Char, ""),
        ("pipe", tar::EntryType::Fifo, ""),
    ] {
        let hostile = archive(from.path(), name, kind, target);
        let error = fetch(&artifact(&hostile, None, &[]), &to).await;
        assert!(error.is_err(), "{name} {target}");
    }
    std::os::unix::fs::symlink(outer.path(), to.join("way-out")).unwrap();
    let hostile = archive(from.path(), "way-out/out", file, "");
    assert!(fetch(&artifact(&hostile, None, &[]), &to).await.is_err());
    for destination in ["../out", "/out", "way-out"] {
        fs::write(from.path().join("plain"), "x").unwrap();
        let plain = artifact(&from.path().join("plain"), Some(destination), &[]);
        assert!(fetch(&plain, &to).await.is_err(), "{destination}");
    }
    assert!(write_within(&to, "way-out/x", b"x", 0o644).is_err());
    let names: Vec<_> = fs::read_dir(outer.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["task"]);
}

#[tokio::test]
async fn a_bomb_is_stopped_at_the_size_it_may_have() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let path = from.path().join("bomb.tar.gz");
    let packed =
        flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::best());
    let mut builder = tar::Builder::new(packed);
    let mut header = tar::Header::new_gnu();
    header.set_size(64 << 20);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "zeros", io::repeat(0).take(64 << 20))
        .unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    let error = fetch(
        &artifact(&path, None, &[("maxBytes", "1000000")]),
        to.path(),
    )
    .await;
    assert!(matches!(error, Err(FetchError::TooLarge(1_000_000))));
}
