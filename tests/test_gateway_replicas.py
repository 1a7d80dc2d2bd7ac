"""Two gateways over one database, and what becomes of the work when one of them is killed."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import databases
import pytest
from conftest import eventually
from rest import Gateway


@pytest.fixture(scope="module", params=["postgres", "mariadb"])
def server(request, tmp_path_factory):
    server = getattr(databases, request.param)(tmp_path_factory.mktemp(request.param) / "server")
    yield server
    server.stop()


@pytest.fixture
def pair(machine, server, tmp_path):
    """Two gateways with the same database and the same store of files."""
    namespace = "pair-" + server.url.split(":")[0]
    # What is cleared away now and then, as deployments have it, has nothing to do with who is gone.
    seldom = {"CLEANUP_INTERVAL_SECONDS": "3600"}
    start = lambda _: Gateway(machine, tmp_path / "both", DATABASE_URL=server.url, KUBERNETES_NAMESPACE=namespace, **seldom)  # noqa: E731
    with ThreadPoolExecutor() as both:
        started = list(both.map(start, range(2)))
    yield tuple(started)
    for gateway in started:
        if gateway.process.poll() is None:
            gateway.stop()


def test_what_one_makes_the_other_serves(pair):
    one, other = (gateway.rest for gateway in pair)
    session = one.session()
    assert other.run(session, "echo from the other > file.txt; echo hi")["stdout"] == "hi\n"
    assert one.get(f"/sessions/{session}/files/file.txt").content == b"from the other\n"
    execution = one.post(f"/executions/sessions/{session}/execute", {"code": "echo on; sleep 300", "language": "shell"}).json["execution_id"]
    eventually(lambda: other.get(f"/executions/{execution}/status").json["status"] == "running")
    stopped = other.post(f"/executions/{execution}/cancel")
    assert stopped.status == 200 and stopped.json["status"] == "failed", stopped
    assert other.delete(f"/sessions/{session}").status == 204
    assert one.get(f"/sessions/{session}").status == 404


def test_nothing_acknowledged_is_lost_when_one_is_killed_under_load(pair):
    one, other = pair
    sessions = [one.rest.session() for _ in range(3)]
    acknowledged, stop = [], threading.Event()
    lock = threading.Lock()

    def load(gateway, session: str, name: str):
        number = 0
        # All of a session's at once are no more processes than it may have.
        while not stop.wait(0.05) and number < 50:
            number += 1
            body = {"code": f"echo {name}-{number} >> log-{name}.txt; sleep 0.2; echo {name}-{number}", "language": "shell", "timeout": 60}
            try:
                answer = gateway.rest.post(f"/executions/sessions/{session}/execute", body)
            except OSError:
                return
            if answer.status == 201:
                with lock:
                    acknowledged.append((answer.json["execution_id"], session, name, f"{name}-{number}\n"))

    threads = [threading.Thread(target=load, args=(gateway, session, f"{who}{at}"))
               for who, gateway in (("one", one), ("other", other)) for at, session in enumerate(sessions)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    one.kill()
    time.sleep(2)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(acknowledged) > 20
    deadline = time.monotonic() + 90

    def over(execution: str):
        found = other.rest.get(f"/executions/{execution}/result").json
        return found["status"] not in ("pending", "running") and found

    for execution, _, _, printed in acknowledged:
        ended = eventually(lambda execution=execution: over(execution), timeout=max(1.0, deadline - time.monotonic()))
        assert (ended["status"], ended["stdout"]) == ("completed", printed), ended
    # Each ran once, also those that the killed gateway had begun.
    for session in sessions:
        for name in {name for _, of, name, _ in acknowledged if of == session}:
            lines = other.rest.run(session, f"cat log-{name}.txt")["stdout"].split()
            assert len(lines) == len(set(lines)), "nothing runs twice"
        other.rest.delete(f"/sessions/{session}")
