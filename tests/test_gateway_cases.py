"""The API as a table of cases: the same against SQLite, PostgreSQL and MariaDB."""

import gzip
import json
import re
import uuid

import databases
import pytest
from rest import Gateway, Rest

# What a field of an answer is compared with when its value is not known beforehand.
ANY = object()

SESSION = "/sessions/{session}"
RUN = "/executions/sessions/{session}/"

# name, method, path, body, status, what the answer must hold
CASES = [
    # Sessions
    ("a session without a body", "POST", "/sessions", None, 422, {"detail": [{"type": "missing", "loc": ["body"]}]}),
    ("a session of no object", "POST", "/sessions", [1], 422, {"detail": [{"loc": ["body"]}]}),
    ("a session of an unknown template", "POST", "/sessions", {"template_id": "nowhere"}, 400, {"detail": "Template not found: nowhere"}),
    ("a session whose time is too long", "POST", "/sessions", {"timeout": 3601}, 422, {"detail": [{"type": "less_than_equal", "loc": ["body", "timeout"], "input": 3601}]}),
    ("a session whose time is no number", "POST", "/sessions", {"timeout": "soon"}, 422, {"detail": [{"type": "int_parsing"}]}),
    ("a session with wrong memory", "POST", "/sessions", {"memory": "512M"}, 400, {"detail": ANY}),
    ("a session with wrong disk", "POST", "/sessions", {"disk": "lots"}, 400, {"detail": ANY}),
    ("a session without processor", "POST", "/sessions", {"cpu": "0"}, 400, {"detail": ANY}),
    ("an id that is a path", "POST", "/sessions", {"id": "../x"}, 422, {"detail": [{"loc": ["body", "id"]}]}),
    ("an id with a quote", "POST", "/sessions", {"id": "a'b"}, 422, {"detail": [{"loc": ["body", "id"]}]}),
    ("an id that is too long", "POST", "/sessions", {"id": "x" * 65}, 422, {"detail": [{"type": "string_too_long"}]}),
    ("variables that are no texts", "POST", "/sessions", {"env_vars": {"A": 1}}, 422, {"detail": [{"loc": ["body", "env_vars"]}]}),
    ("too many packages", "POST", "/sessions", {"dependencies": [{"name": "a"}] * 51}, 422, {"detail": [{"loc": ["body", "dependencies"]}]}),
    ("a package that is a link", "POST", "/sessions", {"dependencies": [{"name": "https://x/y"}]}, 422, {"detail": [{"type": "value_error"}]}),
    ("a package and its version in one", "POST", "/sessions", {"dependencies": [{"name": "pandas2.3.3"}]}, 422, {"detail": [{"msg": ANY}]}),
    ("an index that is no address", "POST", "/sessions", {"python_package_index_url": "file:///x"}, 422, {"detail": [{"type": "value_error"}]}),
    ("packages of which one is wrong", "POST", "/sessions", {"dependencies": [{"name": "six"}, {"name": "a b"}]}, 422, {"detail": [{"loc": ["body", "dependencies", 1], "input": {"name": "a b"}}]}),
    ("a package of an odd version", "POST", "/sessions", {"dependencies": [{"name": "six", "version": "1; rm"}]}, 422, {"detail": [{"type": "value_error"}]}),
    ("packages with too little time", "POST", "/sessions", {"install_timeout": 29}, 422, {"detail": [{"type": "greater_than_equal", "loc": ["body", "install_timeout"]}]}),
    ("an empty name of a template", "POST", "/sessions", {"template_id": ""}, 422, {"detail": [{"type": "string_too_short", "msg": "String should have at least 1 character"}]}),
    ("a session of broken JSON", "POST", "/sessions", b"{nope", 422, {"detail": [{"type": "json_invalid"}]}),
    ("a session that is taken", "POST", "/sessions", {"id": "{session}"}, 409, {"error": "Conflict", "message": ANY, "detail": ANY}),
    ("a session", "GET", SESSION, None, 200, {
        "id": "{session}", "template_id": "python-basic", "status": "running", "timeout": 300,
        "resource_limit": {"cpu": "1", "memory": "512Mi", "disk": "1Gi", "max_processes": 128},
        "workspace_path": "s3://sandbox-workspace/sessions/{session}", "language_runtime": "python3.11", "runtime_type": "python3.11",
        "runtime_node": ANY, "container_id": ANY, "pod_name": ANY, "env_vars": {}, "python_package_index_url": "https://pypi.org/simple/",
        "requested_dependencies": [], "installed_dependencies": [], "dependency_install_status": "completed",
        "dependency_install_error": None, "completed_at": None, "created_at": ANY, "updated_at": ANY, "last_activity_at": ANY}),
    ("no session", "GET", "/sessions/nobody", None, 404, {"error": "Not Found", "message": ANY, "detail": ANY}),
    ("ending no session", "POST", "/sessions/nobody/terminate", {}, 404, {"error": "Not Found"}),
    ("deleting no session", "DELETE", "/sessions/nobody", None, 404, {"error": "Not Found"}),
    ("sessions", "GET", "/sessions?limit=1", None, 200, {"items": ANY, "total": ANY, "limit": 1, "offset": 0, "has_more": ANY}),
    ("a limit that is too high is clamped", "GET", "/sessions?limit=1000", None, 200, {"limit": 200}),
    ("a limit that is too low is clamped", "GET", "/sessions?limit=-1", None, 200, {"limit": 1}),
    ("a negative offset is none", "GET", "/sessions?offset=-5", None, 200, {"offset": 0}),
    ("sessions by status", "GET", "/sessions?status=nothing", None, 200, {"items": [], "total": 0, "has_more": False}),
    ("sessions by template", "GET", "/sessions?template_id=nothing", None, 200, {"items": [], "total": 0}),
    # Packages
    ("packages without a list", "POST", SESSION + "/dependencies/install", {}, 422, {"detail": [{"loc": ["body", "dependencies"]}]}),
    ("an empty list of packages", "POST", SESSION + "/dependencies/install", {"dependencies": []}, 422, {"detail": [{"loc": ["body", "dependencies"]}]}),
    ("packages for no session", "POST", "/sessions/nobody/dependencies/install", {"dependencies": [{"name": "six"}]}, 404, {"error": "Not Found"}),
    ("packages with too much time", "POST", SESSION + "/dependencies/install", {"dependencies": [{"name": "six"}], "install_timeout": 1801}, 422, {"detail": [{"loc": ["body", "install_timeout"]}]}),
    # Executions
    ("code without code", "POST", RUN + "execute", {"language": "shell"}, 422, {"detail": [{"type": "missing", "loc": ["body", "code"]}]}),
    ("empty code", "POST", RUN + "execute", {"code": "", "language": "shell"}, 422, {"detail": [{"type": "string_too_short"}]}),
    ("code that is too long", "POST", RUN + "execute", {"code": "x" * 102401, "language": "shell"}, 422, {"detail": [{"type": "string_too_long"}]}),
    ("an unknown language", "POST", RUN + "execute", {"code": "x", "language": "cobol"}, 422, {"detail": [{"type": "enum", "loc": ["body", "language"], "msg": "Input should be 'python', 'javascript' or 'shell'"}]}),
    ("too much time", "POST", RUN + "execute", {"code": "x", "language": "shell", "timeout": 3601}, 422, {"detail": [{"type": "less_than_equal"}]}),
    ("waiting too long", "POST", RUN + "execute-sync?sync_timeout=3601", {"code": "x", "language": "shell"}, 422, {"detail": [{"loc": ["query", "sync_timeout"]}]}),
    ("polling too slowly", "POST", RUN + "execute-sync?poll_interval=11", {"code": "x", "language": "shell"}, 422, {"detail": [{"loc": ["query", "poll_interval"]}]}),
    ("no language", "POST", RUN + "execute", {"code": "x"}, 422, {"detail": [{"type": "missing"}]}),
    ("no time at all", "POST", RUN + "execute", {"code": "x", "language": "shell", "timeout": 0}, 422, {"detail": [{"type": "greater_than_equal"}]}),
    ("an event that is a list", "POST", RUN + "execute", {"code": "x", "language": "python", "event": [1]}, 422, {"detail": [{"loc": ["body", "event"]}]}),
    ("an absolute folder", "POST", RUN + "execute", {"code": "x", "language": "shell", "working_directory": "/etc"}, 422, {"detail": [{"loc": ["body", "working_directory"]}]}),
    ("a folder outside", "POST", RUN + "execute", {"code": "x", "language": "shell", "working_directory": "a/../.."}, 422, {"detail": ANY}),
    ("a folder with a drive", "POST", RUN + "execute", {"code": "x", "language": "shell", "working_directory": "C:/x"}, 422, {"detail": ANY}),
    ("a folder with backslashes", "POST", RUN + "execute", {"code": "x", "language": "shell", "working_directory": "a\\b"}, 422, {"detail": ANY}),
    ("code for no session", "POST", "/executions/sessions/nobody/execute", {"code": "x", "language": "shell"}, 404, {"error": "Not Found"}),
    ("waiting too short", "POST", RUN + "execute-sync?sync_timeout=9", {"code": "x", "language": "shell"}, 422, {"detail": [{"loc": ["query", "sync_timeout"]}]}),
    ("polling too fast", "POST", RUN + "execute-sync?poll_interval=0.01", {"code": "x", "language": "shell"}, 422, {"detail": [{"loc": ["query", "poll_interval"]}]}),
    ("code that works", "POST", RUN + "execute-sync", {"code": "echo hi; echo no >&2", "language": "shell", "mode": "extra", "metadata": {"run": 7}}, 200, {
        "id": ANY, "session_id": "{session}", "status": "completed", "stdout": "hi\n", "stderr": "no\n", "exit_code": 0, "error_message": None,
        "execution_time": ANY, "return_value": None, "artifacts": [], "retry_count": 0, "language": "shell", "timeout": 30, "truncated": False,
        "metrics": {"duration_ms": ANY, "cpu_time_ms": ANY, "peak_memory_mb": ANY}, "metadata": {"run": 7}, "started_at": ANY, "completed_at": ANY}),
    ("code that fails", "POST", RUN + "execute-sync", {"code": "echo why >&2; exit 3", "language": "shell"}, 200, {"status": "failed", "exit_code": 3, "error_message": "why"}),
    ("a folder that is not there", "POST", RUN + "execute-sync", {"code": "true", "language": "shell", "working_directory": "nowhere"}, 200, {"status": "failed", "error_message": ANY}),
    ("a zero byte in the output", "POST", RUN + "execute-sync", {"code": "printf 'a\\0b'", "language": "shell"}, 200, {"stdout": "a\ufffdb"}),
    ("code with a shell in front", "POST", RUN + "execute-sync", {"code": "bash echo hi", "language": "shell"}, 200, {"stdout": "hi\n"}),
    ("shells in front of two commands", "POST", RUN + "execute-sync", {"code": "bash echo 'a;b' & sh echo c", "language": "shell"}, 200, {"status": "completed", "stdout": "a;b\nc\n"}),
    ("code in JavaScript", "POST", RUN + "execute-sync", {"code": "function handler(event) { return [event.n] }", "language": "javascript", "event": {"n": 1}}, 200, {"status": "completed", "return_value": [1]}),
    ("code that takes longer than it may", "POST", RUN + "execute-sync", {"code": "echo on; sleep 60", "language": "shell", "timeout": 1}, 200, {"status": "timeout", "stdout": "on\n"}),
    ("code that is not waited for", "POST", RUN + "execute", {"code": "true", "language": "shell"}, 201, {"execution_id": ANY, "session_id": "{session}", "status": "pending", "created_at": ANY}),
    ("executions", "GET", RUN + "executions?limit=1", None, 200, {"items": ANY, "total": ANY, "limit": 1, "offset": 0}),
    ("executions of no session", "GET", "/executions/sessions/nobody/executions", None, 404, {"error": "Not Found"}),
    ("the status of no execution", "GET", "/executions/nothing/status", None, 404, {"error": "Not Found"}),
    ("the result of no execution", "GET", "/executions/nothing/result", None, 404, {"error": "Not Found"}),
    ("stopping no execution", "POST", "/executions/nothing/cancel", {}, 404, {"error": "Not Found"}),
    ("code that takes longer than somebody waits", "POST", RUN + "execute-sync?sync_timeout=10", {"code": "sleep 11", "language": "shell"}, 408, {"detail": ANY}),
    # Templates
    ("a template of nothing", "POST", "/templates", {}, 422, {"detail": [{"loc": ["body", "id"]}, {"loc": ["body", "name"]}, {"loc": ["body", "image_url"]}, {"loc": ["body", "runtime_type"]}]}),
    ("an unknown runtime", "POST", "/templates", {"id": "t", "name": "t", "image_url": "i", "runtime_type": "perl"}, 422, {"detail": [{"type": "enum"}]}),
    ("a template with too many cores", "POST", "/templates", {"id": "t", "name": "t", "image_url": "i", "runtime_type": "nodejs20", "default_cpu_cores": 5}, 422, {"detail": [{"type": "less_than_equal"}]}),
    ("the first template", "GET", "/templates/python-basic", None, 200, {
        "id": "python-basic", "name": "Python Basic", "image_url": ANY, "runtime_type": "python3.11", "default_cpu_cores": 1.0, "default_memory_mb": 512,
        "default_disk_mb": 1024, "default_timeout_sec": 300, "default_env_vars": {}, "is_active": True, "created_at": ANY, "updated_at": ANY}),
    ("a template's id twice", "POST", "/templates", {"id": "python-basic", "name": "other", "image_url": "i", "runtime_type": "python3.11"}, 409, {"error": "Conflict"}),
    ("a template's name twice", "POST", "/templates", {"id": "other", "name": "Python Basic", "image_url": "i", "runtime_type": "python3.11"}, 409, {"error": "Conflict"}),
    ("no template", "GET", "/templates/nothing", None, 404, {"error": "Not Found"}),
    ("changing no template", "PUT", "/templates/nothing", {"name": "x"}, 404, {"error": "Not Found"}),
    ("deleting no template", "DELETE", "/templates/nothing", None, 404, {"error": "Not Found"}),
    ("deleting a template in use", "DELETE", "/templates/python-basic", None, 409, {"error": "Conflict", "message": ANY}),
    # Files
    ("files", "GET", SESSION + "/files", None, 200, {"session_id": "{session}", "files": ANY, "count": ANY}),
    ("too many files", "GET", SESSION + "/files?limit=10001", None, 422, {"detail": [{"loc": ["query", "limit"]}]}),
    ("files of no session", "GET", "/sessions/nobody/files", None, 404, {"error": "Not Found"}),
    ("files below a folder outside", "GET", SESSION + "/files?path=../x", None, 400, {"detail": ANY}),
    ("no file", "GET", SESSION + "/files/missing.txt", None, 404, {"error": "Not Found"}),
    ("a file outside", "GET", SESSION + "/files/a%2F..%2F..%2Fx", None, 400, {"detail": ANY}),
    ("an upload that is no form", "POST", SESSION + "/files/upload?path=a", {"a": 1}, 400, {"detail": ANY}),
    ("an upload to no session", "POST", "/sessions/nobody/files/upload?path=a", {}, 404, {"error": "Not Found"}),
    # The rest
    ("health", "GET", "/health", None, 200, {"status": "healthy", "version": ANY, "uptime": ANY}),
    ("health in detail", "GET", "/health/detailed", None, 200, {"status": "healthy", "dependencies": {"database": "healthy", "storage": "healthy", "runtime_nodes": "healthy"}}),
    ("a sweep", "POST", "/health/sync", None, 200, {"status": "success", "message": "State sync completed", "result": {"checked": ANY, "healthy": ANY, "unhealthy": 0, "errors": []}}),
    ("containers", "GET", "/containers", None, 200, {"containers": ANY, "total": ANY}),
    ("containers of another kind", "GET", "/containers?runtime_type=docker", None, 200, {"containers": [], "total": 0}),
    ("no container", "GET", "/containers/nothing", None, 404, {"error": "Not Found"}),
    ("no such path", "GET", "/nothing", None, 404, {"detail": "Not Found"}),
    ("no such method", "PATCH", "/sessions", None, 405, {"detail": "Method Not Allowed"}),
    ("an id that is no text", "GET", "/sessions/%ff", None, 400, {"detail": ANY}),
    ("a socket that is none", "GET", "/executions/nothing/ws", None, 400, {"detail": ANY}),
    ("a path with a slash behind it", "GET", "/sessions/?limit=3", None, 307, None),
    ("a report of nobody", "POST", "/internal/executions/x/heartbeat", None, 401, {"detail": ANY}),
]


