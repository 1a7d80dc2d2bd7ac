"""A database that several gateways share: come up late, gone for a while, set up by two at once."""

import subprocess
import threading
import time
import uuid

import databases
import pytest
from conftest import eventually
from rest import Gateway


@pytest.fixture(params=["postgres", "mariadb"])
def database(request, tmp_path):
    """A server of the test's own."""
    server = getattr(databases, request.param)(tmp_path / "database")
    yield server
    server.stop()


@pytest.fixture
def gateway(machine, database, tmp_path):
    """Starts gateways on that database, and ends them with the test."""
    started = []
    # Pods of one database are in a namespace of their own.
    namespace = f"shared-{uuid.uuid4().hex[:8]}"

    def start() -> Gateway:
        one = Gateway(machine, tmp_path / "files", DATABASE_URL=database.url, KUBERNETES_NAMESPACE=namespace)
        started.append(one)
        return one

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()


def start_again(server):
    """The same server on the same data, after it was stopped."""
    server.process = subprocess.Popen(server.process.args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def test_two_that_start_at_once_set_it_up_once(gateway):
    made, failed = {}, []

    def start(name):
        try:
            made[name] = gateway()
        except BaseException as error:  # an assertion in a thread is lost otherwise
            failed.append(error)

    threads = [threading.Thread(target=start, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    one, two = made["one"].rest, made["two"].rest
    session = one.session()
    assert two.run(session, "echo hi")["stdout"] == "hi\n"
    assert sorted(template["id"] for template in two.get("/templates").json) == ["multi-language", "python-basic"]
    two.delete(f"/sessions/{session}")
    assert one.get(f"/sessions/{session}").status == 404


def test_one_that_goes_away_is_said_and_nothing_acknowledged_is_lost(gateway, database):
    rest = gateway().rest
    session = rest.session()
    before = rest.run(session, "echo before")
    body = {"code": "sleep 3; echo during", "language": "shell"}
    during = rest.post(f"/executions/sessions/{session}/execute", body).json["execution_id"]
    database.stop()
    try:
        eventually(lambda: rest.get("/health/ready").status == 503)
        assert rest.get("/health/detailed").json["dependencies"]["database"].startswith("unhealthy: ")
        assert rest.get("/health").status == 200, "it is alive all the same"
        refused = rest.post(f"/executions/sessions/{session}/execute", body)
        assert refused.status == 503, refused
        assert "database" in refused.json["detail"] and "try again" in refused.json["detail"]
        time.sleep(4)
    finally:
        start_again(database)
    eventually(lambda: rest.get("/health/ready").status == 200, timeout=60)
    assert rest.get(f"/executions/{before['id']}/result").json["stdout"] == "before\n"

    def ended():
        found = rest.get(f"/executions/{during}/result").json
        return found["status"] not in ("pending", "running") and found

    assert eventually(ended, timeout=60)["stdout"] == "during\n", "it was acknowledged, so it is kept"
    assert rest.run(session, "echo after")["stdout"] == "after\n"
    rest.delete(f"/sessions/{session}")


def test_what_cannot_be_noted_is_called_off(gateway, database):
    rest = gateway().rest
    session = rest.session()
    # The code begins while it is being noted; the database takes no new executions.
    database.say("ALTER TABLE t_sandbox_execution ADD CONSTRAINT none_new CHECK (f_status <> 'pending')")
    refused = rest.post(f"/executions/sessions/{session}/execute-sync", {"code": "sleep 98765", "language": "shell", "timeout": 300})
    assert refused.status == 503 and "database" in refused.json["detail"], refused
    database.say("ALTER TABLE t_sandbox_execution DROP CONSTRAINT none_new")
    assert rest.get(f"/executions/sessions/{session}/executions").json["total"] == 0
    count = "n=0; for c in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$c | grep -q '^sleep 9876[5]' && n=1; done; echo $n"
    eventually(lambda: rest.run(session, count)["stdout"] == "0\n")
    rest.delete(f"/sessions/{session}")


def test_one_that_is_not_up_yet_is_waited_for(gateway, database):
    database.stop()
    # Longer than a request would wait for it.
    late = threading.Timer(13, start_again, args=(database,))
    late.start()
    one = gateway()
    late.join()
    said = one.log.read_text()
    assert "waiting for the database" in said and "p%40ss" not in said and "p@ss" not in said
    assert one.rest.get("/health/ready").status == 200
