//! The file that tells clients where the API is and who they are.

use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::certificates::Certificates;
use super::secret_file;

/// A kubeconfig that makes its reader the administrator, all in one file.
pub fn kubeconfig(name: &str, server: &str, certificates: &Certificates) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(&certificates.authority.certificate),
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": STANDARD.encode(&certificates.admin.certificate),
            "client-key-data": STANDARD.encode(&certificates.admin.key),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        "current-context": name,
        "preferences": {},
    })
}

/// Writes a kubeconfig that only its owner may read.
pub fn write_kubeconfig(path: &Path, kubeconfig: &Value) -> io::Result<()> {
    let text = serde_saphyr::to_string(kubeconfig).map_err(io::Error::other)?;
    secret_file::write(path, text.as_bytes())
}
