"""What a gateway is told by variables: each of them changes something that somebody notices."""

import hashlib
import json
import sqlite3
import time
import uuid

import databases
import pytest
from conftest import eventually
from rest import Gateway, Rest, free_port
from stores import Store
from test_gateway_access import gateway_that_ends
from test_gateway_hostile import packed

NAMESPACE = "told"
ORIGIN = "https://console.example"
POOL = {
    "apiVersion": "arl.infra.io/v1alpha1", "kind": "WarmPool",
    "metadata": {"name": "nobodys", "labels": {"sandlot.dev/pool-of": "session"}, "annotations": {"sandlot.dev/session": "nobody"}},
    "spec": {"replicas": 0, "template": {"spec": {"containers": [{"name": "executor", "image": "host"}]}}},
}


class Subject:
    """A gateway, a session of its own, and where its pods live."""

    def __init__(self, machine, rest: Rest, namespace: str):
        self.machine, self.rest, self.namespace = machine, rest, namespace
        self.session = rest.session(template_id=None) if rest else None

    def seen(self) -> dict:
        return self.rest.get(f"/sessions/{self.session}").json

    def run(self, code: str, **fields) -> dict:
        return self.rest.run(self.session, code, **fields)

    def status(self, method: str, path: str, body=None, **more) -> int:
        return self.rest.call(method, "/api/v1" + path, body, **more).status

    def submits(self, **fields) -> int:
        body = {"code": "true", "language": "shell", **fields}
        return self.status("POST", f"/executions/sessions/{self.session}/execute", body)

    def unpacks(self, *sizes: int) -> int:
        archive = packed(*((f"{at}", "x" * size) for at, size in enumerate(sizes)))
        return self.rest.upload(self.session, uuid.uuid4().hex, archive, extract="true").status

    def environment(self, name: str) -> str:
        return self.run(f"echo ${name}")["stdout"].strip()

    def link(self) -> str:
        """A link to a file that is too large to come by itself."""
        assert self.run("head -c 11000000 /dev/zero > large.bin")["status"] == "completed"
        return self.rest.get(f"/sessions/{self.session}/files/large.bin").json["presigned_url"]

    def looks(self) -> int:
        """How often it has looked at its sessions, as its log tells."""
        return self.gateway.log.read_text().count("sessions were looked at")

    def pod_spec(self) -> dict:
        return self.pool(self.seen()["template_id"])["spec"]["template"]["spec"]

    def pool(self, name: str) -> dict:
        return self.machine.get("-n", self.namespace, "warmpool", name)


