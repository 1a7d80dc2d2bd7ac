"""Executions that do not just end well: stopped, lost, run again, reported by others."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest
import websocket
from conftest import eventually
from rest import Gateway, Rest


@pytest.fixture(scope="module")
def rest(machine):
    return Rest(machine.gateway)


@pytest.fixture
def session(rest):
    session = rest.session()
    yield session
    rest.delete(f"/sessions/{session}")


def submitted(rest, session: str, **body) -> str:
    answer = rest.post(f"/executions/sessions/{session}/execute", {"language": "shell", "timeout": 600, **body})
    assert answer.status == 201, answer
    return answer.json["execution_id"]


def result(rest, execution: str) -> dict:
    return rest.get(f"/executions/{execution}/result").json


def until_over(rest, execution: str, timeout: float = 60) -> dict:
    def over():
        found = result(rest, execution)
        return found["status"] not in ("pending", "running") and found
    return eventually(over, timeout=timeout, every=0.05)


def until_it_runs(rest, execution: str):
    eventually(lambda: result(rest, execution)["status"] == "running", every=0.02)


def lose_pod(machine, rest, session: str):
    pod = rest.get(f"/sessions/{session}").json["pod_name"]
    machine.kubectl("-n", "sandbox-runtime", "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")


def test_a_lost_pod_ends_the_execution_as_crashed_within_seconds(machine, rest, session):
    execution = submitted(rest, session, code="echo begun; sleep 300")
    until_it_runs(rest, execution)
    lose_pod(machine, rest, session)
    ended = until_over(rest, execution, timeout=15)
    assert ended["status"] == "crashed" and session in ended["error_message"], ended
    assert ended["retry_count"] == 0


def test_a_lost_pod_is_tried_again_where_asked_for(machine, rest, session):
    # The first run stays for ever, the second finds what the first left in the store.
    rest.upload(session, "marker.txt", b"")
    code = "if [ -s marker.txt ]; then echo again; else sleep 300; fi"
    execution = submitted(rest, session, code=code, max_retries=2)
    until_it_runs(rest, execution)
    # Kept in the store, it comes to the next pod; the run that goes on does not look again.
    assert rest.upload(session, "marker.txt", b"x").status == 200
    lose_pod(machine, rest, session)
    ended = until_over(rest, execution)
    assert (ended["status"], ended["stdout"], ended["retry_count"]) == ("completed", "again\n", 1), ended


def agent_of(machine, pod: str) -> int:
    """The agent of a pod, as this machine numbers its processes."""
    uid = machine.get("-n", "sandbox-runtime", "pod", pod)["metadata"]["uid"]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_its = uid in (process / "cgroup").read_text() or pod == hostname(process)
            if is_its and "sandlot-agent" in (process / "cmdline").read_text():
                return int(process.name)
        except OSError:
            continue  # it has just ended
    raise AssertionError(f"pod {pod} has no agent")


def hostname(process: Path) -> str:
    return (process / "root/etc/hostname").read_text().strip()


def test_an_agent_that_is_killed_ends_the_execution_as_crashed(machine, rest, session):
    execution = submitted(rest, session, code="echo begun; sleep 300")
    until_it_runs(rest, execution)
    os.kill(agent_of(machine, rest.get(f"/sessions/{session}").json["pod_name"]), signal.SIGKILL)
    ended = until_over(rest, execution, timeout=20)
    assert ended["status"] == "crashed" and session in ended["error_message"], ended
    eventually(lambda: rest.post(f"/executions/sessions/{session}/execute-sync", {"code": "echo up", "language": "shell"}).json.get("stdout") == "up\n", timeout=90, every=0.5)


def test_code_that_kills_everything_it_can_ends_itself_and_not_its_agent(rest, session):
    execution = submitted(rest, session, code="sleep 300")
    until_it_runs(rest, execution)
    rest.run(session, "kill -9 1; kill -9 -1; echo alone")
    ended = until_over(rest, execution, timeout=20)
    assert ended["status"] in ("failed", "crashed") and ended["error_message"], ended
    assert rest.run(session, "echo up")["stdout"] == "up\n"


# One that starts one after the other, and one that doubles.
STEADY = """
import os, time
while True:
    try:
        if os.fork() == 0:
            time.sleep(300)
            os._exit(0)
    except OSError:
        pass
