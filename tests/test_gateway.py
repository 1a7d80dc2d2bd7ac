"""Sessions over REST, as a client sees them."""

import io
import json
import threading
import time
import zipfile

import pytest
from conftest import eventually
from rest import Rest


@pytest.fixture(scope="module")
def rest(machine):
    return Rest(machine.gateway)


@pytest.fixture(scope="module")
def session(rest):
    """A session that most tests here share."""
    session = rest.session()
    yield session
    rest.delete(f"/sessions/{session}")


def test_a_session_runs_code_and_goes(rest):
    session = rest.session()
    done = rest.run(session, "echo hi")
    assert (done["status"], done["stdout"], done["stderr"], done["exit_code"]) == ("completed", "hi\n", "", 0)
    assert rest.delete(f"/sessions/{session}").status == 204
    assert rest.get(f"/sessions/{session}").status == 404
    assert rest.get(f"/executions/{done['id']}/result").status == 404


def test_a_handler_gets_its_event_and_its_value_comes_back(rest, session):
    code = "def handler(event):\n    print('working')\n    return {'sum': event['a'] + event['b'], 'deep': [1, None, 'ä']}"
    done = rest.run(session, code, "python", event={"a": 1, "b": 2})
    assert done["status"] == "completed", done
    assert done["return_value"] == {"sum": 3, "deep": [1, None, "ä"]}
    assert done["stdout"] == "working\n"


@pytest.mark.parametrize("value", ["0", "''", "[]", "{}", "False", "1.5", "'===SANDBOX_RESULT==='", "[float('nan')]"])
def test_every_value_comes_back_as_it_is(rest, session, value):
    done = rest.run(session, f"def handler(event):\n    return {value}", "python")
    expected = [None] if "nan" in value else eval(value)
    assert done["status"] == "completed" and done["return_value"] == expected, done


def test_what_is_printed_is_never_a_value(rest, session):
    code = "def handler(event):\n    print('===SANDBOX_RESULT===')\n    print('{\"forged\": 1}')\n    return None"
    done = rest.run(session, code, "python")
    assert done["return_value"] is None and "forged" in done["stdout"]


def test_an_exception_fails_with_its_trace_on_stderr(rest, session):
    done = rest.run(session, "def handler(event):\n    return 1 / 0", "python")
    assert done["status"] == "failed" and done["exit_code"] == 1
    assert "ZeroDivisionError" in done["stderr"] and "return 1 / 0" in done["stderr"]
    assert done["error_message"] == "ZeroDivisionError: division by zero"
    assert "drive" not in done["stderr"], "the trace is the user's own"


def test_code_without_a_handler_is_told_so(rest, session):
    done = rest.run(session, "print('only this')", "python")
    assert done["status"] == "failed" and "handler" in done["error_message"]
    assert done["stdout"] == "only this\n"


def test_a_timeout_kills_the_whole_tree_and_keeps_the_output(rest, session):
    began = time.monotonic()
    done = rest.run(session, "echo before; (sleep 300; touch late) & sleep 300", timeout=1)
    assert done["status"] == "timeout" and done["stdout"] == "before\n", done
    assert time.monotonic() - began < 30
    # Written so that it does not find itself, nor the shells on the way to its own commands.
    left = rest.run(session, "pgrep -f '[s]leep 300' | wc -l")
    assert left["stdout"].strip() == "0"


def test_cancel_ends_what_runs(rest, session):
    submitted = rest.post(f"/executions/sessions/{session}/execute", {"code": "echo on; sleep 300", "language": "shell", "timeout": 600})
    assert submitted.status == 201 and submitted.json["status"] == "pending"
    execution = submitted.json["execution_id"]
    eventually(lambda: rest.get(f"/executions/{execution}/status").json["status"] == "running")
    done = rest.post(f"/executions/{execution}/cancel").json
    assert done["status"] == "failed" and done["stdout"] == "on\n" and "stopped" in done["error_message"], done


def test_metrics_are_the_codes_own(rest, session):
    code = "def handler(event):\n    x = bytearray(60 << 20)\n    t = sum(range(3_000_000))\n    return len(x)"
    metrics = rest.run(session, code, "python")["metrics"]
    assert metrics["duration_ms"] > 0 and metrics["cpu_time_ms"] > 20
    assert metrics["peak_memory_mb"] > 55


