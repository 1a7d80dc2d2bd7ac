"""A session that has lost its pod gets another, whatever becomes of the gateway meanwhile."""

import threading

import pytest
from conftest import eventually
from rest import Gateway

NAMESPACE = "recovered"


@pytest.fixture
def closed_node(machine):
    """Lets no pod onto this machine's node, until it is told to."""
    node = machine.get("nodes")["items"][0]["metadata"]["name"]
    machine.kubectl("cordon", node)
    opened = threading.Event()

    def open_it():
        if not opened.is_set():
            opened.set()
            machine.kubectl("uncordon", node)

    yield open_it
    open_it()


def session_with_files(rest) -> str:
    session = rest.session()
    assert rest.upload(session, "in.txt", b"uploaded").status == 200
    assert rest.run(session, "echo made > out.txt")["status"] == "completed"
    return session


@pytest.fixture
def first(machine, tmp_path):
    gateway = Gateway(machine, tmp_path, KUBERNETES_NAMESPACE=NAMESPACE)
    yield gateway
    if gateway.process.poll() is None:
        gateway.kill()


def test_a_gateway_killed_while_it_brought_another_pod_leaves_that_to_the_next(machine, tmp_path, first, request):
    session = session_with_files(first.rest)
    lost = first.rest.get(f"/sessions/{session}").json["pod_name"]
    open_node = request.getfixturevalue("closed_node")
    # Nothing is left to take, and nothing new can come.
    machine.kubectl("-n", NAMESPACE, "delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
    eventually(lambda: not first.rest.get(f"/sessions/{session}").json["pod_name"], timeout=60)
    waiting = first.rest.post(f"/executions/sessions/{session}/execute", {"code": "cat in.txt out.txt", "language": "shell", "timeout": 60})
    assert waiting.status == 201, "it is taken on, and waits for a pod"
    first.kill()
    open_node()
    second = Gateway(machine, tmp_path, KUBERNETES_NAMESPACE=NAMESPACE)
    try:
        rest = second.rest
        found = eventually(lambda: (s := rest.get(f"/sessions/{session}").json)["pod_name"] and s, timeout=120)
        assert found["status"] == "running" and found["pod_name"] != lost
        path = f"/executions/{waiting.json['execution_id']}/result"
        done = eventually(lambda: (e := rest.get(path).json)["status"] not in ("pending", "running") and e, timeout=120)
        # It was never begun, so it may run now; it is not known to have been lost, nor run twice.
        assert (done["status"], done["stdout"]) in [("completed", "uploadedmade\n"), ("crashed", "")], done
        assert rest.run(session, "cat in.txt out.txt")["stdout"] == "uploadedmade\n"
        claims = machine.get("-n", NAMESPACE, "sandboxes")["items"]
        assert len([one for one in claims if one["metadata"]["annotations"].get("sandlot.dev/session") == session]) == 1, "one pod, not two"
        assert rest.delete(f"/sessions/{session}").status == 204
        eventually(lambda: not machine.get("-n", NAMESPACE, "sandboxes")["items"], timeout=60)
    finally:
        second.stop()


def test_a_session_that_lost_its_pod_waits_until_there_is_another(machine, first, request):
    session = session_with_files(first.rest)
    lost = first.rest.get(f"/sessions/{session}").json["pod_name"]
    open_node = request.getfixturevalue("closed_node")
    machine.kubectl("-n", NAMESPACE, "delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
    eventually(lambda: not first.rest.get(f"/sessions/{session}").json["pod_name"], timeout=60)
    answers = []
    runs = threading.Thread(target=lambda: answers.append(first.rest.run(session, "cat in.txt out.txt", timeout=60)))
    runs.start()
    open_node()
    runs.join(timeout=150)
    assert answers and answers[0]["stdout"] == "uploadedmade\n", answers
    assert first.rest.get(f"/sessions/{session}").json["pod_name"] not in (None, lost)
    assert first.rest.delete(f"/sessions/{session}").status == 204
    assert first.stop() == 0
