"""`sandlot up` is stopped and killed; its pods make sense all the same."""

import json
import os
import time

import pytest

from conftest import eventually


def pod(name, script, **spec):
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 20, **spec,
        "containers": [{"name": "c", "image": "host", "command": ["sh", "-c", script]}]}})


def create(machine, *manifests):
    for manifest in manifests:
        machine.kubectl("create", "-f", "-", stdin=manifest)


def ready(machine, name):
    machine.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s", timeout=90)


def status(machine, name):
    """The status of a pod's only container."""
    return machine.get("pod", name)["status"]["containerStatuses"][0]


def of_this_machine(folder):
    """Processes that see mounts of this folder: keepers and their containers."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/mountinfo") as mounts:
                if str(folder) in mounts.read():
                    found.append(int(number))
        except OSError:
            pass
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="without root the pods' network goes with the node, and they with it")
def test_pods_go_on_when_sandlot_is_killed_and_what_ended_meanwhile_is_told(own_machine):
    first = own_machine()
    create(first, pod("stays", "echo before; while :; do sleep 0.1; done"),
           pod("ends", "while ! test -e /tmp/end; do sleep 0.1; done; echo last words; exit 9", restartPolicy="Never"),
           pod("again", "while ! test -e /tmp/end; do sleep 0.1; done; exit 4"))
    for name in ["stays", "ends", "again"]:
        ready(first, name)
    before = status(first, "stays")
    for name in ["ends", "again"]:
        # They end a second after this, when nobody looks after them.
        first.kubectl("exec", name, "--", "sh", "-c", "(sleep 1; touch /tmp/end) >/dev/null 2>&1 &")
    first.kill()
    assert of_this_machine(first.folder), "the pods were killed too"
    time.sleep(3)

    second = own_machine()
    ready(second, "stays")
    assert status(second, "stays")["state"] == before["state"]
    assert status(second, "stays")["restartCount"] == 0
    assert second.kubectl("logs", "stays").stdout == "before\n"
    assert second.kubectl("exec", "stays", "--", "echo", "in").stdout == "in\n"
    eventually(lambda: second.get("pod", "ends")["status"]["phase"] == "Failed", timeout=60)
    assert status(second, "ends")["state"]["terminated"]["exitCode"] == 9
    assert second.kubectl("logs", "ends").stdout == "last words\n"
    eventually(lambda: status(second, "again")["restartCount"] == 1, timeout=60)
    assert status(second, "again")["lastState"]["terminated"]["exitCode"] == 4
    second.kubectl("delete", "pod", "--all", "--grace-period=0", "--force", timeout=90)
    assert second.stop() == 0
    assert of_this_machine(second.folder) == []


def test_a_stop_gives_pods_their_grace_and_leaves_nothing_running(own_machine):
    machine = own_machine()
    create(machine, pod("saves", "trap 'sleep 1; echo saved; exit 7' TERM; echo set; while :; do sleep 0.1; done"),
           pod("done", "echo done", restartPolicy="Never"))
    ready(machine, "saves")
    eventually(lambda: "set" in machine.kubectl("logs", "saves").stdout)
    eventually(lambda: machine.get("pod", "done")["status"]["phase"] == "Succeeded", timeout=60)
    assert machine.stop() == 0
    assert of_this_machine(machine.folder) == []
    assert "cannot" not in machine.output(), machine.output()

    again = own_machine()
    ready(again, "saves")
    assert status(again, "saves")["lastState"]["terminated"]["exitCode"] == 7
    assert "saved" in again.kubectl("logs", "saves", "--previous").stdout
    assert again.get("pod", "done")["status"]["phase"] == "Succeeded"
    assert again.kubectl("logs", "done").stdout == "done\n"
    again.kubectl("delete", "pod", "--all", "--grace-period=0", "--force", timeout=90)
    assert again.stop() == 0


def test_killed_in_the_middle_of_everything_the_next_start_cleans_up(own_machine):
    """Pods are made and deleted while it is killed, again and again."""
    machine = own_machine()
    for turn in range(3):
        create(machine, *(pod(f"p{turn}-{n}", "exec sleep 1000") for n in range(5)))
        if turn:
            machine.kubectl("delete", "pod", *(f"p{turn - 1}-{n}" for n in range(5)), "--wait=false", "--grace-period=1")
        time.sleep(0.2 * turn)
        machine.kill()
        machine = own_machine()
    eventually(lambda: all(name.startswith("pod/p2-") for name in machine.kubectl("get", "pods", "-o", "name").stdout.split()),
               timeout=90)
    for n in range(5):
        ready(machine, f"p2-{n}")
    machine.kubectl("delete", "pod", "--all", "--grace-period=0", "--force", timeout=90)
    assert machine.stop() == 0
    assert of_this_machine(machine.folder) == []
