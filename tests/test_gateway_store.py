"""Sessions' files in an S3 store, a real server: kept, streamed, waited for."""

import http.client
import io
import uuid
import zipfile
from pathlib import Path

import pytest
from conftest import eventually
from rest import Gateway
from stores import Store

MIB = 1 << 20


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    yield store
    store.stop()


@pytest.fixture(scope="module")
def gateway(machine, store, tmp_path_factory):
    one = Gateway(machine, tmp_path_factory.mktemp("gateway"), KUBERNETES_NAMESPACE="stored", MAX_UPLOAD_FILE_SIZE_MB="2048", **store.variables)
    yield one
    one.stop()


@pytest.fixture(scope="module")
def rest(gateway):
    return gateway.rest


@pytest.fixture(scope="module")
def session(rest):
    session = rest.session()
    yield session
    rest.delete(f"/sessions/{session}")


def resident(gateway) -> int:
    """The most memory the gateway's process ever had, in MiB."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) >> 10


def test_the_bucket_is_made(store, gateway):
    eventually(lambda: gateway.rest.get("/health/ready").status == 200)
    assert (store.folder / "sandbox-workspace").is_dir()


def test_files_go_in_and_out_and_code_sees_them(rest, session):
    content = bytes(range(256)) * 10
    assert rest.upload(session, "data/in.bin", content).status == 200
    assert rest.run(session, "wc -c < data/in.bin; echo made > out.txt")["stdout"].strip() == str(len(content))
    assert rest.get(f"/sessions/{session}/files/data/in.bin").content == content
    assert rest.get(f"/sessions/{session}/files/out.txt").content == b"made\n"
    part = rest.get(f"/sessions/{session}/files/data/in.bin", headers={"Range": "bytes=250-260"})
    assert part.status == 206 and part.content == content[250:261]
    names = [file["name"] for file in rest.get(f"/sessions/{session}/files").json["files"]]
    assert {"data/in.bin", "out.txt"} <= set(names)
    assert rest.get(f"/sessions/{session}/files/missing").status == 404


def test_an_archive_is_taken_apart(rest, session):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("src/a.txt", "a")
        written.writestr("src/b ä.txt", "b")
    done = rest.upload(session, "unpacked", archive.getvalue(), extract="true")
    assert done.status == 200 and done.json["extracted_file_count"] == 2, done
    assert rest.run(session, "cat unpacked/src/*")["stdout"] == "ab"


def test_a_file_and_a_folder_of_one_name_are_refused_before_there_is_a_pod(machine, rest):
    node = machine.kubectl("get", "node", "-o", "name").stdout.strip()
    machine.kubectl("cordon", node)
    try:
        # Of another size than the pods that are warm.
        session = rest.post("/sessions", {"memory": "300Mi"}).json["id"]
        assert rest.upload(session, "a/b", b"deep").status == 200
        for path in ("a", "a/b/c"):
            refused = rest.upload(session, path, b"x")
            assert refused.status == 400 and path in refused.json["detail"], refused
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as written:
            for name in ("c", "c/d"):
                written.writestr(name, name)
        refused = rest.upload(session, "z", archive.getvalue(), extract="true")
        assert refused.status == 400 and "z/c/d" in refused.json["detail"], refused
        assert rest.get(f"/sessions/{session}").json["status"] == "creating"
    finally:
        machine.kubectl("uncordon", node)
    rest.until_running(session)
    listed = [file["name"] for file in rest.get(f"/sessions/{session}/files").json["files"]]
    assert listed == ["a/b", "z/c"] == rest.run(session, "find * -type f | sort")["stdout"].split()
    rest.delete(f"/sessions/{session}")


def test_sessions_whose_names_begin_alike_have_their_own_files(rest):
    one, other = "twin-1", "twin-10"
    for session in (one, other):
        rest.session(id=session)
        rest.upload(session, "f", session.encode())
    rest.delete(f"/sessions/{one}")
    assert rest.get(f"/sessions/{other}/files").json["count"] == 1
    assert rest.get(f"/sessions/{other}/files/f").content == other.encode()
    rest.delete(f"/sessions/{other}")


def test_a_large_file_is_answered_with_a_link_that_needs_no_token(rest, session):
    content = b"0123456789abcdef" * (11 * MIB // 16)
    rest.upload(session, "large.bin", content)
    answer = rest.get(f"/sessions/{session}/files/large.bin").json
    assert answer["size"] == len(content)
    place, path = answer["presigned_url"].removeprefix("http://").split("/", 1)
    connection = http.client.HTTPConnection(place, timeout=60)
    connection.request("GET", "/" + path)
    linked = connection.getresponse()
    assert linked.status == 200 and linked.read() == content
    connection.request("GET", "/" + path.split("?")[0])
    assert connection.getresponse().status in (401, 403), "the link is what lets in"
    connection.close()


def test_what_a_session_has_written_is_there_in_its_next_pod(machine, rest):
    session = rest.session()
    rest.upload(session, "kept.txt", b"kept")
    rest.run(session, "echo made > made.txt")
    pod = rest.get(f"/sessions/{session}").json["pod_name"]
    machine.kubectl("-n", "stored", "delete", "pod", pod, "--grace-period=0", "--force")
    eventually(lambda: rest.get(f"/sessions/{session}").json["pod_name"] != pod, timeout=60)
    assert rest.run(session, "cat kept.txt made.txt")["stdout"] == "keptmade\n"
    rest.delete(f"/sessions/{session}")


def test_a_store_that_goes_away_is_said_and_one_that_comes_back_is_used(store, rest, session):
    assert rest.upload(session, "before.txt", b"before").status == 200
    store.stop()
    try:
        eventually(lambda: rest.get("/health/ready").status == 503)
        unwell = rest.get("/health/detailed").json["dependencies"]
        assert unwell["storage"].startswith("unhealthy: ") and unwell["database"] == "healthy"
        lost = rest.upload(session, "during.txt", b"during")
        assert lost.status == 503 and "store" in lost.json["detail"], lost
        assert rest.get("/health").status == 200, "it is alive all the same"
        ran = rest.run(session, "echo still > still.txt; cat before.txt", timeout=60)
        assert ran["stdout"] == "before", "code that runs needs no store"
    finally:
        store.start()
    eventually(lambda: rest.get("/health/ready").status == 200)
    assert rest.get(f"/sessions/{session}/files/before.txt").content == b"before"
    assert rest.upload(session, "after.txt", b"after").status == 200
    assert rest.get(f"/sessions/{session}/files/during.txt").status == 404, "what was refused is not there"


def send(rest, session: str, path: str, size: int):
    """An upload that is never whole in memory here either."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'.encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    piece = bytes(MIB)
    connection = http.client.HTTPConnection(rest.address, timeout=300)
    connection.putrequest("POST", f"/api/v1/sessions/{session}/files/upload?path={path}")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
    connection.putheader("Content-Length", str(len(head) + size + len(tail)))
    connection.endheaders()
    connection.send(head)
    for _ in range(size // MIB):
        connection.send(piece)
    connection.send(tail)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_a_file_of_a_gibibyte_goes_in_and_out_in_little_memory(gateway, rest):
    session = rest.session(disk="3Gi")
    rest.get("/health/detailed")
    before = resident(gateway)
    status, body = send(rest, session, "huge.bin", 1024 * MIB)
    assert status == 200, body
    connection = http.client.HTTPConnection(rest.address, timeout=300)
    connection.request("GET", f"/api/v1/sessions/{session}/files/huge.bin?download=true")
    answer = connection.getresponse()
    size = 0
    while piece := answer.read(MIB):
        size += len(piece)
    assert size == 1024 * MIB
    grown = resident(gateway) - before
    assert grown <= 64, f"the gateway grew by {grown} MiB"
    rest.delete(f"/sessions/{session}")