@pytest.fixture(scope="module", params=["sqlite", "postgres", "mariadb"])
def rest(request, machine, tmp_path_factory):
    """A gateway over each database."""
    if request.param == "sqlite":
        yield Rest(machine.gateway)
        return
    folder = tmp_path_factory.mktemp(request.param)
    server = getattr(databases, request.param)(folder / "server")
    try:
        namespace = f"cases-{request.param}"
        gateway = Gateway(machine, folder / "gateway", DATABASE_URL=server.url, KUBERNETES_NAMESPACE=namespace)
        yield gateway.rest
        assert gateway.stop() == 0
    finally:
        server.stop()


@pytest.fixture(scope="module")
def session(rest):
    session = rest.session(id=f"case-{uuid.uuid4().hex[:8]}")
    yield session
    assert rest.delete(f"/sessions/{session}").status == 204


def filled(value, session: str):
    """The case with the session's id in its places."""
    if isinstance(value, str):
        return value.replace("{session}", session)
    if isinstance(value, dict):
        return {name: filled(item, session) for name, item in value.items()}
    if isinstance(value, list):
        return [filled(item, session) for item in value]
    return value


def differences(expected, found, where="answer"):
    """What is not as expected; an object may hold more than is asked for."""
    if expected is ANY:
        return []
    if isinstance(expected, dict) and isinstance(found, dict):
        return [line for name, item in expected.items()
                for line in (differences(item, found[name], f"{where}.{name}") if name in found else [f"{where}.{name} is missing"])]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [line for at, item in enumerate(expected) for line in differences(item, found[at], f"{where}[{at}]")]
    return [] if expected == found else [f"{where} is {found!r}, not {expected!r}"]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_case(rest, session, case):
    _, method, path, body, status, expected = case
    answer = rest.call(method, "/api/v1" + filled(path, session), filled(body, session))
    assert answer.status == status, answer
    assert status < 400 or "detail" in answer.json, "every refusal says why, in one shape"
    assert answer.headers["X-Request-ID"] and answer.headers["X-Process-Time"]
    if expected is not None:
        assert differences(filled(expected, session), answer.json) == []


