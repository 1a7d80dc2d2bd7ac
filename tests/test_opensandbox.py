"""The OpenSandbox controller's document, its own YAML and tables through the real kubectl."""

import json

from conftest import ROOT, eventually

EXAMPLES = ROOT / "examples/opensandbox"


def table(text: str) -> list[dict[str, str]]:
    """What kubectl prints, by column."""
    lines = text.rstrip().splitlines()
    return [dict(zip(lines[0].split(), line.split())) for line in lines[1:]]


def assert_events(described, reason: str):
    """`kubectl describe` tells it among its events, in the name of the document's controller."""
    told = lambda: described().split("Events:")[1]
    eventually(lambda: any(reason in line and "opensandbox-controller" in line for line in told().splitlines()))


def test_a_basic_batch_is_delivered_with_its_table_and_addresses(machine, namespace):
    kubectl = lambda *args: machine.kubectl("-n", namespace, *args).stdout
    # The document's image serves by itself; without a registry the host's stands in, and sleeps.
    manifest = (EXAMPLES / "basic-batch-sandbox.yaml").read_text()
    manifest = manifest.replace("image: nginx:latest", "image: nginx:latest\n        command: [sleep, infinity]")
    machine.kubectl("-n", namespace, "apply", "-f", "-", stdin=manifest)
    kubectl("wait", "--for=condition=Ready", "batchsandbox/basic-batch-sandbox", "--timeout=60s")
    row = table(kubectl("get", "batchsandbox", "basic-batch-sandbox", "-o", "wide"))[0]
    assert (row["DESIRED"], row["TOTAL"], row["ALLOCATED"], row["READY"]) == ("2", "2", "2", "2")
    header = kubectl("get", "batchsandbox", "basic-batch-sandbox", "-o", "wide").splitlines()[0].split()
    assert header == ["NAME", "DESIRED", "TOTAL", "ALLOCATED", "READY", "TASK_RUNNING", "TASK_SUCCEED",
                      "TASK_FAILED", "TASK_UNKNOWN", "EXPIRE", "AGE"]
    header = kubectl("get", "batchsandboxes").splitlines()[0].split()
    assert header == ["NAME", "DESIRED", "TOTAL", "ALLOCATED", "READY", "EXPIRE", "AGE"]
    addresses = json.loads(kubectl(
        "get", "batchsandbox", "basic-batch-sandbox",
        "-o", r"jsonpath={.metadata.annotations.sandbox\.opensandbox\.io/endpoints}"))
    pods = [machine.get("-n", namespace, "pod", f"basic-batch-sandbox-{i}") for i in range(2)]
    assert addresses == [pod["status"]["podIP"] for pod in pods]
    described = lambda: kubectl("describe", "batchsandbox", "basic-batch-sandbox")
    assert "PodsReady" in described()
    assert_events(described, "SuccessfulCreate")


def test_a_pool_and_a_batch_from_it(machine, namespace):
    kubectl = lambda *args: machine.kubectl("-n", namespace, *args).stdout
    for name in ["pool-example.yaml", "pooled-batch-sandbox.yaml"]:
        manifest = (EXAMPLES / name).read_text()
        manifest = manifest.replace("image: nginx:latest", "image: nginx:latest\n        command: [sleep, infinity]")
        machine.kubectl("-n", namespace, "apply", "-f", "-", stdin=manifest)
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeed", "batchsandbox/pooled-batch-sandbox", "--timeout=60s")
    pool = lambda: table(kubectl("get", "pools"))[0]
    eventually(lambda: int(pool()["AVAILABLE"]) >= 2 and pool()["ALLOCATED"] == "3", timeout=60)
    row = pool()
    assert list(row) == ["NAME", "TOTAL", "ALLOCATED", "AVAILABLE", "UPDATED", "AGE"]
    assert 5 <= int(row["TOTAL"]) <= 20
    kubectl("scale", "batchsandbox/pooled-batch-sandbox", "--replicas=1")
    eventually(lambda: pool()["ALLOCATED"] == "1", timeout=60)
    kubectl("delete", "batchsandbox", "pooled-batch-sandbox", "--timeout=60s")
    eventually(lambda: pool()["ALLOCATED"] == "0", timeout=60)
    assert_events(lambda: kubectl("describe", "pool", "example-pool"), "SuccessfulCreate")


