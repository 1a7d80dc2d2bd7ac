"""Clients that mean no good: names, archives, headers and bodies that no honest one sends."""

import io
import json
import socket
import time
import urllib.parse
import zipfile

import pytest
from rest import Rest


@pytest.fixture(scope="module")
def rest(machine):
    return Rest(machine.gateway)


@pytest.fixture(scope="module")
def session(rest):
    session = rest.session()
    yield session
    rest.delete(f"/sessions/{session}")


def raw(rest, sent: bytes, timeout: float = 20) -> bytes:
    """What comes back for these very bytes."""
    host, port = rest.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


@pytest.mark.parametrize("identity", ["%00", "a%00b", "..", "%2e%2e%2f", "x" * 5000, "%ff%fe", "';--", "a b", "ä", "%F0%9F%A6%80"])
def test_ids_that_are_none_are_not_found(rest, identity):
    for path in (f"/sessions/{identity}", f"/executions/{identity}/result", f"/templates/{identity}", f"/sessions/{identity}/files/x", f"/containers/{identity}"):
        answer = rest.get(urllib.parse.quote(path, safe="/%;'"))
        assert answer.status in (400, 404), (path, answer)


def test_what_differs_in_case_or_blanks_is_another_session(rest):
    first = rest.session(id="Case-1")
    for other in ("case-1", "CASE-1", "Case-1%20"):
        assert rest.get(f"/sessions/{other}").status == 404, other
    rest.delete(f"/sessions/{first}")


@pytest.mark.parametrize("path", ["..%2Fx", "%2e%2e/x", "/etc/passwd", "a/../../x", "a%5C..%5Cx", "a%00b", "./x", "a//b", "%2Fetc%2Fpasswd", "x" * 300, ""])
def test_files_do_not_leave_the_workspace(rest, session, path):
    answer = rest.upload(session, path, b"x")
    assert answer.status == 400, answer
    if path and not path.startswith("/"):
        assert rest.get(f"/sessions/{session}/files/{path}").status in (400, 404)


def test_links_in_the_workspace_lead_nowhere(rest, session):
    done = rest.run(session, "ln -s /etc/passwd link; ln -s /etc folder; ln -s / output; mkfifo pipe; echo ok > fine.txt")
    assert [artifact["path"] for artifact in done["artifacts"]] == ["fine.txt"]
    assert rest.get(f"/sessions/{session}/files/link").status == 404
    answer = rest.upload(session, "folder/x", b"x")
    assert answer.status == 400, answer
    # A link of the same name is replaced, not followed.
    assert rest.upload(session, "link", b"mine").status == 200
    assert rest.run(session, "cat link; test -L link || echo plain; rm -rf link folder output pipe")["stdout"] == "mineplain\n"


def test_a_file_that_cannot_be_there_is_refused_and_leaves_nothing(rest, session):
    name = "n" * 250
    for path in ("there/a", name):
        assert rest.upload(session, path, b"x").status == 200
    for path in ("there", "there/a/b", name + "n"):
        answer = rest.upload(session, path, b"y")
        assert answer.status == 400 and "/" + "tmp" not in answer.json["detail"], answer
    # What the session's own code put in the way is not in the store, but in its pod.
    rest.run(session, "mkdir -p .hidden/folder; ln -s / out")
    for path in (".hidden/folder", "out/x"):
        assert rest.upload(session, path, b"y").status == 400
        assert rest.get(f"/sessions/{session}/files/{path}").status == 404
    found = rest.run(session, f"cat there/a {name}; find . -name '*.part'; rm -rf .hidden out there {name}")
    assert found["stdout"] == "xx", found


def packed(*entries) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return made.getvalue()


def link(name: str, target: str):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    return info, target


@pytest.mark.parametrize("archive", [
    packed(("fine", "x"), ("../outside", "x")), packed(("/etc/x", "x")), packed(link("l", "/etc/passwd")),
    packed(("a\\..\\x", "x")), b"PK\x03\x04 not really", b"", packed(("a/./b", "x")),
], ids=["traversal", "absolute", "link", "backslash", "garbage", "empty", "dot"])
def test_archives_that_lie_are_refused_whole(rest, session, archive):
    before = rest.get(f"/sessions/{session}/files").json["count"]
    answer = rest.upload(session, "unpacked", archive, extract="true")
    assert answer.status == 422, answer
    assert rest.get(f"/sessions/{session}/files").json["count"] == before


