"""Where the API is and how to be let in: a kubeconfig, or the service account of a pod."""

from __future__ import annotations

import base64
import os
import ssl
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
        """From the file named, else KUBECONFIG, else the pod we run in, else ~/.kube/config."""
        named = kubeconfig or next((p for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p), None)
        if named is None and (_SERVICE_ACCOUNT / "token").exists():
            return Connection._of_pod()
        file = Path(named).expanduser() if named else Path.home() / ".kube/config"
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
        user = _named(config, "users", chosen["user"], file)["user"]
        return Connection(
            server=cluster["server"].rstrip("/"),
            tls=_tls(file.parent, cluster, user),
            headers={"Authorization": f"Bearer {user['token']}"} if "token" in user else {},
            namespace=chosen.get("namespace", "default"),
        )


def _named(config: Dict[str, Any], kind: str, name: Optional[str], file: Path) -> Dict[str, Any]:
    for entry in config.get(kind) or []:
        if entry["name"] == name:
            found: Dict[str, Any] = entry
            return found
    raise SandlotError(f"{file} has no entry {name!r} in {kind}")


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
