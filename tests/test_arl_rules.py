"""What kubectl is told when a manifest is wrong: the field, and how to put it right."""

import pytest
from arl import Namespace, command, file, pool, sandbox, shell, task


@pytest.fixture(scope="module")
def place(machine):
    place = Namespace(machine, "arl-rules")
    yield place
    machine.kubectl("delete", "namespace", "arl-rules", "--wait=false", check=False)


def without(thing: dict, *path) -> dict:
    inner = thing
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return thing


WRONG = [
    ("fewer than none", pool("p", replicas=-1), "spec.replicas"),
    ("no template", without(pool("p"), "spec", "template"), "spec.template"),
    ("no container", {**pool("p"), "spec": {"replicas": 1, "template": {"spec": {"containers": []}}}},
     "spec.template.spec.containers"),
    ("a dotted name", pool("a.b"), "name"),
    ("an unknown recycling", pool("p", recycle="Wash"), "spec.recycle"),
    ("no pool", sandbox("s", ""), "spec.poolRef"),
    ("a pool's name that is none", sandbox("s", "No Such"), "spec.poolRef"),
    ("a negative time", sandbox("s", "p", ttlSecondsAfterFinished=-1), "spec.ttlSecondsAfterFinished"),
    ("no sandbox", task("t", "", command("true")), "spec.sandboxRef"),
    ("no steps", task("t", "s"), "spec.steps"),
    ("an unknown type", task("t", "s", {"name": "a", "type": "Dance"}), "spec.steps[0].type"),
    ("no command", task("t", "s", {"name": "a", "type": "Command"}), "spec.steps[0].command"),
    ("no path", task("t", "s", {"name": "a", "type": "FilePatch", "content": "x"}), "spec.steps[0].path"),
    ("no content", task("t", "s", {"name": "a", "type": "FilePatch", "path": "x"}), "spec.steps[0].content"),
    ("content and patch", task("t", "s", file("x", "y", patch="z")), "spec.steps[0].patch"),
    ("a field of the other type", task("t", "s", command("true", content="x")), "spec.steps[0].content"),
    ("no variable's name", task("t", "s", command("true", env={"A=B": "c"})), "spec.steps[0].env"),
    ("a zero byte", task("t", "s", command("echo", "a\0b")), "spec.steps[0].command"),
    ("a time without unit", task("t", "s", command("true"), timeout="30"), "spec.timeout"),
    ("no time at all", task("t", "s", command("true", timeout="0s")), "spec.steps[0].timeout"),
    ("too many retries", task("t", "s", command("true"), retries=11), "spec.retries"),
    ("a step without a name", task("t", "s", command("true", name="")), "spec.steps[0].name"),
]


@pytest.mark.parametrize("wrong, field", [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_manifest_is_refused_by_field(place, wrong, field):
    refused = place.apply(wrong, check=False)
    assert refused.returncode != 0 and field in refused.stderr, refused.stderr


def test_all_faults_are_told_at_once(place):
    refused = place.apply(task("t", "No Such", {"name": "a", "type": "Command"}, timeout="0s"), check=False).stderr
    for field in ("spec.sandboxRef", "spec.steps[0].command", "spec.timeout"):
        assert field in refused, refused


def test_what_is_left_out_is_filled_in(place):
    place.apply(task("defaults", "nobody", command("true")))
    assert place.get("task", "defaults")["spec"]["timeout"] == "30s"


def test_a_started_task_cannot_be_changed_but_its_removal_can(place):
    place.apply(pool("p"))
    place.ready("s", "p")
    place.apply(task("started", "s", shell("sleep 600"), timeout="1h"))
    place.until("task/started", ".status.state", "Running")
    refused = place.apply(task("started", "s", shell("sleep 1"), timeout="1h"), check=False)
    assert refused.returncode != 0 and "has started" in refused.stderr
    place.apply(task("started", "s", shell("sleep 600"), timeout="1h", ttlSecondsAfterFinished=60))
    place.kubectl("delete", "task", "started")


def test_a_sandbox_with_a_pod_cannot_move_to_another_pool(place):
    place.apply(pool("q"))
    place.ready("settled", "q")
    refused = place.apply(sandbox("settled", "p"), check=False)
    assert refused.returncode != 0 and "spec.poolRef" in refused.stderr


def test_an_odd_but_allowed_manifest_is_warned_about(place):
    warned = place.apply(pool("stopped", replicas=0))
    assert "spec.replicas is 0" in warned.stderr
    warned = place.apply(sandbox("two-names", "p", ttlSecondsAfterFinished=60, idleTimeoutSeconds=90))
    assert "mean the same" in warned.stderr
