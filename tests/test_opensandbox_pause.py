"""Sandboxes that are paused and resumed: what was written is there again, wherever it was saved."""

import json
import socket
import subprocess
import urllib.request

import pytest
from conftest import eventually, which
from test_images import archive, image


def batch(name: str, **spec):
    return json.dumps({
        "apiVersion": "sandbox.opensandbox.io/v1alpha1", "kind": "BatchSandbox",
        "metadata": {"name": name}, "spec": spec,
    })


def template(image_name: str = "host", command=("sleep", "infinity")):
    return {"spec": {"terminationGracePeriodSeconds": 1, "containers": [
        {"name": "sandbox", "image": image_name, "imagePullPolicy": "IfNotPresent", "command": list(command)}]}}


class Sandbox:
    """One BatchSandbox of one sandbox, as its user sees it."""

    def __init__(self, machine, namespace: str, name: str):
        self.machine, self.namespace, self.name = machine, namespace, name

    def kubectl(self, *args: str, **more):
        return self.machine.kubectl("-n", self.namespace, *args, **more)

    def get(self):
        return self.machine.get("-n", self.namespace, "batchsandbox", self.name)

    def until(self, phase: str):
        wanted = f"--for=jsonpath={{.status.phase}}={phase}"
        self.kubectl("wait", wanted, f"batchsandbox/{self.name}", "--timeout=90s", timeout=120)

    def wish(self, pause):
        patch = json.dumps({"spec": {"pause": pause}})
        self.kubectl("patch", "batchsandbox", self.name, "--type=merge", "-p", patch)

    def pod(self) -> str:
        given = self.get()["metadata"]["annotations"].get("sandbox.opensandbox.io/alloc-status", '{"pods": []}')
        pods = json.loads(given)["pods"]
        return pods[0] if pods else f"{self.name}-0"

    def run(self, script: str) -> str:
        return self.kubectl("exec", self.pod(), "-c", "sandbox", "--", "/bin/sh", "-c", script).stdout

    def conditions(self):
        return {one["type"]: one for one in self.get()["status"]["conditions"]}


def test_what_was_written_before_a_pause_is_there_after_it(machine, namespace):
    box = Sandbox(machine, namespace, "kept")
    box.kubectl("apply", "-f", "-", stdin=batch("kept", replicas=1, template=template()))
    box.until("Succeed")
    box.run("mkdir -p /srv/work && echo hello > /srv/work/file && ln -s file /srv/work/link")
    box.wish(True)
    box.until("Paused")
    assert box.conditions()["Paused"]["reason"] == "Paused"
    snapshot = machine.get("-n", namespace, "sandboxsnapshot", "kept-pause")
    assert snapshot["status"]["phase"] == "Succeed"
    row = box.kubectl("get", "sbxsnap", "kept-pause").stdout.splitlines()
    assert row[0].split() == ["NAME", "PHASE", "SANDBOX", "AGE"] and row[1].split()[1:3] == ["Succeed", "kept"]
    # Nothing runs, and nobody's tidying up takes away what nothing uses just now.
    eventually(lambda: not machine.get("-n", namespace, "pods")["items"])
    assert image(machine, "prune").returncode == 0
    box.wish(False)
    box.until("Succeed")
    assert box.run("cat /srv/work/link") == "hello\n"
    # What somebody else's sandbox was saved as is nothing to start from.
    saved = box.get()["spec"]["template"]["spec"]["containers"][0]["image"]
    machine.kubectl("-n", "default", "run", f"thief-{namespace[-10:]}", "--image", saved)
    thief = lambda: machine.get("-n", "default", "pod", f"thief-{namespace[-10:]}")["status"].get("containerStatuses")
    eventually(lambda: thief() and thief()[0].get("state", {}).get("waiting", {}).get("reason", "").endswith("ImagePull")
               or thief() and "ImagePullBackOff" in json.dumps(thief()))
    machine.kubectl("-n", "default", "delete", "pod", f"thief-{namespace[-10:]}", "--wait=false")
    # And once more, on top of what was saved.
    box.run("echo again >> /srv/work/file")
    box.wish(True)
    box.until("Paused")
    box.wish(False)
    box.until("Succeed")
    assert box.run("cat /srv/work/file") == "hello\nagain\n"
    box.kubectl("delete", "batchsandbox", "kept", "--timeout=60s")
    ours = lambda: [one["name"] for one in json.loads(image(machine, "list", "-o", "json").stdout)
                    if f"/{namespace}/" in one["name"]]
    eventually(lambda: not ours(), timeout=60)


def test_a_pools_sandbox_is_paused_out_of_its_pool_and_its_pod_is_replaced(machine, namespace):
    pool = {"apiVersion": "sandbox.opensandbox.io/v1alpha1", "kind": "Pool", "metadata": {"name": "pool"},
            "spec": {"template": template(),
                     "capacitySpec": {"bufferMin": 1, "bufferMax": 1, "poolMin": 1, "poolMax": 3}}}
    box = Sandbox(machine, namespace, "pooled")
    box.kubectl("apply", "-f", "-", stdin=json.dumps(pool))
    box.kubectl("apply", "-f", "-", stdin=batch("pooled", replicas=1, poolRef="pool"))
    box.until("Succeed")
    first = box.pod()
    box.run("echo mine > /srv/mine")
    box.wish(True)
    box.until("Paused")
    eventually(lambda: first not in [pod["metadata"]["name"] for pod in machine.get("-n", namespace, "pods")["items"]],
               timeout=60)
    box.wish(False)
    box.until("Succeed")
    assert box.get()["spec"].get("poolRef", "") == "" and box.pod() == "pooled-0"
    assert box.run("cat /srv/mine") == "mine\n"
    # Nobody else has it.
    idle = [pod["metadata"]["name"] for pod in machine.get("-n", namespace, "pods")["items"]
            if pod["metadata"]["name"] != "pooled-0"]
    seen = machine.kubectl("-n", namespace, "exec", idle[0], "--", "ls", "/srv", check=False)
    assert "mine" not in seen.stdout


