"""Who gets in over REST, how often, and how much of the gateway one caller can take."""

import hashlib
import http.client
import os
import re
import socket
import subprocess
import time

import pytest
from conftest import SANDLOT
from rest import Gateway, Rest

TOKENS = {"ann": "user", "ben": "user", "root": "admin"}


def secret(name: str) -> str:
    return f"a-long-secret-of-{name}"


def lines() -> str:
    return " ".join(f"{name}:{role}:{hashlib.sha256(secret(name).encode()).hexdigest()}" for name, role in TOKENS.items())


@pytest.fixture(scope="module")
def gateway(machine, tmp_path_factory):
    """A gateway that other machines could reach, for people with tokens."""
    one = Gateway(machine, tmp_path_factory.mktemp("closed"), HOST="0.0.0.0", KUBERNETES_NAMESPACE="closed",
                  SANDLOT_GATEWAY_TOKENS=lines(), RATE_LIMIT_ENABLED="false",
                  ENVIRONMENT="production", MAX_UPLOAD_FILE_SIZE_MB="1")
    one.rest.address = one.rest.address.replace("0.0.0.0", "127.0.0.1")
    yield one
    one.stop()


def caller(gateway, name: str | None) -> Rest:
    return Rest(gateway.rest.address, secret(name) if name else None)


@pytest.fixture(scope="module")
def anns(gateway):
    """A session of Ann's."""
    return caller(gateway, "ann").session()


def test_nobody_gets_in_without_a_token(gateway):
    stranger = caller(gateway, None)
    for answer in [stranger.get("/sessions"), stranger.post("/sessions", {}), stranger.call("GET", "/docs"), stranger.get("/health/detailed")]:
        assert answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer", answer
    wrong = Rest(gateway.rest.address, "guess").get("/sessions")
    assert wrong.status == 401 and "guess" not in wrong.content.decode()
    hashed = hashlib.sha256(secret("root").encode()).hexdigest()
    assert Rest(gateway.rest.address, hashed).get("/sessions").status == 401, "what is kept of a token is no token"


def test_probes_need_no_token_and_tell_no_secrets(gateway):
    stranger = caller(gateway, None)
    assert stranger.get("/health").json["status"] == "healthy"
    ready = stranger.get("/health/ready")
    assert (ready.status, ready.json) == (200, {
        "status": "ready", "dependencies": {"database": "healthy", "storage": "healthy", "runtime_nodes": "healthy"}})


def test_numbers_for_prometheus_are_for_administrators(gateway, anns):
    assert caller(gateway, "ann").run(anns, "true")["status"] == "completed"
    numbers = caller(gateway, "root").call("GET", "/metrics")
    assert numbers.status == 200 and numbers.headers["Content-Type"].startswith("application/openmetrics-text")
    told = dict(line.rsplit(" ", 1) for line in numbers.content.decode().splitlines() if not line.startswith("#"))
    assert int(told['sandbox_executions_total{status="completed"}']) >= 1
    assert int(told['sandbox_sessions_active{status="running"}']) >= 1
    assert float(told["sandbox_session_start_duration_seconds_sum"]) > 0
    assert caller(gateway, "ann").call("GET", "/metrics").status == 403
    assert caller(gateway, None).call("GET", "/metrics").status == 401


def test_a_session_is_its_owners_and_the_administrators(gateway, anns):
    ann, ben, root = (caller(gateway, name) for name in TOKENS)
    done = ann.run(anns, "echo mine > f; echo hi")
    assert done["stdout"] == "hi\n"
    paths = [f"/sessions/{anns}", f"/sessions/{anns}/files", f"/sessions/{anns}/files/f", f"/executions/{done['id']}/result",
             f"/executions/{done['id']}/status", f"/executions/{done['id']}/stream", f"/executions/sessions/{anns}/executions"]
    for path in paths:
        assert ben.get(path).status == 404, path
        assert root.get(path).status == 200, path
    code = {"code": "cat f", "language": "shell"}
    for path in [f"/executions/sessions/{anns}/execute", f"/executions/sessions/{anns}/execute-sync", f"/executions/sessions/{anns}/execute-stream",
                 f"/sessions/{anns}/terminate", f"/executions/{done['id']}/cancel"]:
        assert ben.post(path, code).status == 404, path
    assert ben.upload(anns, "f", b"ben's").status == 404 and ben.delete(f"/sessions/{anns}").status == 404
    assert ben.get("/sessions").json["total"] == 0
    assert [one["id"] for one in ann.get("/sessions").json["items"]] == [anns]
    assert ann.run(anns, "cat f")["stdout"] == "mine\n"