def test_a_bomb_is_stopped_at_its_limit(rest, session):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("bomb", "w") as entry:
            for _ in range(600):
                entry.write(bytes(1 << 20))
    assert len(bomb.getvalue()) < 2 << 20
    answer = rest.upload(session, "bomb", bomb.getvalue(), extract="true")
    assert answer.status == 413, answer
    assert rest.get(f"/sessions/{session}/files?path=bomb").json["count"] == 0
    parts = packed(*((f"{number}", bytes(60 << 20)) for number in range(10)))
    assert rest.upload(session, "bomb", parts, extract="true").status == 413
    assert rest.get(f"/sessions/{session}/files?path=bomb").json["count"] == 0
    many = packed(*((f"f{number}", "") for number in range(10_001)))
    assert rest.upload(session, "many", many, extract="true").status == 413


def test_an_archive_that_breaks_off_leaves_the_same_in_store_and_pod(rest, session):
    answer = rest.upload(session, "torn", packed(("a", "x"), ("a/b", "x"), ("c", "x")), extract="true")
    assert answer.status == 400 and "torn/a/b" in answer.json["detail"], answer
    listed = [file["name"] for file in rest.get(f"/sessions/{session}/files?path=torn").json["files"]]
    assert listed == rest.run(session, "find torn -type f; rm -rf torn")["stdout"].split() == ["torn/a"]


def test_bodies_have_an_end(rest, session):
    huge = json.dumps({"code": "x" * (4 << 20), "language": "shell"}).encode()
    # Refused before it is all sent, which this client looks for only then.
    answer = rest.call("POST", f"/api/v1/executions/sessions/{session}/execute", huge, {"Content-Type": "application/json"})
    assert answer.status == 413, answer
    deep = b"[" * 100_000
    assert rest.call("POST", "/api/v1/sessions", deep, {"Content-Type": "application/json"}).status == 422
    for body in (b"\xff\xfe", b"{\"id\": \"\\ud800\"}", b"null", b"{\"timeout\": 1e400}"):
        assert rest.call("POST", "/api/v1/sessions", body, {"Content-Type": "application/json"}).status == 422, body


def test_an_upload_that_is_too_large_leaves_nothing(rest, session):
    for more in (1, 50 << 20):
        answer = rest.upload(session, "large.bin", bytes((100 << 20) + more))
        assert answer.status == 413, answer
    assert rest.get(f"/sessions/{session}/files/large.bin").status == 404


def test_an_upload_that_breaks_off_leaves_nothing(rest, session):
    head = (f"POST /api/v1/sessions/{session}/files/upload?path=torn.txt HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nhalf')
    raw(rest, head.encode())
    assert rest.get(f"/sessions/{session}/files/torn.txt").status == 404
    assert rest.run(session, "ls torn.txt")["status"] == "failed"


@pytest.mark.parametrize("sent", [
    b"GET /api/v1/health HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 600_000 + b"\r\n\r\n",
    b"POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
], ids=["no host", "no such version", "TLS", "a huge header", "two lengths"])
def test_odd_requests_harm_nobody(rest, sent):
    try:
        raw(rest, sent)
    except OSError:
        pass
    assert rest.get("/health").status == 200


def test_slow_clients_hold_up_nobody(rest, session):
    host, port = rest.address.rsplit(":", 1)
    slow = []
    for number in range(50):
        connection = socket.create_connection((host, int(port)), timeout=20)
        connection.sendall(f"POST /api/v1/executions/sessions/{session}/execute-sync HTTP/1.1\r\nHost: localhost\r\nContent-Length: {number + 100}\r\n\r\n{{".encode())
        slow.append(connection)
    began = time.monotonic()
    assert rest.run(session, "echo quick")["stdout"] == "quick\n"
    assert time.monotonic() - began < 20
    for connection in slow:
        connection.close()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example"])
def test_pages_from_elsewhere_get_nothing(rest, origin):
    answer = rest.get("/sessions", headers={"Origin": origin})
    assert answer.status == 403 and "Access-Control-Allow-Origin" not in answer.headers
    assert rest.post("/sessions", {}, headers={"Origin": origin}).status == 403


def test_a_name_that_points_here_is_no_name_of_ours(rest):
    assert rest.get("/sessions", headers={"Host": "rebound.example"}).status == 403


@pytest.mark.parametrize("variables", [{"A=B": "x"}, {"": "x"}, {"A\0": "x"}, {"A": "x\0"}, {"A": "x" * 200_000}])
def test_variables_that_no_program_could_have_are_refused(rest, variables):
    assert rest.post("/sessions", {"env_vars": variables}).status == 422
