"""Pools of the OpenSandbox controller: how pods come back, which pool is chosen, what is said when nothing is left."""

import json

from conftest import eventually

GROUP = "sandbox.opensandbox.io"
# Ends when it is asked to, as programs do that can be restarted.
RESTS = "echo made >> /data/starts; trap 'exit 0' TERM; while :; do sleep 0.1; done"


def template(command=("sleep", "infinity"), image="host", **spec):
    return {"spec": {"terminationGracePeriodSeconds": 1, **spec, "containers": [
        {"name": "sandbox", "image": image, "imagePullPolicy": "IfNotPresent", "command": list(command),
         **({"volumeMounts": [{"name": "data", "mountPath": "/data"}]} if "volumes" in spec else {})}]}}


def apply(machine, namespace, kind: str, name: str, spec, **metadata):
    thing = {"apiVersion": f"{GROUP}/v1alpha1", "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}
    machine.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(thing))


def pool(machine, namespace, name="pool", most=1, **spec):
    annotations = spec.pop("annotations", {})
    labels = spec.pop("labels", {})
    capacity = {"bufferMin": most, "bufferMax": most, "poolMin": most, "poolMax": most}
    apply(machine, namespace, "Pool", name, {"capacitySpec": capacity, "template": template(), **spec},
          annotations=annotations, labels=labels)


def until_available(machine, namespace, name="pool", count=1):
    status = lambda: machine.get("-n", namespace, "pool", name).get("status", {})
    eventually(lambda: status().get("available") == count, timeout=60)


def delivered(machine, namespace, name) -> str:
    """The pod that a batch of one sandbox was given."""
    machine.kubectl("-n", namespace, "wait", "--for=jsonpath={.status.phase}=Succeed", f"batchsandbox/{name}",
                    "--timeout=60s", timeout=90)
    given = machine.get("-n", namespace, "batchsandbox", name)["metadata"]["annotations"][f"{GROUP}/alloc-status"]
    return json.loads(given)["pods"][0]


def condition(machine, namespace, name):
    status = machine.get("-n", namespace, "batchsandbox", name).get("status", {})
    return next(iter(status.get("conditions", [])), {})


def test_a_restarted_pod_is_given_again_with_its_volumes_and_without_anything_else(machine, namespace):
    config = {"restartCommand": ["sh", "-c", "kill -TERM 1"], "retryInterval": "5s"}
    pool(machine, namespace, annotations={f"{GROUP}/restart-config": json.dumps(config)},
         recycleStrategy={"type": "Restart"},
         template=template(("sh", "-c", RESTS), volumes=[{"name": "data", "emptyDir": {}}]))
    until_available(machine, namespace)
    apply(machine, namespace, "BatchSandbox", "first", {"replicas": 1, "poolRef": "pool"})
    pod = delivered(machine, namespace, "first")
    run = lambda script: machine.kubectl("-n", namespace, "exec", pod, "--", "sh", "-c", script, check=False).stdout
    run("echo secret > /tmp/secret; (trap '' TERM; sleep 4242) >/dev/null 2>&1 & true")
    before = machine.get("-n", namespace, "pod", pod)["status"]["containerStatuses"][0]
    machine.kubectl("-n", namespace, "delete", "batchsandbox", "first", "--timeout=90s", timeout=120)
    until_available(machine, namespace)
    apply(machine, namespace, "BatchSandbox", "second", {"replicas": 1, "poolRef": "pool"})
    assert delivered(machine, namespace, "second") == pod
    after = machine.get("-n", namespace, "pod", pod)["status"]["containerStatuses"][0]
    assert after["containerID"] != before["containerID"] and after["restartCount"] == before["restartCount"] + 1
    assert run("ls /tmp/secret; cat /data/starts; ps -e -o args || true").split("\n")[:2] == ["made", "made"]
    assert "sleep 4242" not in run("cat /proc/*/cmdline | tr '\\0' ' '").replace("tr ", "")
    machine.kubectl("-n", namespace, "delete", "batchsandbox", "second", "--timeout=90s", timeout=120)


def test_a_pod_that_does_not_restart_is_replaced(machine, namespace):
    config = {"restartCommand": ["true"], "retryInterval": "200ms", "maxRetries": 2}
    pool(machine, namespace, annotations={f"{GROUP}/restart-config": json.dumps(config)},
         recycleStrategy={"type": "Restart"})
    until_available(machine, namespace)
    apply(machine, namespace, "BatchSandbox", "only", {"replicas": 1, "poolRef": "pool"})
    pod = delivered(machine, namespace, "only")
    machine.kubectl("-n", namespace, "delete", "batchsandbox", "only", "--timeout=90s", timeout=120)
    until_available(machine, namespace)
    pods = lambda: [one["metadata"]["name"] for one in machine.get("-n", namespace, "pods")["items"]]
    eventually(lambda: pods() and pod not in pods())


def test_a_batch_that_leaves_the_choice_gets_the_pool_that_suits(machine, namespace):
    pool(machine, namespace, "plain", labels={"zone": "a"})
    pool(machine, namespace, "asked", labels={"zone": "b"})
    for name in ["plain", "asked"]:
        until_available(machine, namespace, name)
    apply(machine, namespace, "BatchSandbox", "any",
          {"replicas": 1, "poolRef": "*", "template": template(nodeSelector={"zone": "b"})})
    assert delivered(machine, namespace, "any").startswith("asked-")
    assert machine.get("-n", namespace, "batchsandbox", "any")["spec"]["poolRef"] == "asked"
    apply(machine, namespace, "BatchSandbox", "none",
          {"replicas": 1, "poolRef": "*", "template": template(nodeSelector={"zone": "c"})})
    eventually(lambda: condition(machine, namespace, "none").get("reason") == "NoPoolSuits", timeout=10)
    assert "zone=c" in condition(machine, namespace, "none")["message"]


def test_the_cause_is_said_while_it_lasts_and_taken_back_when_it_is_over(machine, namespace):
    missing = template(image="registry.invalid/nobody:1")
    missing["spec"]["containers"][0]["imagePullPolicy"] = "Never"
    # The machine of these tests replaces missing images; what it cannot read it does not.
    missing["spec"]["containers"][0]["image"] = "Not A Name"
    causes = {
        "image": (missing, "ImagePullFailed"),
        "crash": (template(("sh", "-c", "exit 3")), "CrashLoop"),
        "config": (template(("/no/such/program",)), None),
    }
    for name, (shape, _) in causes.items():
        apply(machine, namespace, "BatchSandbox", name, {"replicas": 1, "template": shape})
    for name, (_, reason) in causes.items():
        eventually(lambda: condition(machine, namespace, name).get("type") == "PodFailed", timeout=60)
        said = condition(machine, namespace, name)
        assert reason is None or said["reason"] == reason, said
        assert f"sample pod={name}-0" in said["message"]
        assert machine.get("-n", namespace, "batchsandbox", name)["status"]["phase"] == "Failed"
        assert said["reason"] in machine.kubectl("-n", namespace, "describe", "batchsandbox", name).stdout
    # What waits for a pool that is yet to come is served by it.
    apply(machine, namespace, "BatchSandbox", "early", {"replicas": 1, "poolRef": "late"})
    eventually(lambda: condition(machine, namespace, "early").get("reason") == "PoolNotFound", timeout=10)
    pool(machine, namespace, "late")
    assert delivered(machine, namespace, "early").startswith("late-")
    assert condition(machine, namespace, "early")["reason"] == "PodsReady"
