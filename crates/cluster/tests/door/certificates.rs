//! Certificates are made once, kept, and renewed in time.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use sandlot_cluster::server::{CertificateError, Certificates, kubeconfig, write_kubeconfig};
use serde_json::Value;

fn open(folder: &Path, days: i64) -> Certificates {
    open_for(folder, days, &[])
}

fn open_for(folder: &Path, days: i64, addresses: &[IpAddr]) -> Certificates {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    Certificates::open(
        folder,
        addresses,
        start + SignedDuration::from_hours(24 * days),
    )
    .unwrap()
}

#[test]
fn a_restart_uses_the_same_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (open(folder.path(), 0), open(folder.path(), 100));
    assert_eq!(first.authority.certificate, second.authority.certificate);
    assert_eq!(first.serving.certificate, second.serving.certificate);
    assert_eq!(first.admin.key, second.admin.key);
}

#[test]
fn certificates_are_renewed_before_they_expire_and_the_authority_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (first, later) = (open(folder.path(), 0), open(folder.path(), 300));
    assert_eq!(first.authority.certificate, later.authority.certificate);
    assert_ne!(first.serving.certificate, later.serving.certificate);
    assert_ne!(first.admin.certificate, later.admin.certificate);
    let much_later = open(folder.path(), 10 * 365 - 1);
    assert_ne!(
        first.authority.certificate,
        much_later.authority.certificate
    );
}

#[test]
fn a_new_address_gets_a_new_certificate_and_an_old_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let address: IpAddr = "10.1.2.3".parse().unwrap();
    let (plain, named) = (
        open(folder.path(), 0),
        open_for(folder.path(), 0, &[address]),
    );
    assert_ne!(plain.serving.certificate, named.serving.certificate);
    assert_eq!(
        named.serving.certificate,
        open(folder.path(), 0).serving.certificate
    );
    let anywhere = open_for(folder.path(), 0, &["0.0.0.0".parse().unwrap()]);
    assert_eq!(named.serving.certificate, anywhere.serving.certificate);
}

#[test]
fn a_key_that_does_not_fit_its_certificate_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), 0);
    fs::copy(
        folder.path().join("admin.key"),
        folder.path().join("apiserver.key"),
    )
    .unwrap();
    let second = open(folder.path(), 0);
    assert_ne!(first.serving.certificate, second.serving.certificate);
    assert_eq!(first.admin.certificate, second.admin.certificate);
}

#[test]
fn a_damaged_authority_is_reported_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), 0);
    fs::write(folder.path().join("ca.key"), "rubbish").unwrap();
    let error = Certificates::open(folder.path(), &[], Timestamp::now()).unwrap_err();
    assert!(matches!(error, CertificateError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("ca.key"), "{error}");
}

#[test]
fn nobody_else_may_read_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let pki = folder.path().join("pki");
    let certificates = open(&pki, 0);
    let file = folder.path().join("kubeconfig");
    write_kubeconfig(
        &file,
        &kubeconfig("sandlot", "https://127.0.0.1:6443", &certificates),
    )
    .unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&pki), mode(&file)), (0o700, 0o600));
    for entry in fs::read_dir(&pki).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    let config: Value = serde_saphyr::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(
        config["clusters"][0]["cluster"]["server"],
        "https://127.0.0.1:6443"
    );
    assert!(
        !format!("{certificates:?}").contains("PRIVATE KEY"),
        "keys are not for logs"
    );
}
