"""A real robot's agent on this machine, connected over TLS."""

import contextlib
import subprocess

from conftest import SANDLOT, eventually, which
from test_robots import TOKEN, bridge, mosquitto  # noqa: F401


@contextlib.contextmanager
def agent(folder, robot: str, url: str, *options: str):
    """A robot's agent, which is stopped at the end."""
    folder.mkdir(exist_ok=True)
    with open(folder / "agent.log", "ab") as log:
        process = subprocess.Popen(
            [SANDLOT, "robot", "--robot-id", robot, "--broker-url", url, "--token", TOKEN,
             "--heartbeat-interval", "1", "--work-dir", str(folder / "work"), *options],
            stdout=log, stderr=log,
        )
    try:
        yield folder / "work"
    finally:
        process.terminate()
        process.wait(timeout=60)


class Authority:
    """Somebody who vouches for names, with files that openssl makes."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                 "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=the test's authority")

    def run(self, *args: str):
        subprocess.run([which("openssl"), *args], cwd=self.folder, check=True, capture_output=True, timeout=300)

    @property
    def file(self) -> str:
        return str(self.folder / "ca.pem")

    def vouch(self, name: str) -> list[str]:
        """A certificate and its key; made anew for a name that has one."""
        (self.folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self.run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-keyout", f"{name}.key.new", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        self.run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                 "-days", "2", "-extfile", "names", "-out", f"{name}.pem.new")
        for kind in ("pem", "key"):
            (self.folder / f"{name}.{kind}.new").rename(self.folder / f"{name}.{kind}")
        return [str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")]


def test_robots_come_over_tls_and_renewed_certificates_count(own_machine, mosquitto, tmp_path):  # noqa: F811
    authority = Authority(tmp_path / "authority")
    broker = mosquitto("--ca", authority.file, "--broker-identity", *authority.vouch("broker"), scheme="mqtts")
    up = own_machine("--ephemeral", "--missing-images", "host", "--mqtt-listen", "127.0.0.1:0")
    with contextlib.contextmanager(bridge)(up, broker, "fleet"):
        robot = ("get", "robot", "-n", "fleet", "arm-1", "-o", "jsonpath={.status.phase}")
        stands = lambda phase: up.kubectl(*robot, check=False).stdout == phase  # noqa: E731
        with agent(tmp_path / "robot", "arm-1", broker.url, "--ca", authority.file):
            eventually(lambda: stands("Online"), timeout=120)
            # Another authority vouches for the broker from now on: who reads its file again comes back.
            other = Authority(tmp_path / "other")
            certificate, key = other.vouch("broker")
            for fresh, old in ((certificate, "broker.pem"), (key, "broker.key"), (other.file, "ca.pem")):
                with open(fresh, "rb") as source:
                    (authority.folder / old).write_bytes(source.read())
            broker.restart()
            eventually(lambda: stands("Online"), timeout=120)
        eventually(lambda: stands("Offline"), timeout=120)


def test_a_robots_certificate_is_what_it_is(mosquitto, tmp_path):  # noqa: F811
    """With mutual TLS the name in the certificate is the only one that a robot can use."""
    authority = Authority(tmp_path / "authority")
    broker = mosquitto("--ca", authority.file, "--own-credentials-only", "--robots-ca", authority.file,
                       "--broker-identity", *authority.vouch("broker"), scheme="mqtts")
    certificate, key = authority.vouch("arm-1")
    login = ["--cafile", authority.file, "--cert", certificate, "--key", key]
    assert broker.may(login, "hear", "k8s4r/robots/arm-1/desired")
    assert not broker.may(["--cafile", authority.file], "hear", "k8s4r/robots/arm-1/desired")
    stranger, secret = Authority(tmp_path / "stranger").vouch("arm-1")
    forged = ["--cafile", authority.file, "--cert", stranger, "--key", secret]
    assert not broker.may(forged, "hear", "k8s4r/robots/arm-1/desired")