def test_artifacts_are_new_and_can_be_fetched(rest, session):
    assert rest.upload(session, "in/data.csv", b"1,2\n").status == 200
    done = rest.run(session, "mkdir -p output; cat in/data.csv in/data.csv > output/twice.csv; echo x > .hidden")
    (artifact,) = done["artifacts"]
    assert (artifact["path"], artifact["size"], artifact["type"], artifact["mime_type"]) == ("output/twice.csv", 8, "output", "text/csv")
    assert artifact["checksum"].startswith("sha256:")
    fetched = rest.get(f"/sessions/{session}/files/output/twice.csv")
    assert fetched.content == b"1,2\n1,2\n" and "attachment" in fetched.headers["Content-Disposition"]
    assert rest.run(session, "true")["artifacts"] == []
    names = [file["name"] for file in rest.get(f"/sessions/{session}/files").json["files"]]
    assert {"in/data.csv", "output/twice.csv"} <= set(names)
    rest.run(session, "rm output/twice.csv")
    assert rest.get(f"/sessions/{session}/files/output/twice.csv").status == 404


def test_files_come_in_parts(rest, session):
    content = bytes(range(256)) * 48 * 1024
    assert rest.upload(session, "big.bin", content).json["size"] == len(content)
    link = rest.get(f"/sessions/{session}/files/big.bin").json
    assert link["size"] == len(content) and link["presigned_url"].startswith("http")
    path = "/" + link["presigned_url"].split("/", 3)[3]
    assert rest.call("GET", path).content == content
    part = rest.get(f"/sessions/{session}/files/big.bin", headers={"Range": "bytes=10-19"})
    assert part.status == 206 and part.content == content[10:20]
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(content)}"
    beyond = rest.get(f"/sessions/{session}/files/big.bin", headers={"Range": f"bytes={len(content)}-"})
    assert beyond.status == 416
    # Who has a part of this file is given the rest, and who has one of another all of this.
    for of, status, rest_of_it in [(part.headers["ETag"], 206, content[-9:]), ('"another"', 200, content)]:
        on = rest.get(f"/sessions/{session}/files/big.bin", headers={"Range": "bytes=-9", "If-Range": of})
        assert (on.status, on.content) == (status, rest_of_it)


