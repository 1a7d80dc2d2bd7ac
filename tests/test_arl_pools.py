"""WarmPools through the real kubectl: kept full, rolled, scaled, deleted, and honest about trouble."""

import time

import pytest
from arl import Namespace, command, condition, file, pool, sandbox, shell
from conftest import eventually


@pytest.fixture
def place(machine, request):
    name = "pool-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[5:55].strip("-")
    place = Namespace(machine, name)
    yield place
    machine.kubectl("delete", "namespace", name, "--wait=false", check=False)


def pods(place, name: str) -> list[dict]:
    found = place.get("pods", "-l", f"arl.infra.io/warmpool={name}")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def names(found: list[dict]) -> set[str]:
    return {pod["metadata"]["name"] for pod in found}


def full(place, name: str) -> dict:
    """The pool once it has as many idle pods as it wants."""
    return place.until(f"warmpool/{name}", ".status.phase", "Ready")


def test_a_pool_keeps_its_idle_pods_whatever_is_taken(place):
    place.apply(pool("p", replicas=2, metadata={"labels": {"team": "a"}, "annotations": {"note": "kept"}}))
    full(place, "p")
    for name in ("one", "two", "three"):
        place.ready(name, "p")
    wanted = {"ready": 2, "readyReplicas": 2, "allocated": 3, "allocatedReplicas": 3, "total": 5}
    eventually(lambda: wanted.items() <= place.get("warmpool", "p")["status"].items())
    for pod in pods(place, "p"):
        labels = pod["metadata"]["labels"]
        taken = "arl.infra.io/sandbox" in labels
        assert labels["arl.infra.io/pod-state"] == ("allocated" if taken else "ready")
        assert labels["arl.infra.io/status"] == ("allocated" if taken else "idle")
        assert labels["arl.infra.io/warmpool"] == labels["arl.infra.io/pool"] == "p"
        assert labels["team"] == "a" and pod["metadata"]["annotations"]["note"] == "kept"
    head, row = place.kubectl("get", "wp").stdout.splitlines()
    assert head.split() == ["NAME", "DESIRED", "READY", "ALLOCATED", "PHASE", "AGE"]
    assert row.split()[:5] == ["p", "2", "2", "3", "Ready"]


def test_a_deleted_idle_pod_is_replaced(place):
    place.apply(pool("p", replicas=2))
    full(place, "p")
    lost = pods(place, "p")[0]["metadata"]["name"]
    place.kubectl("delete", "pod", lost)
    eventually(lambda: len(left := names(pods(place, "p"))) == 2 and lost not in left)


def test_a_pod_that_crashes_is_named_in_condition_and_event(place):
    place.apply(pool("p", command=["sh", "-c", "echo broken >&2; exit 3"]))
    def failing():
        found = condition(place.get("warmpool", "p"), "PodsFailing")
        return found if found.get("status") == "True" else None
    found = eventually(failing)
    assert found["reason"] in ("CrashLoop", "PodEnded") and "3" in found["message"], found
    assert found["observedGeneration"] == 1
    eventually(lambda: {"CrashLoop", "PodEnded"} & place.events("p"))
    assert place.get("warmpool", "p")["status"]["phase"] == "Pending"


def test_an_image_that_cannot_be_had_is_named(own_machine):
    machine = own_machine()
    place = Namespace(machine, "images")
    place.apply(pool("p", image="localhost:1/no/such:tag"))
    def failing():
        found = condition(place.get("warmpool", "p"), "PodsFailing")
        return found if found.get("status") == "True" else None
    found = eventually(failing)
    assert found["reason"] == "ImagePullFailed" and "executor" in found["message"], found
    eventually(lambda: "ImagePullFailed" in place.events("p"))


def test_a_new_template_reaches_idle_pods_and_leaves_taken_ones(place):
    place.apply(pool("p", replicas=3))
    full(place, "p")
    held = place.ready("s", "p")["status"]["podName"]
    old = names(pods(place, "p"))
    place.apply(pool("p", replicas=3, metadata={"labels": {"version": "two"}}))
    def renewed():
        found = pods(place, "p")
        idle = [pod for pod in found if "arl.infra.io/sandbox" not in pod["metadata"]["labels"]]
        return len(idle) == 3 and all(pod["metadata"]["labels"].get("version") == "two" for pod in idle)
    eventually(renewed)
    assert names(pods(place, "p")) & old == {held}
    assert place.run("t", "s", command("echo", "still here"))["stdout"] == "still here\n"