# name, what it is told, what is looked at, what that is usually, and what it is then
TOLD = [
    ("DEFAULT_TEMPLATE_ID", "first", lambda s: s.seen()["template_id"], "python-basic", "first"),
    ("DEFAULT_TEMPLATE_IMAGE", "told:1", lambda s: s.rest.get(f"/templates/{s.seen()['template_id']}").json["image_url"], "host", "told:1"),
    ("MULTI_LANGUAGE_TEMPLATE_IMAGE", "many:1", lambda s: s.rest.get("/templates/multi-language").json["image_url"], "host", "many:1"),
    ("DEFAULT_CPU", "0.2", lambda s: s.seen()["resource_limit"]["cpu"], "1", "0.2"),
    ("DEFAULT_MEMORY", "256Mi", lambda s: s.seen()["resource_limit"]["memory"], "512Mi", "256Mi"),
    ("DEFAULT_DISK", "512Mi", lambda s: s.seen()["resource_limit"]["disk"], "1Gi", "512Mi"),
    ("DEFAULT_TIMEOUT", "120", lambda s: s.seen()["timeout"], 300, 120),
    ("MAX_TIMEOUT", "200", lambda s: s.submits(timeout=201), 201, 422),
    ("MAX_UPLOAD_FILE_SIZE_MB", "1", lambda s: s.rest.upload(s.session, "f", bytes((1 << 20) + 1)).status, 200, 413),
    ("MAX_EXTRACTED_FILE_COUNT", "2", lambda s: s.unpacks(1, 1, 1), 200, 413),
    ("MAX_EXTRACTED_TOTAL_SIZE_MB", "1", lambda s: s.unpacks(3 << 19, 1), 200, 413),
    ("CORS_ORIGINS", ORIGIN, lambda s: s.status("GET", "/sessions", headers={"Origin": ORIGIN}), 403, 200),
    ("CONTROL_PLANE_URL", "http://here:8000", lambda s: s.environment("CONTROL_PLANE_URL"), "", "http://here:8000"),
    ("INTERNAL_API_TOKEN", "secret", lambda s: s.environment("INTERNAL_API_TOKEN").split(":")[0] == s.session, False, True),
    ("KUBERNETES_NAMESPACE", NAMESPACE, lambda s: s.machine.kubectl("-n", NAMESPACE, "get", "pod", s.seen()["pod_name"], check=False).returncode, 1, 0),
    ("EXECUTOR_IMAGE_PULL_POLICY", "Always", lambda s: s.pod_spec()["containers"][0]["imagePullPolicy"], "IfNotPresent", "Always"),
    ("EXECUTOR_IMAGE_PULL_SECRETS", "one,two", lambda s: s.pod_spec().get("imagePullSecrets"), None, [{"name": "one"}, {"name": "two"}]),
    ("WARM_POOL_DEFAULT_SIZE", "1", lambda s: s.pool(s.seen()["template_id"])["spec"]["replicas"], 2, 1),
    ("WARM_POOL_ENABLED", "true", lambda s: "multi-language" in s.machine.kubectl("-n", s.namespace, "get", "warmpools", "-o", "name").stdout, False, True),
    ("S3_REGION", "eu-told-1", lambda s: "eu-told-1" in s.link(), False, True),
    ("S3_BUCKET", "told", lambda s: s.seen()["workspace_path"].split("/sessions/")[0], "s3://sandbox-workspace", "s3://told"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    yield store
    store.stop()


@pytest.fixture(scope="module")
def usual(machine):
    subject = Subject(machine, Rest(machine.gateway), "sandbox-runtime")
    yield subject
    subject.rest.delete(f"/sessions/{subject.session}")


@pytest.fixture(scope="module")
def told(machine, store, tmp_path_factory):
    """One that is told all of it, and that its sessions need no looking after."""
    variables = store.variables | {name: value for name, value, *_ in TOLD}
    gateway = Gateway(machine, tmp_path_factory.mktemp("told"), CLEANUP_INTERVAL_SECONDS="3600", HEALTH_CHECK_INTERVAL_SECONDS="3600",
                      LOG_LEVEL="ERROR", DEBUG="true", LOG_FORMAT="json", DISABLE_BWRAP="false", **variables)
    subject = Subject(machine, gateway.rest, NAMESPACE)
    subject.gateway = gateway
    yield subject
    subject.rest.delete(f"/sessions/{subject.session}")
    assert gateway.stop() == 0


@pytest.mark.parametrize("name, _, look, usually, then", TOLD, ids=[case[0] for case in TOLD])
def test_told(usual, told, name, _, look, usually, then):
    assert (look(usual), look(told)) == (usually, then)


def test_how_often_what_is_left_over_is_cleared_away(usual, told):
    # What was made for a session that is not there goes with the next look.
    for subject in (told, usual):
        subject.machine.kubectl("-n", subject.namespace, "create", "-f", "-", stdin=json.dumps(POOL))
    there = lambda subject: subject.machine.kubectl("-n", subject.namespace, "get", "warmpool", "nobodys", check=False).returncode == 0  # noqa: E731
    eventually(lambda: not there(usual), timeout=60)
    assert there(told), "CLEANUP_INTERVAL_SECONDS says in an hour"
    assert told.rest.post("/health/sync").status == 200
    assert not there(told), "or when somebody asks for it"


def test_how_often_sessions_are_looked_at(machine, told, tmp_path):
    often = Subject(machine, None, None)
    often.gateway = Gateway(machine, tmp_path, KUBERNETES_NAMESPACE="told-often", HEALTH_CHECK_INTERVAL_SECONDS="1", CLEANUP_INTERVAL_SECONDS="3600", LOG_LEVEL="DEBUG")
    try:
        before, already = told.looks(), often.looks()
        # Six seconds and more: who is not told otherwise looks every five.
        eventually(lambda: often.looks() >= already + 7, timeout=120)
        assert told.looks() == before, "HEALTH_CHECK_INTERVAL_SECONDS says in an hour"
    finally:
        often.gateway.stop()


def test_the_log_is_as_it_is_told(told):
    lines = [json.loads(line) for line in told.gateway.log.read_text().splitlines() if line.startswith("{")]
    assert any("DISABLE_BWRAP=false has no effect" in json.dumps(line) for line in lines), lines
    assert "DEBUG" in {line["level"] for line in lines}, "DEBUG wins over LOG_LEVEL"


def test_the_store_and_its_key_are_those_it_is_told(machine, store, told, tmp_path):
    assert (store.folder / "told").is_dir()
    assert told.rest.upload(told.session, "kept.txt", b"kept").status == 200
    assert b"kept" in [path.read_bytes() for path in (store.folder / "told").rglob("*kept.txt*") if path.is_file()]
    wrong = Gateway(machine, tmp_path, KUBERNETES_NAMESPACE="told-wrong", **store.variables | {"S3_SECRET_ACCESS_KEY": "guess"})
    try:
        answer = wrong.rest.get("/health/detailed")
        assert answer.status == 503 and answer.json["dependencies"]["storage"].startswith("unhealthy: "), answer
        assert "guess" not in answer.content.decode()
    finally:
        wrong.stop()


@pytest.mark.parametrize("parts", [False, True], ids=["DATABASE_URL", "DB_*"])
def test_the_database_is_the_one_it_is_told(machine, tmp_path, parts):
    server = databases.postgres(tmp_path / "server")
    user, _, place = server.url.removeprefix("postgres://").rpartition("@")
    address, _, database = place.partition("/")
    host, _, port = address.partition(":")
    name, _, password = user.partition(":")
    whole = {"DATABASE_URL": server.url}
    in_parts = {"DB_TYPE": "postgres", "DB_HOST": host, "DB_PORT": port, "DB_USER": name, "DB_PASSWORD": password or "none", "DB_DATABASE": database,
                "DATABASE_URL": "sqlite:///nowhere/at/all.db"}
    gateway = Gateway(machine, tmp_path / "gateway", KUBERNETES_NAMESPACE="told-database", DB_POOL_SIZE="1", **in_parts if parts else whole)
    try:
        assert gateway.rest.get("/health/detailed").json["dependencies"]["database"] == "healthy"
        assert not list((tmp_path / "gateway").glob("*.db")), "nothing is kept beside it"
    finally:
        gateway.stop()
        server.stop()


def test_where_it_listens_and_who_may_call(machine, tmp_path):
    port = free_port()
    token = f"ann:user:{hashlib.sha256(b'a').hexdigest()}"
    gateway = Gateway(machine, tmp_path, KUBERNETES_NAMESPACE="told-where", HOST="127.0.0.2", PORT=str(port), ENVIRONMENT="production",
                      SANDLOT_GATEWAY_TOKENS=token, RATE_LIMIT_ENABLED="true", RATE_LIMIT_PER_MINUTE="3")
    try:
        assert gateway.rest.address == f"127.0.0.2:{port}"
        assert gateway.rest.get("/sessions").status == 401
        answers = [Rest(gateway.rest.address, "a").get("/sessions").status for _ in range(10)]
        assert answers[0] == 200 and 429 in answers
    finally:
        gateway.stop()
    refused = gateway_that_ends(machine, tmp_path, ENVIRONMENT="production")
    assert refused.returncode == 1 and "SANDLOT_GATEWAY_TOKENS" in refused.stderr


LIMITS = [
    ("IDLE_THRESHOLD_MINUTES", "1", "f_last_activity_at", "running", "terminated", "not used"),
    ("MAX_LIFETIME_HOURS", "1", "f_created_at", "running", "terminated", "lived as long"),
    ("CREATING_TIMEOUT_SECONDS", "30", "f_created_at", "creating", "failed", "no pod"),
]


@pytest.mark.parametrize("name, value, column, status, then, why", LIMITS, ids=[case[0] for case in LIMITS])
def test_a_session_whose_time_is_over_goes(machine, tmp_path, name, value, column, status, then, why):
    namespace = "told-" + name.split("_")[0].lower()
    start = lambda **told: Gateway(machine, tmp_path, KUBERNETES_NAMESPACE=namespace, **told)  # noqa: E731
    first = start()
    session, other = first.rest.session(), first.rest.session()
    assert first.stop() == 0
    # Two hours pass for one of them.
    with sqlite3.connect(tmp_path / "sessions.db") as rows:
        rows.execute(f"UPDATE t_sandbox_session SET {column} = {column} - 7200000, f_status = ? WHERE f_id = ?", (status, session))
    rows.close()
    second = start(**{name: value})
    try:
        found = eventually(lambda: (s := second.rest.get(f"/sessions/{session}").json)["status"] == then and s, timeout=60)
        assert found["completed_at"], found
        refused = second.rest.post(f"/executions/sessions/{session}/execute", {"code": "true", "language": "shell"})
        assert refused.status == 409 and why in refused.json["detail"], refused
        assert second.rest.get(f"/sessions/{other}").json["status"] == "running"
    finally:
        second.rest.delete(f"/sessions/{other}")
        second.stop()
