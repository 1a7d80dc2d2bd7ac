"""The ARL manual's walk, its own YAML through the real kubectl."""

from conftest import ROOT, eventually

EXAMPLES = ROOT / "examples/arl"


def test_the_manuals_walk_prints_hello_from_arl(machine, namespace):
    kubectl = lambda *args: machine.kubectl("-n", namespace, *args).stdout
    kubectl("apply", "-f", str(EXAMPLES / "warmpool.yaml"))
    kubectl("apply", "-f", str(EXAMPLES / "sandbox.yaml"))
    kubectl("wait", "--for=jsonpath={.status.phase}=Ready", "sandbox/my-workspace", "--timeout=60s")
    kubectl("apply", "-f", str(EXAMPLES / "task.yaml"))
    kubectl("wait", "--for=jsonpath={.status.state}=Succeeded", "task/hello-task", "--timeout=60s")
    read = lambda path: kubectl("get", "task", "hello-task", "-o", f"jsonpath={{.status.{path}}}")
    assert read("stdout") == "Hello from ARL!\nTask executed successfully\n"
    assert read("stderr") == ""
    assert read("exitCode") == "0"
    assert "Succeeded" in kubectl("describe", "task", "hello-task")
    pods = machine.get("-n", namespace, "pods", "-l", "arl.infra.io/warmpool=python-pool")["items"]
    states = sorted(pod["metadata"]["labels"]["arl.infra.io/pod-state"] for pod in pods)
    assert states.count("allocated") == 1
    eventually(lambda: machine.get("-n", namespace, "warmpool", "python-pool")["status"].get("ready") == 3)


def test_the_references_patterns_work_as_written(machine, namespace):
    kubectl = lambda *args: machine.kubectl("-n", namespace, *args).stdout
    kubectl("apply", "-f", str(EXAMPLES / "warmpool.yaml"))
    kubectl("apply", "-f", str(EXAMPLES / "pattern-reusable-sandbox.yaml"))
    kubectl("wait", "--for=jsonpath={.status.state}=Succeeded", "task/task-2", "--timeout=60s")
    assert kubectl("get", "task", "task-2", "-o", "jsonpath={.status.stdout}") == "initialized"
    kubectl("apply", "-f", str(EXAMPLES / "pattern-auto-cleanup.yaml"))
    kubectl("wait", "--for=jsonpath={.status.phase}=Ready", "sandbox/temp-workspace", "--timeout=60s")