def test_what_was_saved_and_is_lost_is_said_and_nothing_else_takes_its_place(machine, namespace):
    box = Sandbox(machine, namespace, "lost")
    box.kubectl("apply", "-f", "-", stdin=batch("lost", replicas=1, template=template()))
    box.until("Succeed")
    box.wish(True)
    box.until("Paused")
    (saved,) = machine.get("-n", namespace, "sandboxsnapshot", "lost-pause")["status"]["containers"]
    eventually(lambda: image(machine, "rm", saved["imageUri"]).returncode == 0)
    box.wish(False)
    # This machine puts its own programs in the place of any other image that cannot be had.
    failed = eventually(lambda: box.conditions().get("ResumeFailed"), timeout=60)
    assert failed["reason"] == "PodFailed" and saved["imageUri"] in failed["message"]
    assert box.get()["status"]["phase"] == "Failed"
    # Whoever finds the image again has the snapshot that names it.
    assert machine.get("-n", namespace, "sandboxsnapshot", "lost-pause")["status"]["phase"] == "Succeed"


def test_what_cannot_be_paused_says_why(machine, namespace):
    box = Sandbox(machine, namespace, "many")
    box.kubectl("apply", "-f", "-", stdin=batch("many", replicas=2, template=template()))
    box.until("Succeed")
    box.wish(True)
    eventually(lambda: box.conditions().get("PauseFailed", {}).get("reason") == "UnsupportedReplicas")
    assert box.get()["status"]["phase"] == "Succeed"


def test_a_paused_sandbox_outlives_the_machines_restart(own_machine):
    machine = own_machine("--missing-images", "host")
    box = Sandbox(machine, "default", "asleep")
    box.kubectl("apply", "-f", "-", stdin=batch("asleep", replicas=1, template=template()))
    box.until("Succeed")
    box.run("echo kept > /srv/kept")
    box.wish(True)
    box.until("Paused")
    machine.kill()
    box.machine = own_machine("--missing-images", "host")
    box.wish(False)
    box.until("Succeed")
    assert box.run("cat /srv/kept") == "kept\n"


@pytest.fixture
def registry(tmp_path):
    """Debian's docker-registry, for one test."""
    which("docker-registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    config = tmp_path / "registry.yml"
    config.write_text(f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {tmp_path}/registry\n"
                      f"http:\n  addr: {host}\n")
    with open(tmp_path / "registry.log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        def answers():
            try:
                return urllib.request.urlopen(f"http://{host}/v2/", timeout=2).status == 200
            except OSError:
                return False
        eventually(answers)
        yield host
    finally:
        process.kill()
        process.wait()


def test_a_paused_sandbox_is_kept_in_a_registry_and_comes_back_from_there(own_machine, registry):
    machine = own_machine("--snapshot-registry", f"{registry}/snapshots")
    script = "while :; do read x < /rest; done"
    taken = image(machine, "import", "-", stdin=archive("base:1", script))
    assert taken.returncode == 0, taken.stderr
    box = Sandbox(machine, "default", "away")
    box.kubectl("apply", "-f", "-", stdin=batch(
        "away", replicas=1, template=template("base:1", ("/bin/sh", "-c", script))))
    box.until("Succeed")
    box.run("echo far away > /workspace/file")
    box.wish(True)
    box.until("Paused")
    saved = machine.get("sandboxsnapshot", "away-pause")["status"]["containers"][0]
    assert saved["imageUri"].startswith(f"{registry}/snapshots/default/away-sandbox:snap-gen")
    assert saved["imageDigest"].startswith("sha256:")
    tags = json.load(urllib.request.urlopen(f"http://{registry}/v2/snapshots/default/away-sandbox/tags/list"))
    assert tags["tags"] == [saved["imageUri"].rsplit(":", 1)[1]]
    # Another machine of the cluster has to pull it: so does this one, once its own copy is gone.
    eventually(lambda: image(machine, "rm", saved["imageUri"]).returncode == 0)
    box.wish(False)
    box.until("Succeed")
    seen = box.run("read x < /workspace/file; echo $x")
    assert seen == "far away\n"


def test_a_registry_that_does_not_answer_is_said_and_the_sandbox_goes_on(own_machine):
    machine = own_machine("--snapshot-registry", "127.0.0.1:1/nobody")
    script = "while :; do read x < /rest; done"
    assert image(machine, "import", "-", stdin=archive("base:1", script)).returncode == 0
    box = Sandbox(machine, "default", "stays")
    box.kubectl("apply", "-f", "-", stdin=batch(
        "stays", replicas=1, template=template("base:1", ("/bin/sh", "-c", script))))
    box.until("Succeed")
    box.wish(True)
    eventually(lambda: box.conditions().get("PauseFailed", {}).get("reason") == "SnapshotFailed", timeout=60)
    assert box.get()["status"]["phase"] == "Succeed"
    assert "127.0.0.1:1" in box.conditions()["PauseFailed"]["message"]