def zipped(**files: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def test_an_archive_is_unpacked_where_it_belongs(rest, session):
    archive = zipped(**{"src/main.py": b"print(1)", "README": b"hi"})
    answer = rest.upload(session, "job", archive, extract="true")
    assert answer.status == 200, answer
    assert (answer.json["mode"], answer.json["extracted_file_count"]) == ("archive_extract", 2)
    assert rest.run(session, "cat job/src/main.py job/README")["stdout"] == "print(1)hi"
    again = rest.upload(session, "job", zipped(README=b"new", more=b"1"), extract="true", overwrite="false").json
    assert (again["extracted_file_count"], again["skipped_file_count"]) == (1, 1)
    assert rest.run(session, "cat README", working_directory="job")["stdout"] == "hi"


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out"])
def test_an_archive_that_leads_out_is_refused(rest, session, name):
    answer = rest.upload(session, "x", zipped(fine=b"1", **{name: b"2"}), extract="true")
    assert answer.status == 422 and "leads out" in answer.json["detail"][0]["msg"]
    assert rest.get(f"/sessions/{session}/files/x/fine").status == 404


def test_an_archive_that_swells_is_stopped(rest, session):
    answer = rest.upload(session, "bomb", zipped(zeros=bytes(600 << 20)), extract="true")
    assert answer.status == 413, answer


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../other/x", "a/../../x", "a%5C..%5Cx", "a//b"])
def test_hostile_paths_lead_nowhere(rest, session, path):
    assert rest.upload(session, path, b"x").status == 400


def test_links_in_the_workspace_are_not_followed(rest, session):
    rest.run(session, "ln -s /etc/passwd stolen; ln -s /etc etc; mkfifo pipe")
    for path in ["stolen", "etc/passwd", "pipe"]:
        assert rest.get(f"/sessions/{session}/files/{path}").status == 404
    assert rest.upload(session, "etc/new", b"x").status == 400
    rest.run(session, "rm -f stolen etc pipe")


def test_a_session_sees_nothing_of_its_namesake(rest):
    one, other = rest.session(id="same-1"), rest.session(id="same-10")
    rest.upload(other, "mine.txt", b"x")
    assert rest.get(f"/sessions/{one}/files").json["count"] == 0
    assert rest.delete(f"/sessions/{one}").status == 204
    assert rest.get(f"/sessions/{other}/files/mine.txt").content == b"x"
    assert rest.run(other, "cat mine.txt")["stdout"] == "x"
    rest.delete(f"/sessions/{other}")


def test_code_is_nobody_special(rest, session):
    done = rest.run(session, "id -u; pwd; echo $HOME; ls /var/run/secrets 2>/dev/null; grep CapEff /proc/self/status")
    assert done["stdout"].split() == ["1000", "/workspace", "/workspace", "CapEff:", "0000000000000000"]


def test_a_sessions_pod_is_shown_and_its_log_can_be_read(rest, session):
    found = rest.get(f"/sessions/{session}").json
    pod = rest.get(f"/containers/{found['container_id']}").json
    assert pod["session_id"] == session and pod["pod_name"] == found["pod_name"] and pod["node_name"] == found["runtime_node"]
    assert pod in rest.get("/containers?status=running&runtime_type=kubernetes&limit=200").json["containers"]
    log = rest.get(f"/containers/{found['container_id']}/logs?tail=5&since=60")
    assert log.status == 200 and log.headers["Content-Type"].startswith("text/plain"), log
    assert rest.get(f"/containers/{found['container_id']}/logs?tail=0").status == 422


def test_variables_of_the_session_reach_the_code(rest):
    session = rest.session(env_vars={"NAME": "a b"})
    assert rest.run(session, "echo $NAME")["stdout"] == "a b\n"
    rest.delete(f"/sessions/{session}")


def test_a_session_of_another_size_gets_a_pod_of_its_own(rest):
    session = rest.session(memory="256Mi", cpu="0.5")
    assert rest.run(session, "echo hi")["stdout"] == "hi\n"
    assert rest.get(f"/sessions/{session}").json["resource_limit"]["memory"] == "256Mi"
    rest.delete(f"/sessions/{session}")


def test_a_flood_is_cut_and_says_so(rest, session):
    done = rest.run(session, "head -c 5000000 /dev/zero | tr '\\0' x; echo end")
    assert done["truncated"] and "bytes left out" in done["stdout"] and done["stdout"].endswith("end\n")
    assert len(done["stdout"]) < 2 << 20


def test_output_is_told_as_it_is_made(rest, session):
    body = {"code": "echo one; sleep 2; echo two >&2", "language": "shell"}
    answer = rest.post(f"/executions/sessions/{session}/execute-stream", body)
    events = [block.split("\n") for block in answer.content.decode().strip().split("\n\n")]
    told = [(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))) for lines in events if lines[0].startswith("event")]
    assert [kind for kind, _ in told] == ["execution", "stdout", "stderr", "end"], told
    assert told[1][1]["text"] == "one\n" and told[3][1]["status"] == "completed"
    again = rest.get(f"/executions/{told[0][1]['execution_id']}/stream").content.decode()
    assert "one" in again and "event: end" in again


def test_a_session_that_lost_its_pod_gets_another_with_its_files(machine, rest):
    session = rest.session()
    rest.upload(session, "kept.txt", b"kept")
    rest.run(session, "echo made > made.txt")
    found = rest.get(f"/sessions/{session}").json
    slow = {}
    body = {"code": "sleep 300", "language": "shell", "timeout": 600}
    waiting = threading.Thread(target=lambda: slow.update(rest.run(session, **body)))
    waiting.start()
    eventually(lambda: any(e["status"] == "running" for e in rest.get(f"/executions/sessions/{session}/executions").json["items"]))
    machine.kubectl("-n", "sandbox-runtime", "delete", "pod", found["pod_name"], "--grace-period=0", "--force")
    waiting.join(timeout=30)
    assert slow.get("status") == "crashed" and session in slow["error_message"], slow
    eventually(lambda: rest.get(f"/sessions/{session}").json["pod_name"] != found["pod_name"], timeout=60)
    assert rest.run(session, "cat kept.txt made.txt")["stdout"] == "keptmade\n"
    rest.delete(f"/sessions/{session}")


def test_what_was_acknowledged_survives_a_kill(own_machine):
    first = own_machine("--missing-images", "host", "--gateway", "127.0.0.1:0")
    rest = Rest(first.gateway)
    session = rest.session()
    done = rest.run(session, "echo kept > file.txt; echo out")
    first.kill()
    second = own_machine("--missing-images", "host", "--gateway", "127.0.0.1:0")
    rest = Rest(second.gateway)
    assert rest.get(f"/executions/{done['id']}/result").json["stdout"] == "out\n"
    rest.until_running(session)
    eventually(lambda: rest.post(f"/executions/sessions/{session}/execute-sync", {"code": "cat file.txt", "language": "shell"}).json.get("stdout") == "kept\n", timeout=60, every=1)
