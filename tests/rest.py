"""A plain client of the REST API, and gateways to talk to."""

import contextlib
import http.client
import json
import os
import random
import re
import socket
import subprocess
import time
import uuid
from pathlib import Path

from conftest import SANDLOT, eventually


class Answer:
    """A status, headers and a body."""

    def __init__(self, status: int, headers, content: bytes):
        self.status = status
        self.headers = headers
        self.content = content

    @property
    def json(self):
        return json.loads(self.content) if self.content else None

    def __repr__(self):
        return f"{self.status} {self.content[:2000]!r}"


class Rest:
    """A gateway, called the way a client would."""

    def __init__(self, address: str, token: str | None = None):
        self.address = address
        self.token = token

    def call(self, method: str, path: str, body=None, headers=None, timeout: float = 60) -> Answer:
        """One request; `body` is sent as JSON unless it is bytes."""
        connection = http.client.HTTPConnection(self.address, timeout=timeout)
        headers = dict(headers or {})
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if body is not None and not isinstance(body, (bytes, bytearray)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **more) -> Answer:
        return self.call("GET", "/api/v1" + path, **more)

    def post(self, path: str, body=None, **more) -> Answer:
        return self.call("POST", "/api/v1" + path, body, **more)

    def put(self, path: str, body=None, **more) -> Answer:
        return self.call("PUT", "/api/v1" + path, body, **more)

    def delete(self, path: str, **more) -> Answer:
        return self.call("DELETE", "/api/v1" + path, **more)

    def session(self, **fields) -> str:
        """A session that runs; its id."""
        made = self.post("/sessions", {"template_id": "python-basic", **fields})
        assert made.status == 201, made
        assert made.json["status"] == "creating"
        return self.until_running(made.json["id"])

    def until_running(self, session: str) -> str:
        def state():
            found = self.get(f"/sessions/{session}").json
            assert found["status"] in ("creating", "running"), found
            return found["status"] == "running"

        eventually(state, timeout=120, every=0.02)
        return session

    def run(self, session: str, code: str, language: str = "shell", **fields) -> dict:
        """What came of some code."""
        body = {"code": code, "language": language, **fields}
        done = self.post(f"/executions/sessions/{session}/execute-sync", body, timeout=180)
        assert done.status == 200, done
        return done.json

    def upload(self, session: str, path: str, content: bytes, **query) -> Answer:
        boundary = uuid.uuid4().hex
        body = b"".join([
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'.encode(),
            content, f"\r\n--{boundary}--\r\n".encode(),
        ])
        more = "".join(f"&{name}={value}" for name, value in query.items())
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self.call("POST", f"/api/v1/sessions/{session}/files/upload?path={path}{more}", body, kind)


class Gateway:
    """A `sandlot gateway` of its own, beside the one that the machine has."""

    def __init__(self, machine, folder: Path, **variables: str):
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"gateway-{uuid.uuid4().hex[:6]}.log"
        key = (machine.folder / "data/operator.key").read_text()
        env = {**os.environ, "PORT": "0", "SANDLOT_OPERATOR_KEY": key, "DEFAULT_TEMPLATE_IMAGE": "host", **variables}
        self.process = subprocess.Popen(
            [SANDLOT, "gateway", "--kubeconfig", str(machine.kubeconfig), "--data-dir", str(folder)],
            env=env, stdout=self.log.open("wb"), stderr=subprocess.STDOUT,
        )
        self.rest = Rest(eventually(self._address, timeout=60))

    def _address(self):
        said = self.log.read_text(errors="replace")
        assert self.process.poll() is None, said
        found = re.search(r"http://(\S+)", said)
        return found and found[1]

    def stop(self) -> int:
        self.process.send_signal(2)
        return self.process.wait(timeout=60)

    def kill(self):
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    """A port to listen on, also after a restart: none of those that outgoing connections are given."""
    while True:
        port = random.randrange(15000, 29000)
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                one.bind(("", port))
                return port


def until(deadline: float, check):
    """Asks again until it is true or the deadline is over."""
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return False