def test_scaling_down_takes_the_youngest_idle_pods_and_none_in_use(place):
    place.apply(pool("p", replicas=2))
    full(place, "p")
    oldest = names(pods(place, "p"))
    place.kubectl("scale", "warmpool/p", "--replicas=4")
    eventually(lambda: place.get("warmpool", "p")["status"].get("ready") == 4)
    place.kubectl("scale", "warmpool/p", "--replicas=2")
    eventually(lambda: names(pods(place, "p")) == oldest)
    held = place.ready("s", "p")["status"]["podName"]
    assert held in oldest, "the pod that has been ready longest is given first"
    place.kubectl("scale", "warmpool/p", "--replicas=0")
    eventually(lambda: names(pods(place, "p")) == {held})
    place.apply(sandbox("late", "p"))
    eventually(lambda: condition(place.get("sandbox", "late"), "Ready").get("reason") == "PoolStopped")


def test_a_pool_deleted_under_its_sandboxes_drains(place):
    place.apply(pool("p", replicas=1))
    full(place, "p")
    held = place.ready("s", "p")["status"]["podName"]
    eventually(lambda: place.get("warmpool", "p")["status"].get("allocated") == 1)
    deleted = place.kubectl("delete", "warmpool", "p")
    assert "in use" in deleted.stderr, deleted
    eventually(lambda: names(pods(place, "p")) == {held})
    assert place.run("t", "s", command("echo", "still here"))["stdout"] == "still here\n"
    place.kubectl("delete", "sandbox", "s")
    eventually(lambda: not pods(place, "p"))


def test_a_pod_given_back_is_never_seen_again(place):
    place.apply(pool("p", replicas=1))
    first = place.ready("first", "p")["status"]["podName"]
    place.run("leave", "first", file("secret.txt", "mine"))
    place.kubectl("delete", "sandbox", "first")
    second = place.ready("second", "p")["status"]["podName"]
    assert second != first
    assert place.run("look", "second", command("ls", "/workspace"))["stdout"] == ""
    eventually(lambda: first not in names(place.get("pods")["items"]))


def test_a_pool_that_resets_gives_the_same_pod_out_clean(place):
    place.apply(pool("p", replicas=1, recycle="Reset"))
    first = place.ready("first", "p")["status"]["podName"]
    # The pod that takes its place is not wanted here.
    place.kubectl("scale", "warmpool/p", "--replicas=0")
    eventually(lambda: names(pods(place, "p")) == {first})
    script = ("mkdir -p d/e; echo mine > d/e/secret; ln -s /etc l; echo mine > /tmp/secret;"
              " (setsid sleep 3001 &); echo left")
    assert place.run("leave", "first", shell(script, workDir="/workspace"))["stdout"] == "left\n"
    server = shell("sleep 3002", name="server", background=True)
    place.run("serve", "first", server)
    place.kubectl("scale", "warmpool/p", "--replicas=1")
    place.kubectl("delete", "sandbox", "first")
    def returned():
        pod = [pod for pod in pods(place, "p") if pod["metadata"]["name"] == first]
        return pod and pod[0]["metadata"]["labels"].get("arl.infra.io/status") == "idle" and pod[0]
    pod = eventually(returned)
    assert "no process is left" in pod["metadata"]["annotations"]["arl.infra.io/last-reset"]
    assert "arl.infra.io/last-released" in pod["metadata"]["annotations"]
    eventually(lambda: place.get("warmpool", "p")["status"].get("ready", 0) >= 1)
    second = place.ready("second", "p")["status"]["podName"]
    assert second == first, "it has been ready longest"
    look = shell("ls -A /workspace; ls -A /tmp; grep -lsE 'sleep.300[12]' /proc/[0-9]*/cmdline; true")
    assert place.run("look", "second", look)["stdout"] == ""


@pytest.mark.parametrize("name, trace", [
    ("home", "echo mine > /root/secret"), ("program", "cp /bin/sh /usr/bin/own-tool"),
    ("image", "echo evil >> /etc/bash.bashrc"), ("mode", "chmod 700 /opt"), ("gone", "rm /etc/shells"),
])
def test_a_pod_that_cannot_be_proved_clean_is_deleted(place, name, trace):
    place.apply(pool("p", replicas=1, recycle="Reset"))
    first = place.ready("first", "p")["status"]["podName"]
    place.run("leave", "first", shell(trace))
    place.kubectl("delete", "sandbox", "first")
    place.kubectl("wait", f"pod/{first}", "--for=delete", "--timeout=60s", timeout=70)
    full(place, "p")
    assert first not in names(pods(place, "p"))


def test_a_crashing_pod_is_not_given_out_between_two_crashes(place):
    place.apply(pool("p", command=["sh", "-c", "sleep 0.5; exit 3"]))
    def failing():
        found = condition(place.get("warmpool", "p"), "PodsFailing")
        return found if found.get("status") == "True" else None
    eventually(failing)
    place.apply(sandbox("s", "p"))
    for _ in range(8):
        time.sleep(1)
        waiting = place.get("sandbox", "s")
        assert "podName" not in waiting.get("status", {}), waiting
    eventually(lambda: "its pods fail" in condition(place.get("sandbox", "s"), "Ready").get("message", ""))
