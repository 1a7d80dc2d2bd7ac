"""Where the API is and how to be let in: a kubeconfig, or the service account of a pod."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import yaml

from .errors import SandlotError

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Connection:
    """An address, the trust in it, and what shows who we are."""

    server: str
    tls: ssl.SSLContext
    headers: Mapping[str, str] = field(default_factory=dict)
    namespace: str = "default"

    @staticmethod
    def find(kubeconfig: Optional[str] = None, context: Optional[str] = None) -> "Connection":
        """From the file named, else KUBECONFIG, else the pod we run in, else `sandlot up`'s, else ~/.kube/config."""
        named = kubeconfig or next((p for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p), None)
        if named is None and (_SERVICE_ACCOUNT / "token").exists():
            return Connection._of_pod()
        usual = Path.home() / ".kube/config"
        ours = _data_folder() / "kubeconfig"
        file = Path(named).expanduser() if named else ours if ours.exists() else usual
        if not file.exists():
            raise SandlotError(f"there is no kubeconfig at {file}; start `sandlot up`, or set KUBECONFIG")
        return Connection._of_file(file, context)

    @staticmethod
    def _of_pod() -> "Connection":
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        host = f"[{host}]" if ":" in host else host
        token = (_SERVICE_ACCOUNT / "token").read_text().strip()
        return Connection(
            server=f"https://{host}:{port}",
            tls=ssl.create_default_context(cafile=str(_SERVICE_ACCOUNT / "ca.crt")),
            headers={"Authorization": f"Bearer {token}"},
            namespace=(_SERVICE_ACCOUNT / "namespace").read_text().strip(),
        )

    @staticmethod
    def _of_file(file: Path, context: Optional[str]) -> "Connection":
        config = yaml.safe_load(file.read_text())
        chosen = _named(config, "contexts", context or config.get("current-context"), file)["context"]
        cluster = _named(config, "clusters", chosen["cluster"], file)["cluster"]
        user = _named(config, "users", chosen["user"], file)["user"] or {}
        if "exec" in user:
            user = {**user, **_credentials(user["exec"], file)}
        return Connection(
            server=cluster["server"].rstrip("/"),
            tls=_tls(file.parent, cluster, user),
            headers=_authorization(file.parent, user),
            namespace=chosen.get("namespace", "default"),
        )


def _named(config: Dict[str, Any], kind: str, name: Optional[str], file: Path) -> Dict[str, Any]:
    for entry in config.get(kind) or []:
        if entry["name"] == name:
            found: Dict[str, Any] = entry
            return found
    raise SandlotError(f"{file} has no entry {name!r} in {kind}")


def _data_folder() -> Path:
    """Where `sandlot up` keeps everything unless it is told otherwise."""
    named, share = os.environ.get("SANDLOT_DATA_DIR"), os.environ.get("XDG_DATA_HOME")
    return Path(named) if named else Path(share or Path.home() / ".local/share") / "sandlot"


def _authorization(folder: Path, user: Dict[str, Any]) -> Dict[str, str]:
    if "auth-provider" in user:
        raise SandlotError("the kubeconfig's user has an auth-provider, which Kubernetes has given up; use exec instead")
    if user.get("token"):
        return {"Authorization": f"Bearer {user['token']}"}
    if user.get("tokenFile"):
        return {"Authorization": f"Bearer {(folder / user['tokenFile']).read_text().strip()}"}
    if user.get("username"):
        both = f"{user['username']}:{user.get('password', '')}"
        return {"Authorization": f"Basic {base64.b64encode(both.encode()).decode()}"}
    return {}


def _credentials(plugin: Dict[str, Any], file: Path) -> Dict[str, Any]:
    """What a cloud's own program says when it is asked who we are."""
    version = plugin.get("apiVersion", "client.authentication.k8s.io/v1")
    asked = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    env = {one["name"]: one["value"] for one in plugin.get("env") or []}
    words = [plugin["command"], *(plugin.get("args") or [])]
    try:
        done = subprocess.run(
            words, stdout=subprocess.PIPE, check=True, timeout=60, stdin=subprocess.DEVNULL,
            env={**os.environ, **env, "KUBERNETES_EXEC_INFO": json.dumps(asked)},
        )
        status: Dict[str, Any] = json.loads(done.stdout)["status"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        raise SandlotError(f"{words[0]}, which {file} names for credentials, gave none: {error}") from error
    found = {"token": status.get("token")}
    for ours, theirs in (("certificate", "clientCertificateData"), ("key", "clientKeyData")):
        if status.get(theirs):
            found[f"client-{ours}-data"] = base64.b64encode(status[theirs].encode()).decode()
    return found


def _tls(folder: Path, cluster: Dict[str, Any], user: Dict[str, Any]) -> ssl.SSLContext:
    authority = _material(folder, cluster, "certificate-authority")
    tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    certificate, key = _material(folder, user, "client-certificate"), _material(folder, user, "client-key")
    if certificate and key:
        # The ssl module reads client certificates from files only.
        with tempfile.NamedTemporaryFile(suffix=".pem") as both:
            both.write(certificate + b"\n" + key)
            both.flush()
            tls.load_cert_chain(both.name)
    return tls


def _material(folder: Path, entry: Dict[str, Any], name: str) -> Optional[bytes]:
    if name + "-data" in entry:
        return base64.b64decode(entry[name + "-data"])
    return (folder / entry[name]).read_bytes() if name in entry else None
