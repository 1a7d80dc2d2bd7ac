"""What a real robot fetches, installs, prints and is told, as a user sees it."""

import contextlib
import hashlib
import http.server
import io
import json
import re
import subprocess
import tarfile
import threading
import urllib.request

import pytest
from conftest import eventually
from stores import KEY, SECRET, Store
from test_robots import broker_port, phase
from test_robots_agent import agent

GROUP = "robot.k8s4r.io/v1alpha1"


@pytest.fixture
def working(own_machine, tmp_path):
    """A cluster with one robot that may be told commands; the robot's folder, and where logs are read."""
    up = own_machine("--ephemeral", "--missing-images", "host", "--mqtt-listen", "127.0.0.1:0")
    pages = re.findall(r"their logs  (http://\S+)/TASK", up.output())[-1]
    with agent(tmp_path / "robot", "arm-1", f"tcp://127.0.0.1:{broker_port(up)}", "--allow-commands") as folder:
        eventually(lambda: phase(up, "arm-1") == "Online", timeout=120)
        yield up, folder, pages


@contextlib.contextmanager
def website(files: dict[str, bytes], breaks: tuple[str, ...] = ()):
    """A web server that can go on where it broke off, as it does in the middle of some files; what it was asked."""
    asked: list[tuple[str, str | None]] = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            asked.append((self.path, wanted))
            whole = files.get(self.path)
            if whole is None:
                return self.send_error(404)
            if self.path in breaks and len(asked) == 1:
                return self.send_error(503)
            rest = whole[int(wanted[6:-1]) if wanted else 0:]
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[:len(whole) // 3 + 1] if self.path in breaks else rest)
            self.close_connection = True

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()


def begin(up, name: str, script: str, **more):
    config = {"execConfig": {"command": "/bin/sh", "args": ["-c", script]}}
    task = {"name": "run", "driver": "raw_exec", "config": config, **more}
    job = {"apiVersion": GROUP, "kind": "Job", "metadata": {"name": name},
           "spec": {"name": name, "type": "batch", "taskGroups": [{"name": "main", "count": 1, "tasks": [task]}]}}
    up.kubectl("apply", "-f", "-", stdin=json.dumps(job))


def task_of(up, name: str) -> dict:
    found = up.kubectl("get", "rtask", f"{name}-main-r0-run", "-o", "json", check=False)
    return json.loads(found.stdout).get("status", {}) if found.returncode == 0 else {}


def ended(up, name: str) -> dict:
    over = lambda: task_of(up, name).get("state") in ("completed", "failed", "cancelled", "rejected")  # noqa: E731
    eventually(over, timeout=120)
    return task_of(up, name)


def test_what_a_task_prints_can_be_read_from_its_end_and_followed(working):
    up, folder, pages = working
    begin(up, "chat", "echo first; echo aside >&2; until test -e go; do sleep 0.1; done; echo last")
    eventually(lambda: task_of(up, "chat").get("state") == "running", timeout=120)
    page = f"{pages}/chat-main-r0-run"
    read = lambda query: urllib.request.urlopen(f"{page}{query}", timeout=120).read().decode()  # noqa: E731
    eventually(lambda: read("") == "first\n", timeout=120)
    assert read("?tail=4") == "rst\n" and read("?stream=stderr") == "aside\n"
    with urllib.request.urlopen(f"{page}?follow=true", timeout=120) as following:
        assert following.readline() == b"first\n"
        for home in folder.glob("tasks/*"):
            (home / "go").touch()
        assert following.read() == b"last\n", "it ends when the task does"
    assert ended(up, "chat")["state"] == "completed"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{pages}/nobody", timeout=120)


def test_logs_are_rotated_and_their_end_stands_in_the_status(working):
    up, folder, _ = working
    begin(up, "flood", "seq 1 6000000; echo the end; echo oops >&2; exit 3")
    status = ended(up, "flood")
    assert (status["state"], status["exitCode"]) == ("failed", 3)
    assert status["logsStdout"].endswith("6000000\nthe end\n") and status["logsStderr"] == "oops\n"
    assert "the end" in status["logs"] and "oops" in status["logs"] and len(status["logs"]) <= 10 * 1024
    kept = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert kept < 24 << 20, "47 MB were printed, and not all of it is kept"


def test_a_download_that_breaks_off_goes_on_where_it_was(working):
    up, _, _ = working
    data = bytes(range(256)) * 4096
    checksum = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with website({"/map.bin": data}, breaks=("/map.bin",)) as (url, asked):
        artifact = {"getterSource": f"{url}/map.bin", "relativeDest": "in", "getterOptions": {"checksum": checksum}}
        begin(up, "fetch", "wc -c < in/map.bin", artifacts=[artifact])
        status = ended(up, "fetch")
    assert status["state"] == "completed" and status["logsStdout"].strip() == str(len(data)), status
    third = len(data) // 3 + 1
    assert asked == [("/map.bin", None), ("/map.bin", None), ("/map.bin", f"bytes={third}-"), ("/map.bin", f"bytes={2 * third}-")]
    with website({"/map.bin": data[:-1]}) as (url, _):
        begin(up, "forged", "true", artifacts=[{**artifact, "getterSource": f"{url}/map.bin"}])
        status = ended(up, "forged")
    assert status["state"] == "failed" and "its SHA-256 is" in status["message"], status


def test_artifacts_come_from_a_bucket(own_machine, tmp_path, monkeypatch):
    store = Store(tmp_path / "s3")
    try:
        (store.folder / "maps").mkdir()
        (store.folder / "maps" / "hall.txt").write_text("the hall\n")
        for name, value in {"AWS_ENDPOINT": f"http://127.0.0.1:{store.port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
                            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}.items():
            monkeypatch.setenv(name, value)
        up = own_machine("--ephemeral", "--missing-images", "host", "--mqtt-listen", "127.0.0.1:0")
        with agent(tmp_path / "robot", "arm-1", f"tcp://127.0.0.1:{broker_port(up)}"):
            begin(up, "hall", "cat hall.txt", artifacts=[{"getterSource": "s3://maps/hall.txt"}])
            assert ended(up, "hall").get("logsStdout") == "the hall\n"
    finally:
        store.stop()


def package(version: str, health: str) -> bytes:
    """An archive with a program, and what says whether it works."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in {"app": f"echo {version}\n", "health": f"{health}\n"}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o755
            tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def test_a_version_is_switched_at_once_and_back_when_it_is_not_healthy(working):
    up, folder, _ = working
    apps = folder / "apps" / "app"
    files = {"/one.tar.gz": package("one", "exit 0"), "/two.tar.gz": package("two", "exit 0"),
             "/bad.tar.gz": package("bad", "echo no arm here >&2; exit 1")}

    with website(files) as (url, asked):
        def install(version: str, file: str | None = None, **update) -> subprocess.CompletedProcess:
            file = f"/{file or version}.tar.gz"
            checksum = f"sha256:{hashlib.sha256(files[file]).hexdigest()}"
            spec = {"version": version, "artifacts": [{"getterSource": f"{url}{file}", "getterOptions": {"checksum": checksum}}],
                    "healthCheck": {"command": "/bin/sh", "args": ["health"]}, "update": update or None}
            manifest = {"apiVersion": GROUP, "kind": "RobotDeployment", "metadata": {"name": "app"}, "spec": spec}
            return up.kubectl("apply", "-f", "-", stdin=json.dumps(manifest), check=False)

        def stands(state: str, version: str) -> bool:
            status = up.get("rdeploy", "app").get("status", {})
            robots = [(robot["version"], robot["state"]) for robot in status.get("robots", [])]
            return status.get("rollout", {}).get("state") == state and robots == [(version, "Healthy")]

        runs = lambda: (apps / "current" / "app").read_text().split()[1]  # noqa: E731
        assert install("one").returncode == 0
        eventually(lambda: stands("Completed", "one"), timeout=120)
        assert runs() == "one"
        assert install("two").returncode == 0
        eventually(lambda: stands("Completed", "two"), timeout=120)
        assert runs() == "two"
        assert len([home for home in apps.iterdir() if home.is_dir() and not home.is_symlink()]) == 2, "this one and the one before"
        refused = install("two", "one")
        assert refused.returncode != 0 and "spec.version" in refused.stderr
        before = len(asked)
        assert install("bad", autoRevert=True).returncode == 0
        eventually(lambda: stands("Reverted", "two"), timeout=120)
        assert runs() == "two"
        assert [path for path, _ in asked[before:]] == ["/bad.tar.gz"], "what is there is not fetched again"
    said = up.kubectl("get", "robot", "arm-1", "-o", "jsonpath={.status.deployments[0].activeVersion}").stdout
    assert said == "two"


def command(up, name: str, verb: str, **more) -> dict:
    manifest = {"apiVersion": GROUP, "kind": "Command", "metadata": {"name": name}, "spec": {"verb": verb, "robots": ["arm-1"], **more}}
    up.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    over = ("Succeeded", "Failed", "Expired", "Cancelled", "TimedOut", "PartiallyFailed")
    eventually(lambda: up.get("rcmd", name).get("status", {}).get("state") in over, timeout=120)
    return up.get("rcmd", name)["status"]


def test_a_command_is_carried_out_once_and_only_where_that_is_allowed(own_machine, tmp_path):
    up = own_machine("--ephemeral", "--missing-images", "host", "--mqtt-listen", "127.0.0.1:0")
    url, done = f"tcp://127.0.0.1:{broker_port(up)}", tmp_path / "done"
    with agent(tmp_path / "robot", "arm-1", url, "--allow-commands"):
        eventually(lambda: phase(up, "arm-1") == "Online", timeout=120)
        status = command(up, "once", "exec", args=["/bin/sh", "-c", f"echo done >> {done}; echo said"], deadline="60s")
        assert status["state"] == "Succeeded" and status["results"][0]["output"] == "said\n", status
    with agent(tmp_path / "robot", "arm-1", url):
        # Started again it does nothing twice; and one that may carry nothing out says so.
        eventually(lambda: phase(up, "arm-1") == "Online", timeout=120)
        refused = command(up, "refused", "exec", args=["/bin/sh", "-c", f"echo again >> {done}"], deadline="60s")
        assert refused["state"] == "Failed", refused
    assert done.read_text() == "done\n"


def test_a_credential_is_rotated_and_revoked(working):
    up, _, _ = working
    credential = lambda: up.get("robot", "arm-1")["status"]["credential"]  # noqa: E731
    before = credential()
    wish = lambda **wish: up.kubectl("patch", "robot", "arm-1", "--type", "merge", "-p", json.dumps({"spec": {"credential": wish}}))  # noqa: E731
    wish(revision=2)
    eventually(lambda: credential().get("revision") == 2, timeout=120)
    assert credential()["sha256"] != before["sha256"] and phase(up, "arm-1") == "Online"
    begin(up, "after", "true")
    assert ended(up, "after")["state"] == "completed"
    wish(revoked=True)
    reason = lambda: [one["reason"] for one in up.get("robot", "arm-1")["status"]["conditions"] if one["type"] == "Schedulable"]  # noqa: E731
    eventually(lambda: reason() == ["Revoked"] and phase(up, "arm-1") == "Offline", timeout=120)
    wish(revoked=None, renew=True)
    eventually(lambda: phase(up, "arm-1") == "Online", timeout=300)