def test_what_every_answer_carries(rest):
    origin, sent = "http://localhost:3000", {"X-Request-ID": "mine"}
    answer = rest.get("/health", headers={"Origin": origin, **sent})
    assert uuid.UUID(answer.headers["X-Request-ID"]).version == 4, "one that comes in is ignored"
    assert re.fullmatch(r"\d+\.\d{3}", answer.headers["X-Process-Time"])
    assert answer.headers["Access-Control-Allow-Origin"] == origin and answer.headers["Access-Control-Allow-Credentials"] == "true"
    asks = {"Origin": origin, "Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "x-odd, authorization"}
    allowed = rest.call("OPTIONS", "/api/v1/sessions", headers=asks)
    assert allowed.status == 200 and "PATCH" in allowed.headers["Access-Control-Allow-Methods"]
    assert allowed.headers["Access-Control-Allow-Headers"] == "x-odd, authorization"


def test_what_is_long_comes_smaller_to_who_reads_that(rest, session):
    body = {"code": "head -c 1000 /dev/zero | tr '\\0' x", "language": "shell"}
    path = f"/executions/sessions/{session}/execute-sync"
    small = rest.post(path, body, headers={"Accept-Encoding": "gzip"})
    assert small.headers["Content-Encoding"] == "gzip" and json.loads(gzip.decompress(small.content))["stdout"] == "x" * 1000
    assert "Content-Encoding" not in rest.get("/health", headers={"Accept-Encoding": "gzip"}).headers, "under 1000 bytes it gains nothing"


def test_a_slash_behind_a_path_leads_to_it_and_nowhere_else(rest):
    answer = rest.get("/sessions/?limit=3")
    assert answer.headers["Location"] == "/api/v1/sessions?limit=3"
    for elsewhere in ("//evil.example/", "/api/v1//evil.example/../", "/other/"):
        answer = rest.call("GET", elsewhere)
        assert answer.headers.get("Location", "/api/v1/").startswith("/api/v1/"), answer


def test_what_the_root_says(rest):
    about = rest.call("GET", "/").json
    assert (about["version"], about["status"]) == ("2.1.0", "operational") and about["documentation"] == {
        "swagger": "/docs", "redoc": "/redoc", "openapi": "/openapi.json"}
    assert about["features"] == ["session_management", "code_execution", "template_management", "file_operations", "state_sync"]
    assert rest.call("GET", "/redoc").status == 200


def test_names_and_moments_are_as_clients_read_them(rest, session):
    made = rest.get(f"/sessions/{session}").json
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", made["created_at"]), made
    fresh = rest.post("/sessions", {"fail_on_dependency_error": False, "allow_version_conflicts": True, "event": {}, "mode": "odd"}).json
    assert re.fullmatch(r"sess_\d{8}_[0-9a-f]{8}", fresh["id"]) and fresh["status"] == "creating"
    assert rest.delete(f"/sessions/{fresh['id']}").status == 204
    done = rest.run(session, "true")
    assert re.fullmatch(r"exec_\d{14}_[0-9a-f]{8}", done["id"])
    assert rest.get(f"/executions/{done['id']}/status").content == rest.get(f"/executions/{done['id']}/result").content


def test_a_template_lives(rest):
    fields = {"id": "Node_20", "name": f"node {uuid.uuid4()}", "image_url": "host", "runtime_type": "nodejs20", "default_env_vars": {"A": "1"}, "default_memory_mb": 256}
    made = rest.post("/templates", fields)
    assert made.status == 201 and made.json["runtime_type"] == "nodejs20" and made.json["default_env_vars"] == {"A": "1"}
    changed = rest.put("/templates/Node_20", {"default_timeout": 60})
    assert changed.json["default_timeout_sec"] == 60 and changed.json["default_memory_mb"] == 256
    listed = [template["name"] for template in rest.get("/templates").json]
    assert listed == sorted(listed) and fields["name"] in listed
    session = rest.session(template_id="Node_20")
    assert rest.get(f"/sessions/{session}").json["resource_limit"]["memory"] == "256Mi"
    assert rest.run(session, "echo $A")["stdout"] == "1\n"
    assert rest.delete("/templates/Node_20").status == 409
    assert rest.delete(f"/sessions/{session}").status == 204
    assert rest.delete("/templates/Node_20").json == {"message": "Template deleted successfully"}


def test_ending_a_session_twice_is_the_same(rest):
    session = rest.session()
    for _ in range(2):
        ended = rest.post(f"/sessions/{session}/terminate")
        assert ended.status == 200 and ended.json["status"] == "terminated"
    refused = rest.post(f"/executions/sessions/{session}/execute", {"code": "true", "language": "shell"})
    assert refused.status == 409 and session in refused.json["message"]
    rest.delete(f"/sessions/{session}")


def test_the_newest_execution_comes_first_and_pages_are_pages(rest):
    session = rest.session()
    ids = [rest.run(session, f"echo {number}")["id"] for number in range(3)]
    page = rest.get(f"/executions/sessions/{session}/executions?limit=2&offset=1").json
    assert page["total"] == 3 and [item["id"] for item in page["items"]] == ids[1::-1]
    rest.delete(f"/sessions/{session}")


def test_everything_described_is_there(rest):
    described = rest.call("GET", "/openapi.json").json
    assert described["openapi"].startswith("3.1")
    for path, calls in described["paths"].items():
        for method in calls:
            answer = rest.call(method.upper(), path.replace("{id}", "nobody").replace("{path}", "x"), {} if method in ("post", "put") else None)
            assert answer.status != 405 and answer.content != b'{"detail":"Not Found"}', (method, path, answer)
    page = rest.call("GET", "/docs")
    assert page.status == 200 and b"openapi.json" in page.content