def test_different_tasks_run_in_the_sandbox_containers(machine, namespace):
    kubectl = lambda *args: machine.kubectl("-n", namespace, *args).stdout
    kubectl("apply", "-f", str(EXAMPLES / "task-example-pool.yaml"))
    kubectl("apply", "-f", str(EXAMPLES / "task-batch-sandbox.yaml"))
    kubectl("wait", "--for=jsonpath={.status.taskSucceed}=2", "batchsandbox/task-batch-sandbox", "--timeout=90s")
    row = table(kubectl("get", "batchsandbox", "task-batch-sandbox", "-o", "wide"))[0]
    wanted = {"DESIRED": "2", "TOTAL": "2", "ALLOCATED": "2", "READY": "2", "TASK_RUNNING": "0",
              "TASK_SUCCEED": "2", "TASK_FAILED": "0", "TASK_UNKNOWN": "0"}
    assert {column: row[column] for column in wanted} == wanted
    kubectl("delete", "batchsandbox", "task-batch-sandbox", "--timeout=60s")
    assert "NotFound" in machine.kubectl(
        "-n", namespace, "get", "batchsandbox", "task-batch-sandbox", check=False).stderr


def test_a_task_sees_the_sandbox_containers_files_and_is_stopped_whole(machine, namespace):
    kubectl = lambda *args: machine.kubectl("-n", namespace, *args).stdout
    kubectl("apply", "-f", str(EXAMPLES / "task-example-pool.yaml"))
    mark = "/tmp/left-by-the-task"
    script = f"echo here > {mark}; trap '' TERM; (trap '' TERM; sleep 4321) & wait"
    batch = {
        "apiVersion": "sandbox.opensandbox.io/v1alpha1", "kind": "BatchSandbox", "metadata": {"name": "stubborn"},
        "spec": {"replicas": 1, "poolRef": "task-example-pool",
                 "taskTemplate": {"spec": {"process": {"command": ["/bin/sh", "-c", script]}}}},
    }
    machine.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(batch))
    kubectl("wait", "--for=jsonpath={.status.taskRunning}=1", "batchsandbox/stubborn", "--timeout=90s")
    status = machine.get("-n", namespace, "batchsandbox", "stubborn")["metadata"]["annotations"]
    pod = json.loads(status["sandbox.opensandbox.io/alloc-status"])["pods"][0]
    look = lambda *command: machine.kubectl(
        "-n", namespace, "exec", pod, "-c", "sandbox-container", "--", *command, check=False)
    eventually(lambda: look("cat", mark).stdout.strip() == "here")
    kubectl("delete", "batchsandbox", "stubborn", "--timeout=90s")
    eventually(lambda: look("true").returncode != 0, timeout=60)


def test_an_exhausted_pool_is_said_within_a_second(machine, namespace):
    kubectl = lambda *args: machine.kubectl("-n", namespace, *args).stdout
    kubectl("apply", "-f", str(EXAMPLES / "task-example-pool.yaml"))
    patch = {"spec": {"capacitySpec": {"bufferMin": 0, "bufferMax": 0, "poolMin": 0, "poolMax": 0}}}
    kubectl("patch", "pool", "task-example-pool", "--type=merge", "-p", json.dumps(patch))
    eventually(lambda: table(kubectl("get", "pools"))[0].get("AVAILABLE") == "0", timeout=60)
    kubectl("apply", "-f", str(EXAMPLES / "task-batch-sandbox.yaml"))
    reason = lambda: kubectl("get", "batchsandbox", "task-batch-sandbox", "-o",
                             "jsonpath={.status.conditions[?(@.type=='Progressing')].reason}")
    eventually(lambda: reason() == "PoolExhausted", timeout=5)
    assert_events(lambda: kubectl("describe", "batchsandbox", "task-batch-sandbox"), "PoolExhausted")
    kubectl("delete", "batchsandbox", "task-batch-sandbox", "--timeout=60s")