"""
DOUBLING = "bomb() { bomb | bomb & }; bomb; sleep 300"


@pytest.mark.parametrize("language, bomb", [("python", STEADY), ("shell", DOUBLING)], ids=["steady", "doubling"])
def test_code_that_starts_too_many_processes_is_ended_and_says_so(rest, session, language, bomb):
    most = rest.get(f"/sessions/{session}").json["resource_limit"]["max_processes"]
    beside = submitted(rest, session, code="sleep 3; echo fine")
    until_it_runs(rest, beside)
    done = rest.run(session, bomb, language, timeout=120)
    assert done["status"] == "failed", done
    assert f"more than {most} processes" in done["error_message"] and done["metrics"]["duration_ms"] < 60_000, done
    assert until_over(rest, beside)["stdout"] == "fine\n", "what did nothing of the kind goes on"
    assert int(rest.run(session, "ls -d /proc/[0-9]* | wc -l")["stdout"]) < most


def test_as_many_processes_as_there_may_be_are_fine(rest, session):
    code = "for n in $(seq 100); do sleep 1 & done; wait; echo all"
    assert rest.run(session, code, timeout=120)["stdout"] == "all\n"


def test_output_is_told_over_a_websocket_as_it_is_made(rest, session):
    gate = "until [ -e go ]; do sleep 0.05; done"
    execution = submitted(rest, session, code=f"echo one; {gate}; echo two >&2; echo three")
    address = f"ws://{rest.address}/api/v1/executions/{execution}/ws"
    socket = websocket.create_connection(address, timeout=60)
    first = json.loads(socket.recv())
    assert first == {"type": "stdout", "data": {"text": "one\n"}}, "told while it goes on"
    assert result(rest, execution)["status"] in ("pending", "running")
    assert rest.run(session, "touch go")["status"] == "completed"
    told = [first, *messages(socket)]
    assert told[-1]["type"] == "end" and told[-1]["data"]["status"] == "completed"
    said = {kind: "".join(m["data"]["text"] for m in told[:-1] if m["type"] == kind) for kind in ("stdout", "stderr")}
    assert said == {"stdout": "one\nthree\n", "stderr": "two\n"}
    # Who comes later is told everything, and others' pages nothing.
    later = messages(websocket.create_connection(address, timeout=60))
    assert [m["type"] for m in later] == ["stdout", "stderr", "end"] and later[-1] == told[-1]
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(address, origin="https://elsewhere.example", timeout=60)
    with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
        websocket.create_connection(address.replace(execution, "exec_none"), timeout=60)


def messages(socket) -> list[dict]:
    """What a socket still tells until it is closed."""
    told = []
    try:
        while message := socket.recv():
            told.append(json.loads(message))
    except websocket.WebSocketConnectionClosedException:
        pass
    return told


def test_a_websocket_whose_client_goes_leaves_the_code_alone(rest, session):
    execution = submitted(rest, session, code="until [ -e go ]; do echo on; sleep 0.05; done; echo end")
    socket = websocket.create_connection(f"ws://{rest.address}/api/v1/executions/{execution}/ws", timeout=60)
    assert json.loads(socket.recv())["type"] == "stdout"
    socket.close()
    rest.run(session, "touch go")
    ended = until_over(rest, execution)
    assert ended["status"] == "completed" and ended["stdout"].endswith("end\n"), ended


def test_stopping_code_that_has_just_begun_stops_it(rest, session):
    for _ in range(5):
        execution = submitted(rest, session, code="sleep 300")
        stopped = rest.post(f"/executions/{execution}/cancel")
        assert stopped.status == 200 and stopped.json["status"] == "failed", stopped
    assert rest.run(session, "pgrep -xf 'sleep 300' | wc -l")["stdout"].strip() == "0"


def test_stopping_what_is_over_changes_nothing(rest, session):
    done = rest.run(session, "echo hi")
    again = rest.post(f"/executions/{done['id']}/cancel")
    assert again.status == 200 and again.json["status"] == "completed"


def test_ending_a_session_ends_what_runs_in_it(rest, session):
    execution = submitted(rest, session, code="sleep 300")
    until_it_runs(rest, execution)
    assert rest.post(f"/sessions/{session}/terminate").status == 200
    ended = result(rest, execution)
    assert ended["status"] == "crashed" and "terminated" in ended["error_message"], ended


def test_many_at_once_all_come_back(rest, session):
    answers = []

    def one(number: int):
        answers.append(rest.run(session, f"sleep 0.5; echo {number}", timeout=60))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(answer["stdout"]) for answer in answers) == list(range(20))
    assert len({answer["id"] for answer in answers}) == 20


def test_javascript_returns_what_its_handler_does(rest, session):
    code = "async function handler(event) { console.log('on'); return {sum: event.a + 1, list: [0, false, '']}; }"
    done = rest.run(session, code, "javascript", event={"a": 1})
    if "not found" in (done["error_message"] or ""):
        pytest.skip("node is not installed")
    assert done["return_value"] == {"sum": 2, "list": [0, False, ""]} and done["stdout"] == "on\n", done


def test_code_works_in_the_folder_it_names(rest, session):
    assert rest.upload(session, "src/data.txt", b"here").status == 200
    assert rest.run(session, "pwd; cat data.txt", working_directory="src")["stdout"] == "/workspace/src\nhere"


def test_an_interpreter_waits_where_the_template_asks_for_it(rest):
    fields = {"id": "waiting", "name": "waiting", "image_url": "host", "runtime_type": "python3.11", "prestarted_interpreter": True}
    assert rest.post("/templates", fields).status == 201
    session = rest.session(template_id="waiting", env_vars={"WHO": "me"})
    code = "import os, sys\nseen = globals().get('seen', 0) + 1\ndef handler(event):\n    print(os.getcwd())\n    return [event['n'], os.environ['WHO'], seen]"
    for number in range(4):
        done = rest.run(session, code, "python", event={"n": number})
        assert done["status"] == "completed", done
        # Each has an interpreter of its own, nothing is left of the one before.
        assert done["return_value"] == [number, "me", 1] and done["stdout"] == "/workspace\n"
        assert done["metrics"]["duration_ms"] < 60_000
    late = rest.run(session, "import time\nprint('on', flush=True)\ntime.sleep(60)\ndef handler(event): pass", "python", timeout=1)
    assert (late["status"], late["stdout"]) == ("timeout", "on\n") and "time limit" in late["error_message"], late
    failed = rest.run(session, "def handler(event):\n    return 1 / 0", "python")
    assert failed["status"] == "failed" and "ZeroDivisionError" in failed["stderr"] and "drive" not in failed["stderr"], failed
    execution = submitted(rest, session, code="import time\ntime.sleep(300)", language="python")
    until_it_runs(rest, execution)
    assert rest.post(f"/executions/{execution}/cancel").json["status"] == "failed"
    rest.delete(f"/sessions/{session}")
    assert rest.delete("/templates/waiting").status == 200


def test_a_sessions_first_python_finds_an_interpreter_which_is_let_go_where_none_comes(rest, session):
    how = "def handler(event):\n    return open('/proc/self/cmdline').read().split('\\0')[-2]"
    assert rest.run(session, how, "python")["return_value"] == "-"
    # None of those that look is called python.
    waiting = "cat /proc/[0-9]*/comm | grep -c '^python'"
    other = rest.session()
    assert rest.run(other, waiting)["stdout"] == "1\n"
    eventually(lambda: rest.run(other, waiting)["stdout"] == "0\n", timeout=30, every=0.5)
    rest.delete(f"/sessions/{other}")
    fields = {"id": "node", "name": "node", "image_url": "host", "runtime_type": "nodejs20"}
    assert rest.post("/templates", fields).status == 201
    other = rest.session(template_id="node")
    assert rest.run(other, waiting)["stdout"] == "0\n"
    rest.delete(f"/sessions/{other}")
    assert rest.delete("/templates/node").status == 200


def test_an_interpreter_waits_in_warm_pods_and_is_told_whose_it_is(rest, session):
    code = "import os\ndef handler(event):\n    at_first = 'SESSION_ID=' in open('/proc/self/environ').read()\n" \
        "    return [at_first, os.environ['SESSION_ID'], os.environ['WORKSPACE_PATH'], os.environ.get('MINE'), os.popen('echo $SESSION_ID').read()]"
    fields = {"id": "cold", "name": "cold", "image_url": "host", "runtime_type": "python3.11", "warm_interpreter": False}
    made = rest.post("/templates", fields)
    assert made.status == 201 and made.json["warm_interpreter"] is False
    assert rest.get("/templates/python-basic").json["warm_interpreter"] is True
    for more, at_first in [({}, False), ({"env_vars": {"MINE": "x"}}, True), ({"template_id": "cold"}, True)]:
        other = rest.session(**more)
        done = rest.run(other, code, "python")
        mine = more.get("env_vars", {}).get("MINE")
        assert done["return_value"] == [at_first, other, "/workspace", mine, other + "\n"], (more, done)
        rest.delete(f"/sessions/{other}")
    assert rest.delete("/templates/cold").status == 200


def test_what_a_start_finds_is_found_though_an_interpreter_waited_before_it_came(rest):
    other = rest.session()
    late = b"import os, sys\nsys.whose = os.environ.get('SESSION_ID')"
    version = rest.run(other, "python3 -c 'import sys; print(*sys.version_info[:2], sep=\".\")'")["stdout"].strip()
    assert rest.upload(other, f".local/lib/python{version}/site-packages/usercustomize.py", late).status == 200
    done = rest.run(other, "import sys\ndef handler(event):\n    return sys.whose", "python")
    assert done["return_value"] == other, done
    rest.delete(f"/sessions/{other}")


def test_an_executor_reports_its_own_sessions_results_and_no_others(machine, tmp_path):
    gateway = Gateway(machine, tmp_path / "gateway", KUBERNETES_NAMESPACE="reports", CONTROL_PLANE_URL="http://gateway:8000")
    try:
        rest = gateway.rest
        session, other = rest.session(), rest.session()
        said = rest.run(session, "echo $CONTROL_PLANE_URL $INTERNAL_API_TOKEN $SESSION_ID")["stdout"].split()
        assert said[0] == "http://gateway:8000" and said[2] == session
        executor = Rest(rest.address, token=said[1])
        nobody = Rest(rest.address)
        pod = rest.get(f"/sessions/{session}").json["container_id"]
        assert executor.post("/internal/containers/ready", {"container_id": pod}).json["message"]
        assert executor.post("/internal/containers/ready", {"container_id": "another"}).status == 404
        assert nobody.post("/internal/containers/ready", {"container_id": pod}).status == 401
        assert executor.post("/internal/containers/exited").json == {"message": "Container exited acknowledged"}
        assert executor.post("/internal/executions/unknown/heartbeat", {}).json == {"message": "Heartbeat acknowledged"}
        # The token is good for callbacks alone, and for its own session's.
        report = {"status": "success", "stdout": "said", "exit_code": 0, "execution_time": 0.5, "return_value": 0, "artifacts": ["a.txt"]}
        mine = submitted(rest, session, code="sleep 300")
        others = submitted(rest, other, code="sleep 300")
        assert executor.post(f"/internal/executions/{others}/result", report).status == 404
        assert nobody.post(f"/internal/executions/{mine}/result", report).status == 401
        assert executor.post(f"/internal/executions/{mine}/result", {"status": "odd"}).status == 400
        assert executor.post(f"/internal/executions/{mine}/result", report).status == 201
        assert executor.post(f"/internal/executions/{mine}/result", {**report, "stdout": "later"}).status == 200
        told = result(rest, mine)
        assert (told["status"], told["stdout"], told["return_value"], told["execution_time"]) == ("completed", "said", 0, 0.5), told
        assert rest.delete(f"/sessions/{session}").status == 204 and rest.delete(f"/sessions/{other}").status == 204
    finally:
        gateway.stop()


def test_long_answers_are_smaller_for_who_reads_gzip(rest, session):
    done = rest.run(session, "yes | head -c 5000")
    plain = rest.get(f"/executions/{done['id']}/result")
    small = rest.get(f"/executions/{done['id']}/result", headers={"Accept-Encoding": "gzip"})
    assert small.headers["Content-Encoding"] == "gzip" and len(small.content) < len(plain.content) / 2
    import gzip
    assert json.loads(gzip.decompress(small.content)) == plain.json
