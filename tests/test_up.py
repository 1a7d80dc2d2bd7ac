"""Starting, stopping and being killed."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from arl import Namespace, command, pool
from conftest import SANDLOT, Machine, eventually


def test_what_is_stored_survives_a_stop_and_a_kill(own_machine):
    first = own_machine()
    first.kubectl("create", "configmap", "kept", "--from-literal=k=v")
    assert first.stop() == 0
    second = own_machine()
    second.kubectl("create", "configmap", "killed", "--from-literal=k=v")
    second.kill()
    third = own_machine()
    assert {"kept", "killed"} <= {item["metadata"]["name"] for item in third.get("cm")["items"]}


def test_a_second_start_on_the_same_folder_is_refused_in_words(own_machine, tmp_path):
    first = own_machine()
    second = subprocess.run([SANDLOT, "up", "--data-dir", str(first.folder / "data"), "--listen", "127.0.0.1:0"],
                            capture_output=True, text=True, timeout=30)
    assert second.returncode != 0
    assert str(first.folder / "data") in second.stderr and "in use" in second.stderr


def test_the_certificates_are_made_once(own_machine):
    first = own_machine()
    before = first.kubectl("config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}").stdout
    first.stop()
    second = own_machine()
    after = second.kubectl("config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}").stdout
    assert before and before == after


def test_it_says_what_runs_where(own_machine):
    machine = own_machine()
    for word in ["https://127.0.0.1:", "kubeconfig", "kubectl"]:
        assert word in machine.output()


def busy(name: str) -> str:
    """A pod that takes its whole grace, and would take longer."""
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 25, "containers": [{"name": "c", "image": "host", "command": [
            "sh", "-c", "trap 'echo not yet' TERM; echo set; while :; do sleep 0.1; done"]}]}})


def test_a_second_interrupt_ends_pods_that_take_their_time(own_machine):
    machine = own_machine()
    machine.kubectl("create", "-f", "-", stdin=busy("busy"))
    eventually(lambda: "set" in machine.kubectl("logs", "busy", check=False).stdout, timeout=60)
    machine.process.send_signal(signal.SIGINT)
    eventually(lambda: "Ctrl-C again" in machine.output(), timeout=30)
    # It does wait, unless it is told not to.
    with pytest.raises(subprocess.TimeoutExpired):
        machine.process.wait(timeout=2)
    begun = time.monotonic()
    machine.process.send_signal(signal.SIGINT)
    assert machine.process.wait(timeout=60) == 0
    assert time.monotonic() - begun < 20, "it took the pod's whole grace"
    assert "stopped at once" in machine.output()
    again = own_machine()
    eventually(lambda: again.get("pod", "busy")["status"]["containerStatuses"][0]["restartCount"] == 1, timeout=60)
    again.kubectl("delete", "pod", "busy", "--force", "--grace-period=0")
    again.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="OCI runtimes need root here")
@pytest.mark.skipif(shutil.which("runc") is None, reason="runc is not on this machine")
def test_a_machine_may_leave_containers_to_a_runtime(own_machine):
    machine = own_machine("--runtime", "runc")
    machine.kubectl("create", "-f", "-", stdin=busy("busy"))
    machine.kubectl("wait", "--for=condition=Ready", "pod/busy", "--timeout=60s")
    assert machine.kubectl("exec", "busy", "--", "sh", "-c", "echo hello").stdout == "hello\n"
    assert {"sandlot", "runc"} <= {item["metadata"]["name"] for item in machine.get("runtimeclass")["items"]}
    assert list((machine.folder / "data" / "node" / "sandboxes").glob("*/c.0/bundle/config.json"))
    machine.kubectl("delete", "pod", "busy", "--force", "--grace-period=0")
    machine.stop()


def test_a_runtime_that_is_not_here_is_refused_in_words(tmp_path):
    for name in ["no-such-runtime", "/no/such/runtime"]:
        up = subprocess.run([SANDLOT, "up", "--data-dir", str(tmp_path / "data"), "--runtime", name],
                            capture_output=True, text=True, timeout=30)
        assert up.returncode != 0 and name in up.stderr
        assert not (tmp_path / "data").exists(), "it began all the same"


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is a mount")
def test_a_full_disk_refuses_writes_and_the_controllers_start_over_when_there_is_room(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m,mode=700", "tmpfs", str(data)], check=True)
    machine = Machine(tmp_path, "--missing-images", "host")
    try:
        space = Namespace(machine, "full")
        space.apply(pool("warm"))
        space.ready("before", "warm")
        with open(data / "filler", "wb") as filler:
            while True:
                try:
                    os.write(filler.fileno(), bytes(1 << 20))
                except OSError:
                    break

        def refusal():
            name = f"large-{time.monotonic_ns()}"
            made = machine.kubectl("create", "configmap", name, f"--from-literal=k={'x' * 100_000}", check=False)
            return made.stderr if made.returncode else None
        refused = eventually(refusal)
        assert "could not be stored" in refused and "full" in refused, refused
        eventually(lambda: "they start over" in machine.output())
        os.unlink(data / "filler")
        eventually(lambda: machine.kubectl("create", "configmap", "small", "--from-literal=k=v", check=False).returncode == 0)
        assert space.get("sandbox", "before")["status"]["phase"] == "Ready"
        space.ready("after", "warm")
        assert space.run("works", "after", command("true"))["state"] == "Succeeded"
    finally:
        machine.stop()
        subprocess.run(["umount", "-l", str(data)], check=False)