def test_only_administrators_change_templates(gateway):
    template = {"id": "odd", "name": "Odd", "image_url": "host", "runtime_type": "python3.11"}
    assert caller(gateway, "ann").post("/templates", template).status == 403
    assert caller(gateway, "ann").delete("/templates/python-basic").status == 403
    assert caller(gateway, "ann").post("/health/sync", {}).status == 403
    assert caller(gateway, "ann").get("/templates").status == 200
    root = caller(gateway, "root")
    assert root.post("/templates", template).status == 201 and root.delete("/templates/odd").status == 200


def test_pages_of_others_get_nowhere(gateway):
    headers = {"Origin": "https://evil.example", "Authorization": f"Bearer {secret('ann')}"}
    answer = caller(gateway, None).call("GET", "/api/v1/sessions", headers=headers)
    assert answer.status == 403 and "Access-Control-Allow-Origin" not in answer.headers


def test_bodies_that_are_too_large_are_refused(gateway, anns):
    ann = caller(gateway, "ann")
    assert ann.upload(anns, "big", b"x" * (2 << 20)).status == 413
    assert ann.get(f"/sessions/{anns}/files/big").status == 404, "nothing of it is kept"
    # One that says so beforehand is refused before it is sent.
    connection = http.client.HTTPConnection(ann.address, timeout=30)
    connection.putrequest("POST", "/api/v1/sessions")
    connection.putheader("Authorization", f"Bearer {secret('ann')}")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_slow_clients_do_not_hold_others_up(gateway, anns):
    host, port = gateway.rest.address.split(":")
    slow = []
    for beginning in [b"GET /api/v1/sessions HTTP/1.1\r\nX-Slow: ", b"", b"POST /api/v1/sessions HTTP/1.1\r\nContent-Length: 99\r\n\r\n{"] * 50:
        one = socket.create_connection((host, int(port)))
        one.sendall(beginning)
        slow.append(one)
    began = time.monotonic()
    done = caller(gateway, "ann").run(anns, "echo hi")
    assert done["stdout"] == "hi\n", done
    assert time.monotonic() - began < 10
    for one in slow:
        one.close()


def test_who_calls_too_often_is_told_when_to_come_back(machine, tmp_path):
    gateway = Gateway(machine, tmp_path, KUBERNETES_NAMESPACE="paced", RATE_LIMIT_ENABLED="true", RATE_LIMIT_PER_MINUTE="30", SANDLOT_GATEWAY_TOKENS=lines())
    try:
        ann, ben, stranger = caller(gateway, "ann"), caller(gateway, "ben"), caller(gateway, None)
        answers = [ann.get("/templates") for _ in range(40)]
        refused = [answer for answer in answers if answer.status == 429]
        assert 5 <= len(refused) <= 10 and all(answer.status in (200, 429) for answer in answers)
        wait = int(refused[-1].headers["Retry-After"])
        assert 1 <= wait <= 2 and "try again" in refused[-1].json["detail"]
        assert ben.get("/templates").status == 200, "others are not held up"
        guesses = [stranger.get("/templates").status for _ in range(40)]
        assert set(guesses) == {401, 429}, "who guesses tokens is slowed down"
        assert ben.get("/templates").status == 200, "from the same address, too"
        assert stranger.get("/health").status == 200, "probes are not counted"
        time.sleep(wait)
        assert ann.get("/templates").status == 200
    finally:
        gateway.stop()


def gateway_that_ends(machine, folder, **variables) -> subprocess.CompletedProcess:
    command = [SANDLOT, "gateway", "--kubeconfig", str(machine.kubeconfig), "--data-dir", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PORT": "0", **variables})


@pytest.mark.parametrize("variables", [{"HOST": "0.0.0.0"}, {"ENVIRONMENT": "production"}, {"HOST": "::"}])
def test_it_does_not_start_open_to_everybody(machine, tmp_path, variables):
    done = gateway_that_ends(machine, tmp_path, **variables)
    assert done.returncode == 1 and "SANDLOT_GATEWAY_TOKENS" in done.stderr, done


def test_a_token_is_told_once_and_only_its_hash_is_configured(machine, tmp_path):
    said = subprocess.run([SANDLOT, "gateway", "--new-token", "eve"], capture_output=True, text=True, timeout=60, check=True).stdout
    token = re.search(r"token: (\S+)", said)[1]
    line = re.search(r"SANDLOT_GATEWAY_TOKENS=(\S+)", said)[1]
    assert token not in line
    gateway = Gateway(machine, tmp_path, KUBERNETES_NAMESPACE="hashed", SANDLOT_GATEWAY_TOKENS=line)
    try:
        assert Rest(gateway.rest.address, token).get("/sessions").status == 200
        assert Rest(gateway.rest.address).get("/sessions").status == 401
    finally:
        gateway.stop()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert token.encode() not in kept, "neither the database nor the log has it"
