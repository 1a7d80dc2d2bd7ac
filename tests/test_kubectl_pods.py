"""kubectl and what runs in pods: logs, exec, attach, cp, port-forward."""

import json
import os
import socket
import subprocess
import time
import urllib.request

import pytest

from conftest import KUBECTL, eventually

# Says a line now and then, so that whoever attaches sees something.
CHATTER = """
apiVersion: v1
kind: Pod
metadata: {name: chatter, labels: {app: chatter}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: host
    stdin: true
    command: [sh, -c, "while :; do echo still here; sleep 0.2; done"]
"""


@pytest.fixture
def chatter(machine, namespace):
    machine.kubectl("-n", namespace, "apply", "-f", "-", stdin=CHATTER)
    machine.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/chatter", "--timeout=60s", timeout=90)
    return lambda *args, **more: machine.kubectl("-n", namespace, *args, **more)


def background(machine, *args):
    """A kubectl that runs on; what it says comes line by line."""
    return subprocess.Popen([KUBECTL, "--kubeconfig", str(machine.kubeconfig), *args], text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_files_are_copied_there_and_back(chatter, tmp_path):
    there, back = tmp_path / "there.bin", tmp_path / "back.bin"
    there.write_bytes(os.urandom(300_000))
    chatter("cp", str(there), "chatter:/tmp/copied.bin")
    assert chatter("exec", "chatter", "--", "wc", "-c", "/tmp/copied.bin").stdout.split()[0] == "300000"
    chatter("cp", "chatter:/tmp/copied.bin", str(back))
    assert back.read_bytes() == there.read_bytes()


def test_a_command_gets_stdin_and_its_exit_code_comes_back(chatter):
    assert chatter("exec", "-i", "chatter", "--", "cat", stdin="to and fro\n").stdout == "to and fro\n"
    failed = chatter("exec", "chatter", "--", "sh", "-c", "echo oops >&2; exit 7", check=False)
    assert failed.returncode == 7 and "oops" in failed.stderr


def test_attach_shows_what_the_container_says(machine, namespace, chatter):
    attached = background(machine, "-n", namespace, "attach", "chatter")
    try:
        lines = iter(attached.stdout.readline, "")
        assert any("still here" in line for _, line in zip(range(50), lines))
    finally:
        attached.kill()
        attached.wait()


def test_logs_are_followed_and_cut(machine, namespace, chatter):
    eventually(lambda: chatter("logs", "chatter").stdout.count("still here") >= 3)
    assert chatter("logs", "-l", "app=chatter", "--tail=2").stdout == "still here\nstill here\n"
    following = background(machine, "-n", namespace, "logs", "-f", "chatter", "--tail=1")
    try:
        assert [following.stdout.readline() for _ in range(3)] == ["still here\n"] * 3
    finally:
        following.kill()
        following.wait()


def test_a_port_is_forwarded(machine, namespace):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": "host", "workingDir": "/tmp",
                        "command": ["python3", "-m", "http.server", "8000"],
                        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1}}]}}
    machine.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod))
    machine.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/web", "--timeout=60s", timeout=90)
    forward = background(machine, "-n", namespace, "port-forward", "pod/web", ":8000")
    try:
        port = int(forward.stdout.readline().split("127.0.0.1:")[1].split()[0])
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                assert b"Directory listing" in answer.read()
    finally:
        forward.kill()
        forward.wait()


def test_a_deleted_pod_is_awaited_and_gone(machine, namespace, chatter):
    began = time.monotonic()
    chatter("delete", "pod", "chatter", "--timeout=30s")
    assert time.monotonic() - began < 30
    assert "NotFound" in chatter("get", "pod", "chatter", check=False).stderr
