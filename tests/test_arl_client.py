"""ARL-Infra's own Python client, as its users installed it, against `sandlot up`."""

import importlib.metadata
import os
import subprocess
import sys

import pytest

WALK = """
from arl import SandboxSession, WarmPoolManager

pools = WarmPoolManager(namespace="arl-client", timeout=120)
pools.create_warmpool("published", image="host", sidecar_image="registry.example/sidecar:1", replicas=1)
pools.wait_for_warmpool_ready("published")

heard = []
session = SandboxSession("published", namespace="arl-client", keep_alive=True, timeout=120)
session.register_callback("on_task_success", lambda task: heard.append("success"))
session.register_callback("on_task_failure", lambda task: heard.append("failure"))
with session:
    task = session.execute([
        {"name": "write", "type": "FilePatch", "path": "/workspace/after.sh", "content": "echo after"},
        {"name": "run", "type": "Command", "command": ["echo", "Hello from ARL!"]},
    ], trace_id="trace-1")
    print(task["status"]["stdout"], end="")
    # A second task in the same sandbox, and one that follows on success.
    both = session.execute_with_callback(
        [{"name": "run", "type": "Command", "command": ["true"]}], callback_script="/workspace/after.sh")
    print(both["callback_result"]["status"]["stdout"], end="")
    failed = session.execute([{"name": "run", "type": "Command", "command": ["sh", "-c", "exit 3"]}])
    print(failed["status"]["state"], failed["status"]["exitCode"])
session.delete_sandbox()
pools.delete_warmpool("published")
print(heard)
"""


def test_the_published_client_works_unchanged(machine, tmp_path):
    try:
        importlib.metadata.version("arl-env")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("arl-env is not installed; tests/requirements.txt names it")
    machine.kubectl("create", "namespace", "arl-client")
    # In a folder of its own: our tests have a module of the same name.
    done = subprocess.run(
        [sys.executable, "-c", WALK], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "KUBECONFIG": str(machine.kubeconfig)},
    )
    assert done.returncode == 0, done.stderr
    said = "Hello from ARL!\nafter\nFailed 3\n['success', 'success', 'success', 'failure']\n"
    assert done.stdout == said
    machine.kubectl("delete", "namespace", "arl-client", "--wait=false")
